"""Every delivered path is counted, and told with what reads it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from deid.attestation.paths import DEEPER, UNKNOWN, path_facts
from deid.attestation.views_read import BECOMES, readings
from deid.rules import WRITTEN, load_rules
from exports.landing.zone import land_folder
from tests.deid.attestation.conftest import PLANTED
from tests.deid.resources import Resource, observation, patient, write_ndjson


def counted(folder: Path, *resources: Resource) -> dict[tuple[str, str], dict[str, Any]]:
    when = datetime.fromisoformat("2024-07-03T00:00:00")
    source = write_ndjson(folder / "source", resources)
    landing = land_folder(source, folder / "phi", transaction_time=when)
    facts = path_facts(landing, load_rules(), spill=folder / "spill")
    return {(item["type"], item["path"]): item for item in facts}


def test_a_resource_counts_once_for_each_path_that_it_has(tmp_path: Path) -> None:
    found = counted(
        tmp_path,
        patient("p1", name=[{"given": ["A", "B"]}, {"given": ["C"], "family": "D"}]),
        patient("p2", name=[{"family": "E"}], active=True, photo=[], contact=None),
        {"resourceType": "Basic", "id": "b1"},
    )
    resources = {path: item["resources"] for path, item in found.items()}
    assert resources == {
        ("Basic", "id"): 1,
        ("Patient", "id"): 2,
        ("Patient", "birthDate"): 2,
        ("Patient", "name.given"): 1,
        ("Patient", "name.family"): 2,
        ("Patient", "active"): 1,
    }


def test_each_path_tells_which_column_reads_it_and_what_becomes_of_it(tmp_path: Path) -> None:
    found = counted(
        tmp_path, patient(name=[{"family": "D"}], gender="male"), observation("o1", "2020-03-01")
    )
    by = {path: [each["becomes"] for each in item["read_by"]] for path, item in found.items()}
    assert by["Patient", "name.family"] == []
    assert by["Patient", "gender"] == ["a word of a closed list"]
    assert "read, never written" in by["Patient", "birthDate"]
    assert by["Observation", "subject.reference"] == ["a random surrogate"]
    assert "a number of its code's range" in by["Observation", "valueQuantity.value"]
    assert found["Observation", "code.coding.code"]["read_by"][0]["column"] == "code"


def test_a_member_that_fhir_does_not_have_is_never_told_by_its_name(tmp_path: Path) -> None:
    nested: Any = "x"
    for _ in range(40):
        nested = {"extension": [nested]}
    found = counted(
        tmp_path,
        {**patient("p1"), PLANTED: {PLANTED: 1}, "_birthDate": {"id": "x"}},
        {**patient("p2"), f"_{PLANTED}": "x", "contained": [{"id": {PLANTED: {"id": 1}}}]},
        {"resourceType": "Basic", "id": "b1", **nested},
    )
    paths = {path for _, path in found}
    assert {UNKNOWN, f"contained.id.{UNKNOWN}", "_birthDate.id"} <= paths
    assert found["Patient", UNKNOWN]["resources"] == 2
    assert any(path.endswith(DEEPER) for path in paths)
    assert not any(part in path for path in paths for part in PLANTED.split())


def test_the_readings_are_all_that_the_views_name() -> None:
    rules = load_rules()
    read = readings(rules)
    for view in rules.views:
        assert {item.column for item in read if item.view == view.name} == {
            column.name for column in view.columns
        }
    whole = next(item for item in read if item.path == "birthDate")
    assert whole.reads("Patient", "birthDate")
    assert not whole.reads("Patient", "birthDateOfSomebody")
    assert not whole.reads("Person", "birthDate")


def test_every_kind_of_column_that_is_written_says_what_it_becomes() -> None:
    """A kind that is added to the rules, and not to the page, would be told as never written."""
    assert BECOMES.keys() == WRITTEN | {"patient", "encounter", "own encounter", "time", "known_at"}


def test_what_nests_without_end_is_counted_too(tmp_path: Path) -> None:
    nested: Any = []
    for _ in range(400):
        nested = [nested]
    deep = patient("p1", gender="male", extension=nested, name=[[{"family": "D"}]])
    flat = patient("p2", gender="female", photo=None)
    resources = {path: item["resources"] for path, item in counted(tmp_path, deep, flat).items()}
    told = {"id": 2, "birthDate": 2, "gender": 2, "name.family": 1}
    assert resources == {("Patient", path): number for path, number in told.items()}
