"""What is released leaves a whole year for each patient's zero, and what narrows it is caught."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import deid.engine
import deid.proofs.date_window
import deid.tables
from deid.engine import connect, fetch
from exports.errors import FhirloomError
from tests.deid.resources import Deidentify, Resource, condition, encounter, patient, rows

DECLARED = frozenset({"icd10cm:U07.1", "icd10cm:I50*"})
STAY = encounter("e1", "2020-03-01T10:00:00", "2020-03-04T12:00:00")
CALENDAR_YEARS = """
CREATE OR REPLACE TEMP MACRO whole_years(born, day) AS (
    year(day) - year(born)
    - CASE WHEN (month(day), dayofmonth(day)) < (month(born), dayofmonth(born)) THEN 1 ELSE 0 END
);
"""


def covid(key: str, recorded: str) -> Resource:
    return condition(key, "U07.1", recordedDate=recorded)


def codes(run: Deidentify, *resources: Resource) -> list[str]:
    done = run([patient(), *resources], declared=DECLARED)
    return [row["code"] for row in rows(done, "condition")]


def test_each_run_reports_the_window_and_finds_its_negative_controls(run: Deidentify) -> None:
    [proof] = [each for each in run([patient(), STAY]).proofs if each.name == "date window"]
    assert proof.passed
    assert proof.detail == {
        "patients": 1,
        "fewest_feasible_days": 366,  # 2020
        "patients_below_365_days": 0,
        "codes_mapped_onto_older_records": 0,
        "negative_controls_planted": 4,
        "negative_controls_found": 4,
    }


def test_a_code_is_rare_where_its_introduction_would_tell_the_date(run: Deidentify) -> None:
    early, late = "2020-04-20T10:00:00", "2020-06-01T10:00:00"
    # 50 days after a zero in 2020 can be before 1 April; 92 days after can't.
    assert codes(run, STAY, covid("c1", early), covid("c2", late)) == ["RARE", "icd10cm:U07.1"]


def test_a_code_that_was_mapped_onto_an_older_record_stays(run: Deidentify) -> None:
    first = encounter("e0", "2012-05-01T10:00:00", "2012-05-02T10:00:00")
    assert codes(run, first, condition("c1", recordedDate="2012-06-01")) == ["icd10cm:I50.9"]


def test_a_code_is_rare_where_its_end_would_tell_the_date(run: Deidentify) -> None:
    # ICD-9-CM was coded up to September 2015, and mapped or copied at any time.
    first = encounter("e0", "2014-11-20T10:00:00", "2014-11-21T10:00:00")
    told = [
        nine(f"c{day}", day) for day in ("2014-11-20T10:00:00", "2015-09-20T10:00:00", "2017-02-01")
    ]
    found = run([patient(), first, *told], declared=frozenset({"icd9cm:428.0"}))
    assert [row["code"] for row in rows(found, "condition")] == [
        "icd9cm:428.0",
        "RARE",
        "icd9cm:428.0",
    ]


def test_a_vaccine_dates_when_it_was_given_not_only_when_it_was_recorded(run: Deidentify) -> None:
    given = {
        "resourceType": "Immunization",
        "id": "i1",
        "status": "completed",
        "patient": {"reference": "Patient/p1"},
        "vaccineCode": {"coding": [{"system": "http://hl7.org/fhir/sid/cvx", "code": "207"}]},
        "occurrenceDateTime": "2020-12-20T10:00:00",
        "recorded": "2022-03-01T10:00:00",
    }
    done = run([patient(), STAY, given], declared=frozenset({"cvx:207"}))
    assert [row["code"] for row in rows(done, "immunization")] == ["RARE"]


def nine(key: str, recorded: str) -> Resource:
    made = condition(key, "428.0", recordedDate=recorded)
    made["code"]["coding"][0]["system"] = "http://hl7.org/fhir/sid/icd-9-cm"
    return made


def test_a_code_that_tells_the_date_releases_nothing(
    run: Deidentify, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deid.tables, "tells_the_date", lambda *_: "false")
    with pytest.raises(FhirloomError, match="narrows the dates of 1 patients"):
        codes(run, STAY, covid("c1", "2020-04-20T10:00:00"))


def test_ages_in_calendar_years_release_nothing(
    run: Deidentify, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The 69th birthday and the day before the 70th: 365 days, so 2020 had a leap day between.
    stays = [
        encounter("e1", "2019-06-15T10:00:00", "2019-06-16T10:00:00"),
        encounter("e2", "2020-06-14T10:00:00", "2020-06-16T10:00:00"),
    ]
    run([patient(), *stays])
    monkeypatch.setattr(deid.engine, "MACROS", deid.engine.MACROS + CALENDAR_YEARS)
    with pytest.raises(FhirloomError, match="narrows the dates of 1 patients"):
        run([patient(), *stays], name="two", exported="2024-07-04T00:00:00")


def test_rows_after_the_observed_window_release_nothing(
    run: Deidentify, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = deid.tables.windows

    def longer(exported: Any, policy: Any) -> Any:
        return right(exported + timedelta(days=400), policy)

    late = encounter("e2", "2024-06-01T10:00:00", "2024-06-02T10:00:00")
    monkeypatch.setattr(deid.tables, "windows", longer)
    with pytest.raises(FhirloomError, match="observed_until"):
        run([patient(), STAY, late])


@pytest.mark.parametrize(
    ("blinded", "value"),
    [("LEAST", 0), ("DATED_BY_AGE", "SELECT 0 AS patient FROM ({ages}) WHERE false")],
)
def test_a_proof_that_is_blind_to_its_controls_fails(
    run: Deidentify, monkeypatch: pytest.MonkeyPatch, blinded: str, value: object
) -> None:
    monkeypatch.setattr(deid.proofs.date_window, blinded, value)
    with pytest.raises(FhirloomError, match="date-window proof did not find its own"):
        run([patient(), STAY])


@settings(max_examples=200, deadline=None)
@given(st.dates(date(1905, 1, 1), date(2010, 1, 1)), st.integers(0, 40_000))
def test_an_age_is_never_late_and_at_most_a_day_early(born: date, days: int) -> None:
    day = born + timedelta(days=days)
    [told] = fetch(AGES, "SELECT whole_years($1::DATE, $2::DATE) AS age", born, day)["age"]
    assert told.as_py() in {calendar_age(born, day), calendar_age(born, day + timedelta(days=1))}


AGES = connect()


def calendar_age(born: date, day: date) -> int:
    return day.year - born.year - ((day.month, day.day) < (born.month, born.day))
