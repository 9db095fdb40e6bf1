"""What the research tables hold, from resources written by hand."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from deid.policy import LIMITED_DATA_SET
from deid.rules import load_rules
from tests.deid.resources import (
    Deidentify,
    condition,
    encounter,
    observation,
    outcome,
    patient,
    rows,
)

DAY = 86_400
STAY = encounter("e1", "2020-03-01T10:00:00-05:00", "2020-03-04T12:00:00-05:00")


def test_times_are_seconds_from_the_first_record_on_the_facilitys_clock(run: Deidentify) -> None:
    # Daylight saving began on 2020-03-08: the offset changes, the wall clock does not jump.
    later = observation("o1", "2020-03-15T10:00:00-04:00", issued="2020-03-15T11:30:00-04:00")
    done = run([patient(), STAY, later])
    [row] = rows(done, "observation")
    assert (row["time"], row["known_at"]) == (14 * DAY, 14 * DAY + 5400)


def test_a_date_without_time_is_midnight_and_known_at_the_next(run: Deidentify) -> None:
    done = run([patient(), STAY, condition("c1", recordedDate="2020-03-02")])
    [row] = rows(done, "condition")
    assert (row["time"], row["known_at"]) == (14 * 3600, 14 * 3600 + DAY)


@pytest.mark.parametrize("written", ["2020-03", "2020"])
def test_the_end_of_a_month_or_year_is_no_time_at_which_something_was_known(
    run: Deidentify, written: str
) -> None:
    # It would tell how far the zero is from a first of the month, or from new year's day.
    partial = {"onsetDateTime": written, "recordedDate": written}
    by_stay = condition("c2", encounter={"reference": "Encounter/e1"}, **partial)
    done = run([patient(), STAY, condition("c1", **partial), by_stay])
    [row] = rows(done, "condition")
    assert (row["time"], row["known_at"]) == (None, 3 * DAY + 2 * 3600)
    assert outcome(done, "condition") == {"kept": 1, "no plausible time": 1}


def test_a_limited_data_set_knows_partial_dates_when_they_are_over(run: Deidentify) -> None:
    rules = load_rules(policy=LIMITED_DATA_SET)
    done = run([patient(), STAY, condition("c1", recordedDate="2020-03")], rules=rules)
    [row] = rows(done, "condition")
    assert row["known_at"] == int((datetime(2020, 4, 1) - datetime(1970, 1, 1)).total_seconds())


def test_what_somebody_remembers_of_a_first_of_january_has_no_day(run: Deidentify) -> None:
    # Problem lists have 1 January for bare years: several, years apart, would date the zero.
    told = condition("c1", onsetDateTime="2015-01-01", recordedDate="2020-03-02T10:00:00")
    done = run([patient(), STAY, told])
    assert [row["time"] for row in rows(done, "condition")] == [DAY]


def test_a_condition_without_dates_is_known_at_the_end_of_its_encounter(run: Deidentify) -> None:
    by_stay = condition("c1", encounter={"reference": "Encounter/e1"})
    done = run([patient(), STAY, by_stay, condition("c2")])
    [row] = rows(done, "condition")
    assert row["known_at"] == 3 * DAY + 2 * 3600
    assert outcome(done, "condition") == {"kept": 1, "no plausible time": 1}


@pytest.mark.parametrize(
    ("value", "unit", "written"),
    [
        (1.2, "mg/dL", 1.2),
        (106.08, "umol/L", 1.2),
        (1.2, "furlong", None),
        (1.2, None, None),
        (99999, "mg/dL", None),
    ],
)
def test_numbers_come_in_one_unit_and_within_range(
    run: Deidentify, value: float, unit: str | None, written: float | None
) -> None:
    quantity = {"value": value} | ({"code": unit} if unit else {})
    done = run([patient(), STAY, observation("o1", "2020-03-02T08:00:00", valueQuantity=quantity)])
    [row] = rows(done, "observation")
    assert row["value"] == (pytest.approx(written, abs=1e-4) if written else None)


def test_the_newest_version_counts_even_when_it_withdraws_the_older(run: Deidentify) -> None:
    old = observation("o1", "2020-03-02T08:00:00", meta={"lastUpdated": "2020-03-02T09:00:00Z"})
    withdrawn = old | {
        "status": "entered-in-error",
        "meta": {"lastUpdated": "2020-03-02T10:00:00+05:00"},
    }
    newest = old | {
        "meta": {"lastUpdated": "2020-03-02T10:00:00Z"},
        "valueQuantity": {"value": 2.0, "code": "mg/dL"},
    }
    done = run([patient(), STAY, newest, old, withdrawn])
    assert [row["value"] for row in rows(done, "observation")] == [2.0]
    assert outcome(done, "observation") == {"kept": 1, "duplicate or superseded version": 2}
    newest["status"] = "entered-in-error"
    done = run([patient(), STAY, newest, old, withdrawn], name="withdrawn")
    assert outcome(done, "observation") == {
        "kept": 0,
        "entered-in-error": 1,
        "duplicate or superseded version": 2,
    }


def test_what_lies_after_the_observed_window_is_cut_and_counted(run: Deidentify) -> None:
    # Exported on 2024-07-03: whole until 07-02, so 1.5 years and a day after the end of 2022.
    anchored = encounter("a1", "2022-11-01T00:00:00", "2022-11-02T00:00:00")
    inside = observation("o1", "2024-05-01T00:00:00")
    outside = observation("o2", "2024-05-02T00:00:01")
    done = run([patient(), anchored, inside, outside])
    until = int((datetime(2024, 7, 2) - datetime(2023, 1, 1)).total_seconds())
    assert rows(done, "patient")[0]["observed_until"] == until
    assert outcome(done, "observation") == {"kept": 1, "after the observed window": 1}


def test_patients_of_the_exports_own_year_wait(run: Deidentify) -> None:
    fresh = encounter("e9", "2024-02-01T00:00:00", "2024-02-02T00:00:00", who="p2")
    done = run([patient(), STAY, patient("p2"), fresh])
    assert outcome(done, "patient") == {"kept": 1, "anchored in the year of the export": 1}
    assert outcome(done, "admission") == {"kept": 1, "anchored in the year of the export": 1}


def test_at_ninety_a_second_timeline_begins_with_its_own_zero(run: Deidentify) -> None:
    old = patient(birthDate="1930-03-03")
    before = encounter("e0", "2019-01-02T10:00:00", "2019-01-03T00:00:00")
    after = encounter("e2", "2021-01-01T00:00:00", "2021-01-02T00:00:00")
    done = run([old, before, STAY, after])
    admissions = rows(done, "admission")
    assert len({row["patient"] for row in admissions}) == 2
    by_timeline = {row["patient"]: row for row in rows(done, "patient")}
    spans = sorted(
        (by_timeline[row["patient"]]["anchor_year"], row["age"], row["time"]) for row in admissions
    )
    # STAY began two days before the birthday; its discharge falls after it, so it is dropped,
    # and the second timeline's zero is that discharge.
    zero_to_2021 = int((datetime(2021, 1, 1) - datetime(2020, 3, 4, 12)).total_seconds())
    assert spans == [(2019, 88, 0), (2019, 89, 424 * DAY), (2020, 90, zero_to_2021)]
    assert outcome(done, "discharge") == {
        "kept": 2,
        "encounter spans a birthday from the 90th on": 1,
    }


def test_no_timeline_from_ninety_on_is_longer_than_a_year(run: Deidentify) -> None:
    # Offsets of five years after the age of 90 would tell of somebody who is 95 at least.
    years = range(2012, 2020)
    stays = [
        encounter(f"e{year}{month}", f"{year}-{month:02}-05T10:00:00", f"{year}-{month:02}-06")
        for year in years
        for month in (2, 9)
    ]
    done = run([patient(birthDate="1922-06-15"), *stays])
    told: dict[int, list[int]] = {}
    for row in rows(done, "admission"):
        if row["age"] == 90:
            told.setdefault(row["patient"], []).append(row["time"])
    assert len(told) == len(years)
    assert all(0 <= time < 366 * DAY for times in told.values() for time in times)


def test_what_is_known_after_the_ninetieth_birthday_is_not_told_before_it(run: Deidentify) -> None:
    late = observation("o1", "2020-03-02T08:00:00", issued="2022-03-02T08:00:00")
    done = run([patient(birthDate="1930-06-15"), STAY, late])
    assert outcome(done, "observation") == {"kept": 0, "known after its timeline": 1}


def test_codes_are_dotted_shared_or_rare(run: Deidentify) -> None:
    stays = [
        encounter(f"e{n}", "2020-03-01T10:00:00", "2020-03-02T10:00:00", who=f"p{n}")
        for n in range(1, 12)
    ]
    shared = [condition(f"s{n}", "J449", f"p{n}", recordedDate="2020-03-01") for n in range(1, 12)]
    lonely = condition("r", "J45.1", "p1", recordedDate="2020-03-01")
    declared = condition("d", "I5022", "p1", recordedDate="2020-03-01")
    done = run([*(patient(f"p{n}") for n in range(1, 12)), *stays, *shared, lonely, declared])
    codes = [row["code"] for row in rows(done, "condition")]
    assert sorted(set(codes)) == ["RARE", "icd10cm:I50.22", "icd10cm:J44.9"]


@pytest.mark.parametrize(
    ("shared", "told"),
    [
        ("GLU-7", True),
        ("220045", True),
        ("20251", True),
        ("clinic-2019-10-01", False),
        ("20191001", False),
        ("1.10.2019", False),
        ("3-OCT-2019", False),
        ("617-555-0123", False),
        ("078-05-1120", False),
        ("02139-4307", False),
        ("10.20.30.41", False),
    ],
)
def test_a_sites_own_code_is_rare_where_it_is_written_like_something_else(
    run: Deidentify, shared: str, told: bool
) -> None:
    made = []
    for n in range(1, 12):
        own = condition(f"c{n}", shared, f"p{n}", recordedDate="2020-03-01T12:00:00")
        own["code"]["coding"][0]["system"] = "urn:of-this-site"
        stay = encounter(f"e{n}", "2020-03-01T10:00:00", "2020-03-02T10:00:00", who=f"p{n}")
        made += [patient(f"p{n}"), stay, own]
    codes = {row["code"] for row in rows(run(made), "condition")}
    assert codes == ({f"local:{shared}"} if told else {"RARE"})


def test_a_line_that_breaks_the_types_is_quarantined_and_the_rest_goes_through(
    run: Deidentify,
) -> None:
    broken = observation("bad", "2020-03-02T08:00:00", valueQuantity={"value": "<5", "code": "x"})
    good = [observation(f"o{n}", "2020-03-02T08:00:00") for n in range(40)]
    done = run([patient(), STAY, *good[:20], broken, *good[20:]])
    assert outcome(done, "observation") == {"kept": 40, "breaks the view's types": 1}


def test_references_may_be_absolute_or_versioned_and_strangers_are_counted(run: Deidentify) -> None:
    absolute = observation("o1", "2020-03-02T08:00:00")
    absolute["subject"] = {"reference": "https://ehr.example.org/fhir/Patient/p1/_history/3"}
    stranger = observation("o2", "2020-03-02T08:00:00", who="nobody")
    done = run([patient(), STAY, absolute, stranger])
    assert outcome(done, "observation") == {"kept": 1, "unknown patient": 1}


def test_an_increment_moves_no_surrogate_and_no_zero(run: Deidentify) -> None:
    first = run([patient(), STAY], exported="2023-07-03T00:00:00")
    earlier = observation("o1", "2019-12-31T10:00:00")
    second = run([patient(), STAY, earlier, patient("p2")], name="two")
    assert {row["patient"] for row in rows(first, "patient")} == {
        row["patient"] for row in rows(second, "patient")
    }
    assert rows(first, "discharge") == rows(second, "discharge")
    [row] = rows(second, "observation")
    assert row["time"] == -61 * DAY


def test_the_same_crosswalk_gives_the_same_bytes(run: Deidentify) -> None:
    first = run([patient(), STAY])
    again = run([patient(), STAY])
    assert not again.tables.sealed.fresh
    assert again.tables.sealed.digest == first.tables.sealed.digest


def test_a_corrected_birth_date_moves_the_split_and_leaves_no_overlap(run: Deidentify) -> None:
    before = encounter("e0", "2019-05-01T10:00:00", "2019-05-02T10:00:00")
    after = encounter("e2", "2021-05-01T10:00:00", "2021-05-02T10:00:00")
    undated = {key: value for key, value in patient().items() if key != "birthDate"}
    first = run([undated, before, after])
    assert len({row["patient"] for row in rows(first, "admission")}) == 1
    second = run([patient(birthDate="1930-03-03"), before, after], name="corrected")
    told = [(row["patient"], row["encounter"], row["age"]) for row in rows(second, "admission")]
    assert sorted(age for _, _, age in told) == [89, 90]
    assert len({surrogate for surrogate, _, _ in told}) == len({key for _, key, _ in told}) == 2
    assert {row["patient"] for row in rows(first, "patient")} < {
        surrogate for surrogate, _, _ in told
    }


def test_without_a_birth_date_there_is_no_age(run: Deidentify) -> None:
    undated = {key: value for key, value in patient().items() if key != "birthDate"}
    [row] = rows(run([undated, STAY]), "admission")
    assert row["age"] is None


def test_zero_is_no_sentinel_no_memory_and_no_bare_first_of_january(run: Deidentify) -> None:
    unlikely = [
        observation("o1", "1970-01-01T00:00:00Z"),
        observation("o2", "2018-01-01"),
        condition("c1", onsetDateTime="2001-07-01", recordedDate="2020-03-02"),
    ]
    done = run([patient(), STAY, *unlikely])
    assert [row["anchor_year"] for row in rows(done, "patient")] == [2020]
    assert rows(done, "admission")[0]["time"] == 0
    # A record that precedes the zero and did not set it would lie on a first of January.
    told = {"kept": 0, "bare year before the zero": 1, "no plausible time": 1}
    assert outcome(done, "observation") == told


def test_of_versions_of_the_same_instant_one_is_taken_and_a_withdrawal_wins(
    run: Deidentify,
) -> None:
    one = observation("o1", "2020-03-02T08:00:00")
    other = observation("o1", "2020-03-02T08:00:00", valueQuantity={"value": 9, "code": "mg/dL"})
    done = run([patient(), STAY, one, other])
    again = run([patient(), STAY, other, one], name="reversed")
    assert len(rows(done, "observation")) == 1
    assert rows(done, "observation") == rows(again, "observation")
    done = run([patient(), STAY, one, other, one | {"status": "entered-in-error"}], name="error")
    assert rows(done, "observation") == []


def test_a_code_without_its_systems_form_is_rare_though_a_prefix_declares_it(
    run: Deidentify,
) -> None:
    told = condition("c1", "I50.9 HAMANOVA 413-555-0147", recordedDate="2020-03-02")
    [row] = rows(run([patient(), STAY, told]), "condition")
    assert row["code"] == "RARE"


def test_codes_of_strangers_do_not_count_as_shared(run: Deidentify) -> None:
    strangers = [condition(f"c{n}", "J44.9", f"g{n}", recordedDate="2020-03-02") for n in range(11)]
    own = condition("own", "J44.9", recordedDate="2020-03-02")
    [row] = rows(run([patient(), STAY, own, *strangers]), "condition")
    assert row["code"] == "RARE"


def test_a_discharge_on_a_bare_date_tells_its_diagnoses_at_the_next_midnight(
    run: Deidentify,
) -> None:
    stay = encounter("e1", "2020-03-01T10:00:00", "2020-03-04")
    told = condition("c1", onsetDateTime="2020-03-01", encounter={"reference": "Encounter/e1"})
    done = run([patient(), stay, told])
    assert rows(done, "condition")[0]["known_at"] == rows(done, "discharge")[0]["known_at"]


def test_one_mistyped_year_does_not_move_the_time_of_export(run: Deidentify) -> None:
    crowd = [patient(f"p{n}") for n in range(12)]
    stays = [
        encounter(f"e{n}", "2020-03-01T10:00:00", "2020-03-02T10:00:00", who=f"p{n}")
        for n in range(12)
    ]
    typo = observation("o1", "2099-01-02T08:00:00", who="p3")
    later = [observation(f"l{n}", "2023-06-02T08:00:00", who=f"p{n}") for n in range(11)]
    done = run([*crowd, *stays, typo, *later], exported=None)
    until = {row["observed_until"] for row in rows(done, "patient")}
    assert until == {int((datetime(2023, 6, 1) - datetime(2021, 1, 1)).total_seconds())}


def test_what_a_killed_run_left_staged_is_in_nobodys_way(run: Deidentify, tmp_path: Path) -> None:
    spill = tmp_path / "work" / "phi" / "spill"
    spill.mkdir(parents=True)
    with duckdb.connect(spill / "staged.duckdb") as left:
        left.execute("CREATE TABLE rows AS SELECT 1 AS patient")
    done = run([patient(), STAY])
    assert len(rows(done, "admission")) == 1
    assert not (spill / "staged.duckdb").exists()
