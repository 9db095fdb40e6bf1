"""The canary proof holds for the rules as they are, and catches each kind of domain when broken."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import deid.extract
import deid.tables
from deid.proofs.canary import Tried, canaries, sightings
from deid.proofs.examples import examples, filling
from deid.proofs.leaves import CANARY, DATE, NUMBER, Words, in_leaves
from deid.rules import DomainColumn, Rules, load_rules
from deid.vocabulary import Vocabulary
from exports.landing.zone import LandingZone, land_folder
from tests.deid.resources import condition, encounter, observation, patient, write_ndjson

VOCABULARY = Vocabulary(Path(), frozenset({"loinc:2160-0", "icd10cm:I50.9"}))


@pytest.fixture(scope="module")
def landing(tmp_path_factory: pytest.TempPathFactory) -> LandingZone:
    folder = tmp_path_factory.mktemp("canary")
    resources = [
        patient(name=[{"family": "Doe"}], strange={"of": ["this", "site"]}),
        encounter("e1", "2020-03-01T10:00:00", "2020-03-04T12:00:00"),
        observation("o1", "2020-03-02T08:00:00"),
        condition("c1", recordedDate="2020-03-02"),
    ]
    source = write_ndjson(folder / "source", resources)
    return land_folder(source, folder / "phi", transaction_time=datetime(2024, 7, 3))


@pytest.fixture(scope="module")
def few() -> Rules:
    """Views with a column of each kind, and not all views: a test is no run."""
    return load_rules().only(["observation"])


def test_no_canary_comes_out_and_each_column_of_words_shows_its_control(
    landing: LandingZone,
) -> None:
    tried = canaries(landing, load_rules(), VOCABULARY)
    assert tried.holds, tried.values
    facts = tried.facts()
    assert facts["canaries_found"] == 0 < facts["variants_quarantined"]
    assert facts["negative_controls_found"] == facts["negative_controls_planted"] > 50
    assert all(count > 100 for count in tried.leaves.values())
    assert tried.leaves.keys() >= {"Patient", "Observation", "Medication"}


def test_the_same_landing_zone_is_tried_the_same_way(landing: LandingZone, few: Rules) -> None:
    facts = [canaries(landing, few, VOCABULARY).facts() for _ in range(2)]
    assert facts[0] == facts[1]


@pytest.mark.parametrize(
    ("kind", "place"),
    [("enum", "patient.sex"), ("unit", "observation.unit"), ("number", "observation.value")],
)
def test_a_domain_that_lets_everything_in_is_found(
    landing: LandingZone, few: Rules, monkeypatch: pytest.MonkeyPatch, kind: str, place: str
) -> None:
    real = deid.extract.written_sql

    def open_to_all(column: DomainColumn, rules: Rules) -> str:
        return f'"{column.name}"' if column.kind == kind else real(column, rules)

    monkeypatch.setattr(deid.extract, "written_sql", open_to_all)
    tried = canaries(landing, few, VOCABULARY)
    assert not tried.holds
    assert place in tried.found


@pytest.mark.parametrize(
    ("kind", "told", "place"),
    [
        ("code", 'r."code" AS "code"', "observation.code"),
        ("age", "(year(p.birth) * 10000 + month(p.birth) * 100 + day(p.birth))", "admission.age"),
        ("offset", 'strftime(r."death", \'%Y-%m-%d\') AS "death"', "patient.death"),
        ("own encounter", "r.encounter_id AS encounter", "admission.encounter"),
    ],
)
def test_a_column_that_is_written_as_it_came_is_found(
    landing: LandingZone,
    few: Rules,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    told: str,
    place: str,
) -> None:
    real = deid.tables._column

    def leaking(column: DomainColumn, *more: Any) -> str:
        sql = real(column, *more)
        if column.kind != kind:
            return sql
        return told if " AS " in told else f'{told} AS "{column.name}"'

    monkeypatch.setattr(deid.tables, "_column", leaking)
    tried = canaries(landing, few, VOCABULARY)
    assert not tried.holds
    assert place in tried.found


def test_a_time_that_is_no_offset_is_found(
    landing: LandingZone, few: Rules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deid.tables, "_offset", lambda moment: f"epoch({moment})::BIGINT")
    assert "observation.time" in canaries(landing, few, VOCABULARY).found


def test_without_its_controls_the_proof_is_void() -> None:
    tried = Tried(variants=3, controls={"a.x": True, "a.y": False, "b.x": False})
    assert tried.views_without_control == ["b"]
    assert not tried.holds
    tried.controls["b.x"] = True
    assert tried.holds
    tried.found["a.x"] = {"qzcanary1"}
    assert not tried.holds


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (f"x{CANARY.upper()}12y", {"qzcanary12"}),
        ("(867) 530-9", {"8675309"}),
        (DATE, {"19510517"}),
        (NUMBER, {"8675309", "8675309421"}),
        (-587865600, {"-587865600"}),
        ("loinc:2160-0", set()),
        (7.25, set()),
        (float("nan"), set()),
        (float("inf"), set()),
        (None, set()),
    ],
)
def test_a_canary_is_seen_in_any_form(value: object, seen: set[str]) -> None:
    assert sightings(value) == seen


def test_the_examples_hold_each_alternative_of_a_choice() -> None:
    rules = load_rules()
    made = list(examples("Observation", rules, filling(rules, VOCABULARY)))
    keys = {key for example in made for key in example}
    assert keys >= {"valueQuantity", "valueString", "effectiveDateTime", "effectivePeriod"}
    assert not any({"valueQuantity", "valueString"} <= example.keys() for example in made)
    leaves = {variant.path for one in made for variant in in_leaves(one, set(), Words())}
    assert ".valueQuantity(http://unitsofmeasure.org).value" in leaves
