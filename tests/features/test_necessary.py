"""The minimum necessary: what the features don't read isn't asked for, and isn't missed."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from deid.deidentify import Deidentified, deidentify
from deid.rules import load_rules
from exports.landing.zone import land_folder
from exports.request import ExportRequest
from exports.sandbox.population import Hospital, write_export
from features.build import build
from features.necessary import Necessity, necessary
from features.spec import FeatureSpec, load_spec, parse_spec
from features.task import load_task
from features.valuesets import declared

Resource = dict[str, Any]

SPEC, TASK, RULES = load_spec("readmission"), load_task("readmission_30d"), load_rules()
NEEDED = necessary(TASK, SPEC, RULES)
HOSPITAL = Hospital(seed=23, patients=70)


def literally(name: str) -> str:
    """How one server names elements: as they stand in JSON."""
    return name


def by_definition(name: str) -> str:
    """How another does: a choice by the name that its definition has."""
    stems = ("value", "effective", "onset", "medication", "deceased")
    return next((stem for stem in stems if name.startswith(stem)), name)


def served(resource: Resource, asked: Necessity, spelt: Callable[[str], str]) -> Resource | None:
    """What a server sends of a resource that is asked for so."""
    kind = resource["resourceType"]
    if kind not in asked.types:
        return None
    searches = [search for search in asked.type_filters if search.startswith(f"{kind}?")]
    if searches and not any(found(resource, search.partition("?")[2]) for search in searches):
        return None
    named = {e.partition(".")[2] for e in asked.elements if e.startswith(f"{kind}.")}
    if not named:
        return resource
    return {k: v for k, v in resource.items() if k == "resourceType" or spelt(k) in named}


def found(resource: Resource, search: str) -> bool:
    parameter, _, tokens = search.partition("=")
    holders = [resource] + resource.get("component", []) * (parameter == "combo-code")
    concepts = [holder[name] for holder in holders for name in NAMED[parameter] if name in holder]
    codings = [coding for concept in concepts for coding in concept["coding"]]
    return any(f"{c.get('system')}|{c.get('code')}" in tokens.split(",") for c in codings)


NAMED = {
    "code": ("code", "medicationCodeableConcept"),
    "combo-code": ("code",),
    "type": ("type",),
}


def lines(folder: Path) -> Iterator[tuple[str, Resource]]:
    for path in sorted(folder.glob("*.ndjson.gz")):
        for line in gzip.decompress(path.read_bytes()).splitlines():
            yield path.name, json.loads(line)


def narrowed(whole: Path, folder: Path, asked: Necessity, spelt: Callable[[str], str]) -> Path:
    folder.mkdir()
    kept: dict[str, list[str]] = {}
    for name, resource in lines(whole):
        if (sent := served(resource, asked, spelt)) is not None:
            kept.setdefault(name.removesuffix(".gz"), []).append(json.dumps(sent))
    for name, told in kept.items():
        (folder / name).write_text("\n".join(told) + "\n")
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Deidentified]:
    folder = tmp_path_factory.mktemp("whole")
    write_export(HOSPITAL, folder / "export", folder / "truth", rows_per_file=5000)
    return folder, deidentified(folder / "export", folder)


def deidentified(source: Path, work: Path) -> Deidentified:
    landing = land_folder(source, work / "phi", transaction_time=HOSPITAL.as_of)
    return deidentify(landing, work, declared=declared())


def specs() -> dict[str, FeatureSpec]:
    """The shipped one, and one whose medications all have exact codes."""
    exact = tuple(
        feature
        for feature in SPEC.features
        if feature.view in ("medication", "admission")
        if feature.name != "medication_orders"
    )
    return {"shipped": SPEC, "exact": replace(SPEC, features=exact)}


@pytest.mark.parametrize(("name", "spelt"), [("shipped", literally), ("exact", by_definition)])
def test_the_matrix_of_a_narrowed_export_is_that_of_a_whole_one_to_the_bit(
    whole: tuple[Path, Deidentified],
    tmp_path: Path,
    name: str,
    spelt: Callable[[str], str],
) -> None:
    folder, done = whole
    spec = specs()[name]
    asked = necessary(TASK, spec, RULES)
    expected = build(done.tables, folder / "research", TASK, spec).read()
    # The zeros are the whole export's: a crosswalk of its own might begin later.
    for name in ("crosswalk", "keys"):
        shutil.copytree(folder / "phi" / name, tmp_path / "phi" / name, symlinks=True)
    source = narrowed(folder / "export", tmp_path / "export", asked, spelt)
    less = deidentified(source, tmp_path)
    matrix = build(less.tables, tmp_path / "research", TASK, spec).read()
    assert len(matrix) > 100
    assert matrix.schema == expected.schema
    for column in expected.column_names:
        assert bits(matrix[column]) == bits(expected[column]), column
    # What an order is for may stand in a Medication: no search for its code finds all of them.
    assert not any(f.startswith("MedicationRequest?") for f in asked.type_filters)
    assert sum(counts.rows for counts in less.counts) < sum(counts.rows for counts in done.counts)


def test_the_shipped_features_need_six_types_and_named_results() -> None:
    assert NEEDED.types == (
        *("Condition", "Encounter", "Medication", "MedicationRequest", "Observation", "Patient"),
    )
    [search] = NEEDED.type_filters
    assert search.startswith("Observation?combo-code=")
    assert {"http://loinc.org|8480-6", "urn:oid:2.16.840.1.113883.6.1|2160-0"} <= set(
        search.partition("=")[2].split(",")
    )
    assert {"Observation.value", "Observation.valueQuantity", "Patient.link"} <= {*NEEDED.elements}
    never = {"Patient.name", "Patient.identifier", "Patient.telecom", "Observation.note"}
    assert not never & {*NEEDED.elements}


def test_a_request_takes_it_as_it_is() -> None:
    request = ExportRequest("https://ehr.example.org/fhir", **asdict(NEEDED))
    assert request.scope["types"] == list(NEEDED.types)


def test_it_is_widened_by_whole_types_and_single_elements() -> None:
    wider = NEEDED.widened(types=["Observation", "Procedure"], elements=["Patient.identifier"])
    assert {*wider.types} - {*NEEDED.types} == {"Procedure"}
    assert wider.type_filters == ()
    assert not any(element.startswith("Observation.") for element in wider.elements)
    assert {e for e in wider.elements if e.startswith("Patient.")} - {*NEEDED.elements} == {
        "Patient.identifier"
    }
    assert NEEDED.widened() == NEEDED


def bits(column: pa.ChunkedArray) -> object:
    """A column's values so that each NaN equals itself."""
    floats = pa.types.is_floating(column.type)
    return column.to_numpy().tobytes() if floats else column.to_pylist()


@pytest.mark.parametrize(
    ("view", "codes", "search"),
    [
        ("procedure", ["snomed:80146002"], "Procedure?code=http://snomed.info/sct|80146002,"),
        ("note", ["loinc:18842-5"], "DocumentReference?type=http://loinc.org|18842-5,"),
        ("procedure", ["snomed:80146002", "snomed:8*"], ""),
        # Read without its dot and in lower case too, or under any system: no search finds that.
        ("condition", ["icd10cm:I50.9"], ""),
        ("procedure", ["local:APPY"], ""),
        ("procedure", ["snomed:APPY"], ""),
        ("procedure", [], ""),
    ],
)
def test_only_a_type_of_which_each_code_is_named_exactly_is_searched(
    view: str, codes: list[str], search: str
) -> None:
    feature = {
        **{"name": "seen", "view": view, "aggregate": "ever", "window": "all", "unit": "1"},
        "description": "There is one",
        **({"codes": {"named": codes}} if codes else {}),
    }
    spec = parse_spec("test", {"name": "t", "description": "t", "features": [feature]})
    task = replace(TASK, scores=())
    asked = necessary(task, spec, RULES)
    assert RULES.view(view).view.resource in asked.types
    assert bool(asked.type_filters) is bool(search)
    assert all(told.startswith(search) for told in asked.type_filters)
    anyone = {**feature, "name": "any"}
    anyone.pop("codes", None)
    spec = parse_spec("test", {"name": "t", "description": "t", "features": [feature, anyone]})
    assert necessary(task, spec, RULES).type_filters == ()
