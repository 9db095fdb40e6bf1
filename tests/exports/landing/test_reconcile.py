"""Every disagreement between what was asked for, announced and delivered is a finding."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest

from exports.bulk.manifest import ExportManifest, Kind, RemoteFile
from exports.download.downloads import Downloaded
from exports.errors import FhirloomError
from exports.landing.deletions import read_deletions
from exports.landing.delivery import take
from exports.landing.narrowing import Narrowing
from exports.landing.ndjson import LONGEST_LINE
from exports.landing.reconcile import (
    FAILING,
    KINDS,
    Finding,
    Policy,
    count_outcomes,
    reconcile,
    refuse,
    told_by_lines,
)
from exports.landing.zone import Arrival, land_folder
from exports.request import ExportRequest

WHEN = datetime(2024, 1, 1, tzinfo=UTC)
ASKED = ExportRequest(server="https://ehr.example.org/fhir")


def rows(resource_type: str, *ids: str) -> bytes:
    return b"".join(
        orjson.dumps({"resourceType": resource_type, "id": name}) + b"\n" for name in ids
    )


def outcome(*issues: tuple[str, str]) -> bytes:
    told = [
        {"severity": severity, "code": code, "diagnostics": "Mr. Secret"}
        for severity, code in issues
    ]
    return orjson.dumps({"resourceType": "OperationOutcome", "id": "1", "issue": told}) + b"\n"


def arrived(folder: Path, content: bytes, *, kind: Kind = "files", **told: Any) -> Downloaded:
    number = len(list(folder.iterdir()))
    path = folder / f"{number}.ndjson"
    delivered = take([content], path)
    url = f"https://ehr.example.org/{number}"
    entry = {"type": "Patient", "count": None, **told}
    remote = RemoteFile(kind=kind, stem=str(number), url=url, **entry)
    return Downloaded(remote, path, delivered)


def found(
    *files: Downloaded,
    request: ExportRequest = ASKED,
    policy: str = "",
    organized_by: str = "",
    dropped: Collection[str] = (),
) -> dict[tuple[str, str], tuple[str, int | None, int]]:
    manifest = ExportManifest(
        transaction_time=WHEN,
        with_token=False,
        files=tuple(file.remote for file in files),
        organized_by=organized_by,
    )
    heeded = Narrowing.of_heeded(request, dropped)
    findings = reconcile(request, manifest, files, Policy.of(policy), heeded=heeded)
    told = {(one.kind, one.type): (one.severity, one.expected, one.found) for one in findings}
    assert len(told) == len(findings)
    return told  # type: ignore[return-value]


def test_rows_that_a_heeded_parameter_would_have_left_out_are_told(tmp_path: Path) -> None:
    def seen(name: str, updated: str, subject: str) -> bytes:
        row = {"resourceType": "Observation", "id": name, "subject": {"reference": subject}}
        return orjson.dumps(row | ({"meta": {"lastUpdated": updated}} if updated else {})) + b"\n"

    content = b"\n".join(
        [
            seen("1", "2023-01-01T00:00:00Z", "Patient/a"),
            seen("2", "2024-06-01T00:00:00Z", "Patient/b"),
            seen("3", "", "Patient/a").replace(b'"id"', b'"n":1e999,"id"'),
        ]
    )
    by_time = replace(ASKED, since=WHEN)
    unasked = ("unasked-rows", "Observation")
    whole = arrived(tmp_path, content, type="Observation", count=3)
    assert found(whole, request=by_time) == {unasked: ("warning", 0, 1)}
    assert found(whole, request=by_time, dropped={"_since"}) == {}
    failing = found(whole, request=by_time, policy="unasked-rows=fail")
    assert failing[unasked][0] == "failure"
    by_patient = replace(ASKED, level="patient", patients=("b",))
    assert found(whole, request=by_patient) == {unasked: ("warning", 0, 2)}
    dirty = arrived(tmp_path, b'{"x"\n' + content, type="Observation", count=4)
    assert found(dirty, request=by_time) == {unasked: ("warning", 0, 1)}


def test_where_all_agrees_there_is_nothing_to_tell(tmp_path: Path) -> None:
    content = rows("Patient", "1", "2")
    assert found(arrived(tmp_path, content, count=2, size=len(content))) == {}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"count": 3}, {("missing-rows", "Patient"): ("failure", 3, 2)}),
        ({"count": 1}, {("extra-rows", "Patient"): ("warning", 1, 2)}),
        ({}, {("uncounted", "Patient"): ("info", None, 2)}),
        ({"count": 2, "size": 9}, {("size", "Patient"): ("warning", 9, 72)}),
        ({"count": 2, "type": "Group"}, {("wrong-type", "Patient"): ("warning", 0, 2)}),
        ({"count": 2, "type": ""}, {}),
    ],
)
def test_a_file_against_its_entry(
    tmp_path: Path, told: Mapping[str, Any], expected: object
) -> None:
    assert found(arrived(tmp_path, rows("Patient", "1", "2"), **told)) == expected


def test_files_by_patient_may_hold_several_types(tmp_path: Path) -> None:
    file = arrived(tmp_path, rows("Patient", "1") + rows("Group", "1"), count=2)
    assert found(file, organized_by="Patient") == {}
    assert found(file) == {("wrong-type", "Group"): ("warning", 0, 1)}


def test_types_that_were_asked_for_and_those_that_came(tmp_path: Path) -> None:
    request = ExportRequest(server=ASKED.server, types=("Patient", "Encounter", "Group"))
    files = [
        arrived(tmp_path, rows("Patient", "1"), count=1),
        arrived(tmp_path, rows("Device", "1", "2"), type="Device", count=2),
        arrived(tmp_path, b"", type="Group", count=0),
    ]
    assert found(*files, request=request) == {
        ("missing-type", "Encounter"): ("warning", None, 0),
        ("extra-type", "Device"): ("warning", 0, 2),
    }


def test_the_servers_outcomes_are_counted_and_never_quoted(tmp_path: Path) -> None:
    content = outcome(("error", "not-found"), ("warning", "Mr. Secret")) * 2
    content += outcome(("information", "informational")) + b"{\n"
    file = arrived(
        tmp_path,
        content,
        kind="errors",
        type="OperationOutcome",
        severities=(("error", 2), ("warning", 1), ("fatal", 1)),
    )
    told = found(file)
    assert told == {
        ("outcome", "error/not-found"): ("warning", None, 2),
        ("outcome", "information/informational"): ("info", None, 1),
        ("outcome", "warning/other"): ("info", None, 2),
        ("outcome-count", "warning"): ("warning", 1, 2),
        ("outcome-count", "fatal"): ("warning", 1, 0),
    }
    assert "Secret" not in repr(told)
    strict = found(file, policy="outcome=fail")
    assert strict["outcome", "error/not-found"][0] == "failure"
    assert strict["outcome", "warning/other"][0] == "info"
    assert count_outcomes(file.path)[1] == {"error": 2, "warning": 2, "information": 1}


def test_deletions_that_name_nothing_are_told(tmp_path: Path) -> None:
    entries = [
        {"request": {"method": "DELETE", "url": url}}
        for url in ("Patient/1", "https://x/fhir/Patient/2/_history/3", "Patient?identifier=7", "x")
    ]
    bundle = orjson.dumps({"resourceType": "Bundle", "type": "transaction", "entry": entries})
    file = arrived(tmp_path, bundle + b"\n{\n", kind="deleted", type="Bundle")
    (tmp_path / "0.ndjson.ids").write_bytes(b"\xff not a bundle")
    assert found(file) == {("deletion", ""): ("warning", None, 3)}


def test_deletions_that_are_no_bundle_are_told(tmp_path: Path) -> None:
    file = arrived(tmp_path, rows("Patient", "1", "2"), kind="deleted", type="Bundle")
    assert found(file) == {("deletion", ""): ("warning", None, 2)}


@pytest.mark.parametrize(("count", "severity"), [(1, None), (3, None), (4, "failure")])
def test_deletions_are_counted_by_the_bundle_or_one_by_one(
    tmp_path: Path, count: int, severity: str | None
) -> None:
    urls = ("Patient/1", "Patient/2", "Patient/3")
    entries = [{"request": {"method": "DELETE", "url": url}} for url in urls]
    bundle = orjson.dumps({"resourceType": "Bundle", "entry": entries}) + b"\n"
    file = arrived(tmp_path, bundle, kind="deleted", type="Bundle", count=count)
    expected = {("missing-rows", "Bundle"): (severity, count, 1)} if severity else {}
    assert found(file) == expected


def test_all_deletions_may_stand_in_one_long_bundle(tmp_path: Path) -> None:
    filler = " " * LONGEST_LINE
    entries = [{"request": {"method": "DELETE", "url": f"Patient/{n}"}} for n in range(3)]
    bundle = orjson.dumps({"resourceType": "Bundle", "note": filler, "entry": entries})
    file = arrived(tmp_path, bundle + b"\n", kind="deleted", type="Bundle", count=3)
    assert list(read_deletions([file.path])) == [("Patient", f"{n}") for n in range(3)]
    assert found(file) == {}


def test_a_file_that_ends_within_a_line_is_a_loss(tmp_path: Path) -> None:
    content = rows("Patient", "1", "2")
    cut = arrived(tmp_path, content[:-9], count=2)
    assert found(cut) == {("cut-line", "Patient"): ("failure", 0, 1)}
    assert found(arrived(tmp_path, content[:-1], count=2)) == {}
    deleted = arrived(tmp_path, b'{"resourceType":"Bun', kind="deleted", type="Bundle")
    assert found(deleted)["cut-line", "Bundle"] == ("failure", 0, 1)


def test_a_file_of_bad_lines_alone_is_told(tmp_path: Path) -> None:
    content = b'{"resourceType":"Patient"}\n' * 5
    arrival = Arrival("a.ndjson", "Patient", take([content], tmp_path / "a.ndjson"))
    (told,) = told_by_lines([arrival], Policy())
    assert (told.kind, told.found) == ("bad-line", 5)


def test_a_policy_is_an_operators_words() -> None:
    policy = Policy.of(" missing-rows=warn, duplicate=fail,uncounted=warn,bad-line=info ")
    assert policy.fail == {"duplicate", "cut-line"}
    assert policy.info == {"bad-line"}
    assert Policy.of("") == Policy()
    assert set(KINDS) > FAILING


@pytest.mark.parametrize("text", ["count", "count=fail", "duplicate=maybe", "duplicate", "=fail"])
def test_an_unknown_policy_is_bad_input(text: str) -> None:
    with pytest.raises(FhirloomError) as raised:
        Policy.of(text)
    assert raised.value.code == "bad-input"


def test_failures_are_refused_and_warnings_are_not() -> None:
    warning = Finding("duplicate", "warning", "Patient", "Secret.ndjson", 0, 2)
    refuse([warning])
    with pytest.raises(FhirloomError) as raised:
        refuse([warning], Policy.of("duplicate=fail"))
    assert raised.value.code == "incomplete"
    assert "duplicate 2 of Patient" in raised.value.what
    assert "Secret" not in str(raised.value)


def test_findings_by_the_lines_alone_are_sealed(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(rows("Patient", "1", "2", "1") + b"{\n")
    (source / "b").write_bytes(rows("Patient", "2", "3") + rows("Group", "2"))
    zone = land_folder(source, tmp_path / "phi")
    assert zone.findings == (
        Finding("bad-line", "warning", "", "a.ndjson", 0, 1),
        Finding("duplicate", "warning", "Patient", "a.ndjson", 0, 1),
        Finding("repeated", "warning", "Patient", "", 0, 1),
    )
    assert not (zone.sealed.path / ".identities").exists()
    strict = Policy.of("repeated=fail")
    for phi in (tmp_path / "phi", tmp_path / "elsewhere"):
        with pytest.raises(FhirloomError, match="repeated 1 of Patient"):
            land_folder(source, phi, policy=strict)
