"""Recall on planted identifiers: nothing is found after the rules, all of it without them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom

from deid import deidentify as deidentification
from deid.proofs.proof import Evidence
from deid.proofs.recall import CONFIDENCE, Recall, lower_bound, recall, verdict
from deid.rules import Rules, load_rules, research_view
from deid.sql_on_fhir.view import parse_view
from exports.landing.zone import land_folder
from exports.progress import Progress, silent
from exports.sandbox.catalog import names
from exports.sandbox.population import Hospital, write_export

HOSPITAL = Hospital(seed=7, patients=20)
Row = tuple[str, str, str, str]
"""patient_id, class, location, value"""
NAME: Row = ("p1", "A", "Patient.name[0].family", "Hamanová")
RECORD: Row = ("p1", "H", "Patient.identifier[0].value", "00812345")
BORN: Row = ("p1", "C", "Patient.birthDate", "1950-06-15")


@pytest.fixture
def unproven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Evidence]:
    """De-identify a sandbox up to the proofs: what they would look at."""
    source, truth = tmp_path / "source", tmp_path / "truth"
    write_export(HOSPITAL, source, truth, rows_per_file=5000)

    def made(rules: Rules | None = None) -> Evidence:
        seen: list[Evidence] = []

        def keep(evidence: Evidence, *, progress: Progress = silent) -> list[dict[str, Any]]:
            seen.append(evidence)
            raise _Enough

        monkeypatch.setattr(deidentification, "prove", keep)
        landing = land_folder(source, tmp_path / "phi", transaction_time=HOSPITAL.as_of)
        with pytest.raises(_Enough):
            deidentification.deidentify(landing, tmp_path, declared=(), rules=rules, truth=truth)
        return seen[0]

    return made


class _Enough(Exception):  # noqa: N818 - not an error
    """The tables are written; nothing is to be released."""


def test_all_that_a_sandbox_plants_is_kept_out(unproven: Callable[..., Evidence]) -> None:
    evidence = unproven()
    assert verdict(replace(evidence, truth=None)) is None
    looked = verdict(evidence)
    assert looked is not None
    assert looked.passed
    detail = looked.detail
    assert detail["by_class"].keys() == set("ABCDEFGHIJKLMNOPQR")
    assert len(detail["by_location"]) > 50
    assert not any("[" in location for location in detail["by_location"])
    for groups in (detail["by_class"], detail["by_location"]):
        assert sum(group["planted"] for group in groups.values()) == detail["planted"]
        assert all(group["found"] == 0 for group in groups.values())
        assert all(0 < group["at_least"] < group["recall"] == 1 for group in groups.values())
    assert detail["negative_controls_found"] == detail["negative_controls_planted"] == 19
    assert looked.values == ()


def test_a_rule_that_lets_names_through_is_caught_by_class_and_location(
    unproven: Callable[..., Evidence],
) -> None:
    source = load_rules().view("patient").view.source
    named = {
        "name": "nickname",
        "path": "name.family.first()",
        "tag": [{"name": "fhirloom/domain", "value": "enum: nickname"}],
    }
    leaky = {**source, "select": [*source["select"], {"column": [named]}]}
    rules = load_rules()
    enums = {**rules.enums, "nickname": {name: f"the {name.upper()}" for name in names()["family"]}}
    others = tuple(view for view in rules.views if view.name != "patient")
    broken = replace(rules, enums=enums, views=(*others, research_view(parse_view(leaky), enums)))
    looked = verdict(unproven(broken))
    assert looked is not None
    assert not looked.passed
    assert "patient.nickname" in looked.failure
    detail = looked.detail
    told = detail["by_location"]["Patient.name.family"]
    assert told["found"] > HOSPITAL.patients / 2
    assert told["at_least"] <= told["recall"] < 0.5
    assert detail["by_class"]["A"]["found"] > 0
    assert detail["by_class"]["G"]["found"] == 0
    shown = f"{looked.failure} {looked.detail}"
    assert looked.values
    assert not any(value.split(" ", 1)[1] in shown for value in looked.values)


@pytest.fixture
def counted(tmp_path: Path) -> Callable[..., Recall]:
    """What is found of planted rows in a table of one patient (surrogate 7) and another (8)."""

    def look(planted: list[Row], columns: dict[str, Any], surrogate: int = 7) -> Recall:
        folder = tmp_path / "tables" / "visit"
        folder.mkdir(parents=True, exist_ok=True)
        length = len(next(iter(columns.values())))
        table = pa.table({"patient": pa.array([surrogate] * length), **columns})
        pq.write_table(table, folder / "bucket-000.parquet")
        names = ("patient_id", "class", "location", "value")
        truth = pa.table(dict(zip(names, map(list, zip(*planted, strict=True)), strict=True)))
        patients = pa.table({"patient_id": ["p1", "p2"], "surrogate": pa.array([7, 8])})
        return recall(truth, tmp_path / "tables", patients, frozenset({"icd10cm:Z99"}))

    return look


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (NAME, "ask HAMANOVÁ first"),
        (("p1", "A", "x", "Åsa Hamanová"), "Hamanová, Åsa"),
        (("p1", "D", "x", "(413) 555-0147"), "413.555.0147"),
        (RECORD, "no. 812345"),
        (BORN, "June 15, 1950"),
        (("p1", "C", "x", "2020-03-01T10:00:00-05:00"), "2020-03-01"),
        (("p1", "L", "x", "3FAAB1239XY482213"), "3faab1239xy482213"),
    ],
)
def test_identifiers_are_found_in_other_words(
    counted: Callable[..., Recall], row: Row, said: str
) -> None:
    looked = counted([row, ("p2", "R", "x", "something-else")], {"ward": [said]})
    assert looked.found == {(row[1], row[3]): {"visit.ward"}}
    assert not looked.passed
    assert looked.facts()["found"] == 1


def test_numbers_are_found_in_the_rows_of_their_patient_alone(
    counted: Callable[..., Recall],
) -> None:
    assert counted([NAME, RECORD], {"value": [1.5, 812345.0]}).found == {
        ("H", "00812345"): {"visit.value"}
    }
    assert counted([NAME, RECORD], {"value": [-812345]}).found
    assert counted([NAME, RECORD], {"value": [812345]}, surrogate=8).passed
    # A date's digits are as long as many a lapse of time.
    assert counted([NAME, RECORD, BORN], {"value": [19500615]}).passed


def test_what_is_planted_twice_in_a_place_counts_once_and_what_is_short_not_at_all(
    counted: Callable[..., Recall],
) -> None:
    again: Row = ("p1", "A", "Patient.name[1].family", "Hamanová")
    short: Row = ("p1", "A", "Patient.name[0].given[0]", "Mei")
    facts = counted([NAME, again, short, RECORD], {"ward": ["mei east"]}).facts()
    assert (facts["planted"], facts["too_short_to_look_for"], facts["found"]) == (2, 1, 0)
    assert facts["by_location"].keys() == {"Patient.name.family", "Patient.identifier.value"}


def test_nothing_to_look_for_proves_nothing(counted: Callable[..., Recall]) -> None:
    assert not counted([("p1", "A", "x", "Mei")], {"ward": ["east"]}).passed


@given(st.integers(1, 100_000), st.integers(0, 5))
def test_the_bound_is_clopper_and_pearsons(of: int, lost: int) -> None:
    kept = max(of - lost, 0)
    low = lower_bound(kept, of)
    assert low <= kept / of
    if kept:
        assert low == pytest.approx(beta.ppf(1 - CONFIDENCE, kept, of - kept + 1))
        # Were the share no more than that, as many would be kept once in twenty times.
        assert binom.sf(kept - 1, of, low) == pytest.approx(1 - CONFIDENCE, rel=1e-3)
