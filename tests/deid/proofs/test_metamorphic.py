"""The metamorphic proof: holds for any rewriting; catches rules that depend on what they read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import deid.engine
import deid.identity.crosswalk
from deid.proofs.metamorphic import canonical, compare
from deid.proofs.rewriting import Rewriting
from deid.proofs.shifts import shift
from deid.rules import Rules, load_rules
from deid.vocabulary import Vocabulary
from exports.landing.zone import LandingZone, land_folder
from tests.deid.resources import Resource, condition, encounter, observation, patient, write_ndjson

VOCABULARY = Vocabulary(Path(), frozenset({"loinc:2160-0", "icd10cm:I50.9"}))
EXPORTED = datetime(2024, 7, 3)


def people(count: int = 12) -> list[Resource]:
    made: list[Resource] = []
    for number in range(count):
        who = f"p{number}"
        made += [
            patient(who, name=[{"family": "Doe"}], gender="female"),
            encounter(f"e{number}", "2020-03-01T10:00:00-05:00", "2020-03-04T12:00:00-05:00", who),
            observation(f"o{number}", "2020-03-02T08:00:00-05:00", who),
            condition(f"c{number}", who=who, recordedDate="2020-07-01T00:00:00-04:00"),
        ]
    return made


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> LandingZone:
    folder = tmp_path_factory.mktemp("metamorphic")
    source = write_ndjson(folder / "source", people())
    return land_folder(source, folder / "phi", transaction_time=EXPORTED)


@pytest.fixture(scope="module")
def few() -> Rules:
    return load_rules().only(["observation", "condition"])


def test_the_output_depends_on_nothing_that_must_not_matter(
    landing: LandingZone, few: Rules
) -> None:
    compared = compare(landing, few, VOCABULARY, EXPORTED)
    assert compared.holds, (compared.facts(), compared.values)
    assert compared.shifted == 9
    assert set(compared.planted) == {"resource", "value", "unit", "code", "moment"}
    assert compared.facts() == compare(landing, few, VOCABULARY, EXPORTED).facts()


def test_a_closed_list_that_has_a_name_is_caught(landing: LandingZone, few: Rules) -> None:
    sexes = {**few.enums["sex"], "Doe": "female"}
    patients = few.view("patient")
    told = tuple(
        replace(column, path="name.family.first()") if column.name == "sex" else column
        for column in patients.view.select.selects[0].columns
    )
    select = replace(
        patients.view.select, selects=(replace(patients.view.select.selects[0], columns=told),)
    )
    view = replace(patients, view=replace(patients.view, select=select))
    views = tuple(view if one.name == "patient" else one for one in few.views)
    broken = replace(few, views=views, enums={**few.enums, "sex": sexes})
    compared = compare(landing, broken, VOCABULARY, EXPORTED)
    assert not compared.holds
    assert compared.differing["rewritten"] == compared.patients


def test_an_offset_that_knows_the_zone_is_caught(
    landing: LandingZone, few: Rules, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_utc = deid.engine.MACROS.replace(
        "ELSE TRY_CAST(left(written, 19) AS TIMESTAMP)",
        "ELSE TRY_CAST(written AS TIMESTAMPTZ) AT TIME ZONE 'UTC'",
    )
    assert in_utc != deid.engine.MACROS
    monkeypatch.setattr(deid.engine, "MACROS", in_utc)
    compared = compare(landing, few, VOCABULARY, EXPORTED)
    assert not compared.holds
    assert compared.differing["rewritten"]


def test_surrogates_that_are_made_and_not_drawn_are_caught(
    landing: LandingZone, few: Rules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        deid.identity.crosswalk,
        "draw_surrogates",
        lambda count, *_: np.arange(1, count + 1, dtype=np.int64) * 7919,
    )
    compared = compare(landing, few, VOCABULARY, EXPORTED)
    assert compared.again
    assert not compared.holds


def test_a_code_that_is_an_id_is_caught(tmp_path: Path, few: Rules) -> None:
    conditions = few.view("condition").view
    source = {"identifier": [{"system": "http://loinc.org", "value": "2160-0"}]}
    given_people = [
        {**one, **source} if one["resourceType"] == "Condition" else one for one in people()
    ]
    landing = land_folder(
        write_ndjson(tmp_path / "source", given_people), tmp_path / "phi", transaction_time=EXPORTED
    )
    assert conditions.name == "condition"
    each = conditions.select.selects[1]
    columns = tuple(
        replace(column, path={"system": "system", "code": "value"}.get(column.name, column.path))
        for column in each.columns
    )
    other = replace(each, for_each="identifier", columns=columns)
    selects = (conditions.select.selects[0], other, *conditions.select.selects[2:])
    view = replace(
        few.view("condition"),
        view=replace(conditions, select=replace(conditions.select, selects=selects)),
    )
    views = tuple(view if one.name == "condition" else one for one in few.views)
    compared = compare(landing, replace(few, views=views), VOCABULARY, EXPORTED)
    assert compared.differing["rewritten"]


def table(patients: Sequence[int], encounters: Sequence[int | None], codes: Sequence[str]) -> Any:
    return {
        "condition": pa.table({"patient": patients, "encounter": encounters, "code": codes}),
    }


def test_canonical_output_knows_no_surrogate_and_no_order() -> None:
    one = canonical(table([1, 1, 2], [10, 11, 12], ["a", "b", "c"]))
    other = canonical(table([9, 5, 5], [70, 72, 71], ["c", "b", "a"]))
    assert sorted(one.values()) == sorted(other.values())
    assert one[1] == other[5]
    assert one[2] == other[9]


@pytest.mark.parametrize(
    ("encounters", "codes"),
    [([10, 10], ["a", "b"]), ([10, None], ["a", "b"]), ([10, 11], ["a", "a"])],
)
def test_canonical_output_knows_which_rows_share_an_encounter(
    encounters: Sequence[int | None], codes: Sequence[str]
) -> None:
    assert canonical(table([1, 1], [10, 11], ["a", "b"])) != canonical(
        table([1, 1], encounters, codes)
    )


@settings(max_examples=60, deadline=None)
@given(seed=st.text(max_size=8), days=st.integers(-400, 400), key=st.uuids().map(str))
def test_a_rewriting_follows_ids_and_keeps_what_is_clinical(seed: str, days: int, key: str) -> None:
    rewriting = Rewriting(seed, frozenset())
    subject = {"reference": f"https://here.example/Patient/{key}/_history/2", "display": "Doe"}
    resource = observation("o1", "2020-03-02T08:00:00-05:00", subject=subject)
    new = rewriting.resource(resource, days)
    assert f"Patient/{rewriting.id(key)}" in new["subject"]["reference"]
    assert key not in str(new)
    assert new["id"] == rewriting.id("o1")
    assert new["subject"]["display"] != "Doe"
    for kept in ("code", "valueQuantity", "status"):
        assert new[kept] == resource[kept]
    moved = datetime.fromisoformat(new["effectiveDateTime"][:19]) - datetime(2020, 3, 2, 8)
    assert (moved.days, moved.seconds) == (days, 0)


@settings(max_examples=60, deadline=None)
@given(zero=st.datetimes(datetime(1990, 1, 2), datetime(2020, 12, 31)), born=st.dates().map(str))
def test_a_shift_keeps_the_year_and_is_the_same_every_time(zero: datetime, born: str) -> None:
    day = shift([zero.isoformat()], [born], [zero], EXPORTED, "seed")
    assert day == shift([zero.isoformat()], [born], [zero], EXPORTED, "seed")
    assert (zero + timedelta(day)).year == zero.year
