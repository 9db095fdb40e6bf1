"""Merges of patients: found in either record, followed to their end, gone once undone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exports.increments.links import Linked, patient_links, survivors
from exports.landing.zone import land_folder

Links = dict[str, str]


def patient(patient_id: str, updated: str = "", **elements: Any) -> bytes:
    meta = {"meta": {"lastUpdated": updated}} if updated else {}
    return orjson.dumps({"resourceType": "Patient", "id": patient_id, **meta, **elements})


def link(kind: str, reference: str) -> dict[str, Any]:
    return {"type": kind, "other": {"reference": reference}}


@pytest.fixture
def links_of(tmp_path: Path) -> Any:
    def read(*files: list[bytes]) -> Links:
        source = tmp_path / "source"
        source.mkdir()
        for number, rows in enumerate(files):
            (source / f"{number}.ndjson").write_bytes(b"\n".join(rows))
        return patient_links(land_folder(source, tmp_path / "phi"))

    return read


@pytest.mark.parametrize(
    "reference",
    ["Patient/b", "https://ehr.example/fhir/Patient/b", "Patient/b/_history/3"],
)
def test_either_record_may_tell_of_a_merge(links_of: Any, reference: str) -> None:
    told_by_the_old = [patient("a", link=[link("replaced-by", reference)]), patient("b")]
    told_by_the_new = [
        patient("c"),
        patient("d", link=[link("replaces", "Patient/c")]),
        patient("e", active=False),
        patient("f", link=[link("refer", "Patient/e"), link("replaces", "Patient/e")]),
    ]
    assert links_of(told_by_the_old, told_by_the_new) == {"a": "b", "c": "d", "e": "f"}


def test_what_is_no_merge_of_patients_changes_nothing(links_of: Any) -> None:
    rows = [
        patient("a", link=[link("seealso", "Patient/b"), link("refer", "Patient/b")]),
        patient("b", link=[link("replaced-by", "RelatedPerson/a"), {"type": "replaced-by"}]),
        patient("c", link=[link("replaced-by", "#b"), "replaced-by", {"other": 1, "type": []}]),
        patient("d", link={"type": "replaces"}, active="no"),
        patient("e", link=[link("replaced-by", "Patient/e")]),
        patient("f", link=[{"type": "replaces", "other": {"identifier": {"value": "a"}}}]),
    ]
    assert links_of(rows) == {}


def test_the_newest_version_speaks_whatever_its_zone_and_place(links_of: Any) -> None:
    merged = link("replaced-by", "Patient/z")
    older = "2026-01-01T12:00:00+02:00"
    newer = "2026-01-01T11:00:00Z"
    assert links_of(
        [patient("undone", newer), patient("done", newer, link=[merged])],
        [patient("undone", older, link=[merged]), patient("done", older)],
        [patient("undone", link=[merged]), patient("done")],
    ) == {"done": "z"}


def said(active: bool | None = None, by: str = "", replaces: str = "") -> Linked:
    return Linked(active, frozenset(by), frozenset(replaces))


@pytest.mark.parametrize(
    ("patients", "expected"),
    [
        pytest.param(
            {"a": said(by="b"), "b": said(by="c"), "c": said()}, {"a": "c", "b": "c"}, id="chain"
        ),
        pytest.param(
            {"a": said(), "b": said(replaces="a"), "c": said(replaces="b")},
            {"a": "c", "b": "c"},
            id="chain told by those who survive",
        ),
        pytest.param({"a": said(by="b"), "b": said(by="a")}, {"b": "a"}, id="circle: the least id"),
        pytest.param(
            {
                "a": said(False, by="b"),
                "b": said(by="c"),
                "c": said(True, by="a"),
                "d": said(by="a"),
            },
            {"a": "b", "c": "b", "d": "b"},
            id="circle with a tail: one that is not inactive",
        ),
        pytest.param(
            {"a": said(by="bc"), "b": said(False), "c": said()},
            {"a": "c"},
            id="two: the active one",
        ),
        pytest.param(
            {"a": said(by="b"), "c": said(replaces="a")}, {"a": "b"}, id="its own word first"
        ),
        pytest.param(
            {"a": said(True), "b": said(replaces="a")}, {}, id="active: not replaced by hearsay"
        ),
    ],
)
def test_survivors(patients: dict[str, Linked], expected: Links) -> None:
    assert survivors(patients) == expected


IDS = st.sampled_from("abcdefg")
SAID = st.builds(
    Linked,
    st.none() | st.booleans(),
    st.frozensets(IDS, max_size=2),
    st.frozensets(IDS, max_size=2),
)


@given(st.dictionaries(IDS, SAID), st.randoms())
def test_each_ends_at_one_who_stays_whatever_the_order(
    patients: dict[str, Linked], order: Any
) -> None:
    ends = survivors(patients)
    assert not set(ends) & set(ends.values())
    shuffled = list(patients.items())
    order.shuffle(shuffled)
    assert survivors(dict(shuffled)) == ends
    for patient_id, told in patients.items():
        if told.replaced_by - {patient_id}:
            united = {ends.get(other, other) for other in told.replaced_by | {patient_id}}
            assert ends.get(patient_id, patient_id) in united
