"""What the extract survives, and that it tells of each landed file where its rows went."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deid.balance import DUPLICATE
from deid.engine import connect, fetch, memory_file
from deid.extract import extract
from deid.quarantine import REASON
from deid.rules import load_rules
from deid.sql_on_fhir.compiler import compile_view
from deid.sql_on_fhir.evaluator.rows import evaluate
from deid.sql_on_fhir.view import parse_view
from exports.errors import FhirloomError
from exports.landing.zone import LandingZone, land_folder
from exports.references import referenced
from exports.sealed import Sealed
from tests.deid.resources import Deidentify, encounter, observation, outcome, patient, rows

WHEN = "2020-03-02T08:00:00"
UUID = "6c5d9ca9-54d7-42f5-bfae-a7c19cd217f2"


def line(resource: Any) -> bytes:
    return json.dumps(resource).encode()


def landed(folder: Path, files: dict[str, list[bytes]]) -> LandingZone:
    for name, lines in files.items():
        path = folder / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        content = b"\n".join(lines) + b"\n"
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return land_folder(folder / "source", folder / "phi")


def extracted(folder: Path, files: dict[str, list[bytes]]) -> tuple[LandingZone, Sealed]:
    zone = landed(folder, files)
    return zone, extract(zone, folder / "phi", load_rules())


BAD = {
    "a quantity that is a number": line(observation("b1", WHEN, valueQuantity=5)),
    "a subject that is a list": line(observation("b2", WHEN, subject=[])),
    "a number that is a text": line(observation("b3", WHEN, valueQuantity={"value": "<5"})),
    "a number beyond all integers": line(observation("b4", WHEN, valueInteger=10**30)),
    "a component that is a truth": line(observation("b5", WHEN, component=True)),
    "a key twice": line(observation("b6", WHEN))[:-1] + b', "status": "final"}',
}


def test_of_every_file_rows_are_out_dropped_or_set_apart(tmp_path: Path) -> None:
    old = observation("o1", WHEN, meta={"lastUpdated": "2020-03-02T09:00:00Z"})
    new = old | {"meta": {"lastUpdated": "2020-03-03T09:00:00Z"}}
    wrong = observation("o2", WHEN) | {"status": "entered-in-error"}
    files = {
        "a/obs-1.ndjson": [line(old), line(wrong), line(observation("o3", WHEN)), b""],
        "a/obs-2.ndjson.gz": [line(new), *BAD.values(), line(observation("o4", WHEN))],
        "obs-3.ndjson": [b"\xef\xbb\xbf" + line(observation("o5", WHEN)), b"{", b'{"id": "\xff"}'],
        "obs-4.ndjson": [line(observation("o3", WHEN)), b"[]", b'"x"', b'{"resourceType": "Cat"}'],
        "people.ndjson": [line(patient()), line(patient()), line({"resourceType": "Group"})],
        "mixed.ndjson": [
            line(encounter("e1", WHEN)),
            line({"resourceType": "Location", "id": "l1"}),
        ],
    }
    zone, made = extracted(tmp_path, files)
    told = made.facts["files"]
    assert told["a/obs-1.ndjson"]["views"] == {
        "observation": {
            "rows": 3,
            "out": 1,
            "dropped": {DUPLICATE: 1, "entered-in-error": 1},
            "quarantined": {},
        }
    }
    assert told["a/obs-2.ndjson.gz"]["views"]["observation"] == {
        "rows": 2 + len(BAD),
        "out": 2,
        "dropped": {},
        "quarantined": {REASON: len(BAD)},
    }
    assert told["obs-4.ndjson"]["views"]["observation"]["dropped"] == {DUPLICATE: 1}
    assert told["people.ndjson"]["views"]["patient"]["dropped"] == {DUPLICATE: 1}
    assert {*told["mixed.ndjson"]["views"]} == {"admission", "discharge", "no view of Location"}
    for landed_file in zone.files:
        for counted in told[landed_file.name]["views"].values():
            apart = sum(counted["quarantined"].values())
            assert counted["rows"] == counted["out"] + sum(counted["dropped"].values()) + apart
    lines = sum(len([each for each in content if each.strip()]) for content in files.values())
    assert sum(file.rows for file in zone.files) + sum(zone.quarantined.values()) == lines
    ids = pq.read_table(made.path / "observation.parquet", columns=["id"])["id"].to_pylist()
    assert Counter(ids) == Counter(["o1", "o2", "o3", "o4", "o5"])


@pytest.mark.parametrize("what", list(BAD))
def test_a_line_of_the_wrong_shape_is_set_apart_alone(tmp_path: Path, what: str) -> None:
    good = [line(observation(f"o{n}", WHEN)) for n in range(3)]
    _, made = extracted(tmp_path, {"obs.ndjson": [*good, BAD[what]]})
    assert made.facts["views"]["observation"]["quarantined"] == {REASON: 1}
    assert made.facts["views"]["observation"]["out"] == 3
    [bad] = (made.path / "observation.bad.ndjson").read_bytes().splitlines()
    assert bad == BAD[what]


def test_a_line_of_many_megabytes_and_a_gzip_that_is_cut_short(tmp_path: Path) -> None:
    long = observation("long", WHEN, note=[{"text": "x" * 17 * 2**20}])
    zone, made = extracted(tmp_path, {"obs.ndjson": [line(long), line(observation("o1", WHEN))]})
    assert zone.quarantined == {"too-long": 1}
    assert made.facts["views"]["observation"]["out"] == 1
    cut = gzip.compress(b"\n".join(line(observation(f"o{n}", WHEN)) for n in range(99)))[:-9]
    (tmp_path / "cut").mkdir()
    (tmp_path / "cut" / "obs.ndjson.gz").write_bytes(cut)
    with pytest.raises(FhirloomError, match="can't be unpacked"):
        land_folder(tmp_path / "cut", tmp_path / "other")


def test_which_file_a_row_came_from_does_not_change_with_where_the_files_lie(
    tmp_path: Path,
) -> None:
    files = {f"{n}.ndjson": [line(observation(f"o{n}", WHEN))] for n in range(3)}
    one, other = (extracted(tmp_path / place, files)[1] for place in ("here", "there"))
    assert one.digest == other.digest
    assert pq.read_table(one.path / "observation.parquet")["file"].to_pylist() == [0, 1, 2]


def test_a_contained_drug_of_a_strange_shape_loses_the_code_and_not_the_order(
    tmp_path: Path,
) -> None:
    order = {
        "resourceType": "MedicationRequest",
        "status": "active",
        "intent": "order",
        "subject": {"reference": "Patient/p1"},
        "authoredOn": WHEN,
        "medicationReference": {"reference": "#m"},
    }
    strange: list[Any] = [
        [{"resourceType": "Medication", "id": "m", "code": 5}],
        [{"resourceType": "Medication", "id": "m", "code": {"coding": [7, None, "x"]}}],
        [{"resourceType": ["Medication"]}, 5, None, "x"],
    ]
    lines = [line(order | {"id": f"r{n}", "contained": each}) for n, each in enumerate(strange)]
    _, made = extracted(tmp_path, {"orders.ndjson": lines})
    told = made.facts["views"]["medication"]
    assert (told["out"], told["quarantined"]) == (len(strange), {})
    assert pq.read_table(made.path / "medication.parquet")["code"].to_pylist() == [None] * 3


def test_references_to_no_drug_are_counted_and_refusals_to_order_dropped(tmp_path: Path) -> None:
    order = {
        "resourceType": "MedicationRequest",
        "status": "active",
        "subject": {"reference": "Patient/p1"},
        "authoredOn": WHEN,
    }
    drug = {"reference": "Medication/m1"}
    lines = [
        line(order | {"id": "r1", "medicationReference": drug}),
        line(order | {"id": "r2", "medicationReference": {"reference": "Medication/nobody"}}),
        line(order | {"id": "r3", "medicationReference": drug, "doNotPerform": True}),
        line({"resourceType": "Medication", "id": "m1", "code": {"coding": [{"code": "asa"}]}}),
    ]
    _, made = extracted(tmp_path, {"all.ndjson": lines})
    told = made.facts["views"]["medication"]
    assert (told["out"], told["dropped"], told["unresolved"]) == (2, {"do not perform": 1}, 1)
    assert made.facts["views"]["drug"]["out"] == 1
    found = pq.read_table(made.path / "medication.parquet").to_pylist()
    assert [row["code"] for row in found] == ["local:asa", None, "local:asa"]


REFERENCES = {
    "Patient/p1": "p1",
    "https://ehr.example.org/fhir/Patient/p1": "p1",
    "https://ehr.example.org/fhir/Patient/p1/_history/2": "p1",
    "Patient/p_1~a": "p_1~a",
    f"urn:uuid:{UUID}": UUID,
    f"URN:UUID:{UUID.upper()}": UUID,
    f"Patient/{UUID.upper()}": UUID,
    "#p1": None,
    "Group/p1": None,
    "OutPatient/p1": None,
    "Patient/": None,
    "Patient/p1/more": None,
    "Patient/p1\n": None,
    "Patient?identifier=x|1": None,
    "": None,
}


def keys(references: list[str]) -> tuple[list[Any], list[Any], list[Any]]:
    """What DuckDB, the evaluator and the other stages make of references to a patient."""
    view = {
        "name": "v",
        "resource": "Observation",
        "select": [{"column": [{"name": "k", "path": "subject.getReferenceKey(Patient)"}]}],
    }
    resources = [
        {"resourceType": "Observation", "subject": {"reference": each}} for each in references
    ]
    with memory_file(b"\n".join(map(line, resources))) as file, connect() as connection:
        compiled = fetch(connection, compile_view(parse_view(view)).over([file]))["k"].to_pylist()
    evaluated = [row["k"] for row in evaluate(view, resources)]
    return compiled, evaluated, [referenced(each, "Patient") or None for each in references]


def test_references_in_all_their_forms_mean_the_same_everywhere() -> None:
    for found in keys(list(REFERENCES)):
        assert dict(zip(REFERENCES, found, strict=True)) == REFERENCES


@given(
    st.lists(
        st.text(alphabet="Patient/urn:id-#_1~.\n?%ſK", max_size=16).map(lambda end: end)
        | st.sampled_from(["Patient/", "urn:uuid:", f"x/Patient/{UUID}"]).flatmap(
            lambda head: st.text(alphabet="aA1-_/\n #", max_size=6).map(lambda end: head + end)
        ),
        min_size=1,
        max_size=20,
    )
)
def test_no_reference_means_one_thing_here_and_another_there(references: list[str]) -> None:
    compiled, evaluated, told = keys(references)
    assert compiled == evaluated == told


def test_a_patient_found_by_uuid_alone_has_the_same_rows_in_every_table(run: Deidentify) -> None:
    who = {"reference": f"urn:uuid:{UUID}"}
    stay = encounter("E-1", "2020-03-01T10:00:00", "2020-03-04T12:00:00") | {"subject": who}
    seen = observation("o1", WHEN) | {"subject": {"reference": f"Patient/{UUID.upper()}"}}
    done = run([patient(UUID.upper(), deceasedDateTime="1949-01-01"), stay, seen])
    assert outcome(done, "observation") == {"kept": 1}
    assert len({row["patient"] for row in rows(done, "admission") + rows(done, "observation")}) == 1
    # A death before the birth is nobody's.
    assert [row["death"] for row in rows(done, "patient")] == [None]
