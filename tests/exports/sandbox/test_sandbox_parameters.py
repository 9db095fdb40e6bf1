"""What narrows an export, in the words of each version of the specification."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from tests.exports.sandbox.asking import KICK_OFF, completed, logged_in, parameters, rows
from tests.exports.ward import PATIENTS, Resource, records, write_ward

Start = Callable[..., httpx.Client]
SINCE = "2025-06-01T00:00:00Z"


@pytest.fixture
def ward(tmp_path: Path) -> list[Resource]:
    return write_ward(tmp_path / "ward")


@pytest.fixture
def start(start_ehr: Callable[..., Any], tmp_path: Path, ward: list[Resource]) -> Iterator[Start]:
    with ExitStack() as stack:

        def connect(scope: str = "system/*.rs", **manner: Any) -> httpx.Client:
            ehr = start_ehr(folder=tmp_path / "ward", **manner)
            return stack.enter_context(logged_in(ehr, scope))

        yield connect


def exported(http: httpx.Client, query: str, level: str = "") -> list[Resource]:
    status = completed(http, http.get(f"/fhir{level}/$export{query}", headers=KICK_OFF))
    return rows(http, status.json()["output"])


def lab(resource: Resource) -> bool:
    return orjson.dumps(resource).find(b"laboratory") > 0


@pytest.mark.parametrize(
    ("query", "kept"),
    [
        ("", lambda r: True),
        ("?_type=Patient,Encounter", lambda r: r["resourceType"] in ("Patient", "Encounter")),
        ("?_type=Patient&_type=Encounter", lambda r: r["resourceType"] in ("Patient", "Encounter")),
        (f"?_since={SINCE}", lambda r: r.get("meta", {}).get("lastUpdated", "9") > SINCE),
        (
            "?_typeFilter=Observation%3Fcategory%3Dlaboratory",
            lambda r: r["resourceType"] != "Observation" or lab(r),
        ),
        (
            "?_typeFilter=Observation%3Fcode%3Dhttp://loinc.org%7C8867-4",
            lambda r: r["resourceType"] != "Observation" or not lab(r),
        ),
        (
            "?_type=Encounter&_typeFilter=Encounter%3Fclass%3DIMP%26date%3Dlt2024-01-05",
            lambda r: (
                r["resourceType"] == "Encounter" and r["id"] in {f"e-{n}-0" for n in range(4)}
            ),
        ),
        (
            "?_type=Encounter&_typeFilter=Encounter%3Fdate%3D2024-02,Encounter%3Fdate%3Dge2024-03",
            lambda r: r["resourceType"] == "Encounter" and not r["id"].endswith("-0"),
        ),
    ],
)
def test_what_was_asked_for_comes_and_nothing_else(
    start: Start, ward: list[Resource], query: str, kept: Callable[[Resource], bool]
) -> None:
    expected = records(filter(kept, ward))
    assert expected
    assert records(exported(start(), query)) == expected


def test_windows_that_follow_one_another_lose_nothing(start: Start, ward: list[Resource]) -> None:
    http = start(version="STU3")
    before = records(exported(http, f"?_until={SINCE}&_type=Patient"))
    after = records(exported(http, f"?_since={SINCE}&_type=Patient"))
    assert before.isdisjoint(after)
    assert len(before) == 6
    assert before | after == records(r for r in ward if r["resourceType"] == "Patient")


def test_chosen_elements_come_with_the_mandatory_ones_and_a_tag(start: Start) -> None:
    found = exported(start(), "?_type=Observation,Patient&_elements=Observation.valueQuantity")
    (shape,) = {tuple(sorted(r)) for r in found if r["resourceType"] == "Observation"}
    assert shape == ("code", "id", "meta", "resourceType", "status", "valueQuantity")
    tagged = Counter(r["resourceType"] for r in found if r["meta"].get("tag"))
    assert tagged == {"Observation": 10 * PATIENTS}


def test_a_group_has_its_members_alone(start: Start) -> None:
    http = start()
    members = {
        f"p-{n}" for n in range(PATIENTS) if hashlib.sha256(f"p-{n}".encode()).digest()[0] % 2 == 0
    }
    assert 0 < len(members) < PATIENTS
    found = exported(http, "", "/Group/half")
    patients = {r["id"] for r in found if r["resourceType"] == "Patient"}
    owners = {r["subject"]["reference"][8:] for r in found if "subject" in r}
    assert patients == owners == members
    group = http.get("/fhir/Group/half").json()
    assert {each["entity"]["reference"] for each in group["member"]} == {
        f"Patient/{patient}" for patient in members
    }


def test_a_posted_request_says_the_same(start: Start, ward: list[Resource]) -> None:
    http = start(version="STU3")
    body = parameters(
        ("_outputFormat", "String", "ndjson"),
        ("_type", "String", "Observation"),
        ("_typeFilter", "String", "Observation?code=2160-0"),
        ("_since", "Instant", "2025-01-15T00:00:00Z"),
        ("_until", "Instant", "2026-01-01T00:00:00Z"),
        ("patient", "Reference", {"reference": "Patient/p-0"}),
        ("patient", "Reference", {"reference": "Patient/p-3"}),
        ("includeAssociatedData", "String", "LatestProvenanceResources"),
        ("allowPartialManifests", "Boolean", False),
    )
    status = completed(http, http.post("/fhir/Patient/$export", json=body, headers=KICK_OFF))
    ids = {row["id"] for row in rows(http, status.json()["output"])}
    assert ids == {f"o-3-{reading}" for reading in range(0, 10, 2)}


@pytest.mark.parametrize(
    ("version", "query", "code"),
    [
        ("STU2", "_until=2025-01-01T00:00:00Z", "not-supported"),
        ("STU2", "organizeOutputBy=Patient", "not-supported"),
        ("STU4", "_made_up=1", "not-supported"),
        ("STU4", "organizeOutputBy=Encounter", "not-supported"),
        ("STU4", "includeAssociatedData=Everything", "not-supported"),
        ("STU4", "_typeFilter=Observation%3Fvalue-string%3D1", "not-supported"),
        ("STU4", "_typeFilter=Observation%3Fdate%3Dyesterday", "not-supported"),
        ("STU4", "_since=2025-01-01T00:00:00", "invalid"),
        ("STU4", "patient=Patient/p-1", "invalid"),
    ],
)
def test_what_a_version_does_not_know_is_rejected(
    start: Start, version: str, query: str, code: str
) -> None:
    answer = start(version=version).get(f"/fhir/Patient/$export?{query}", headers=KICK_OFF)
    assert answer.status_code == 400
    assert answer.json()["issue"][0]["code"] == code


@pytest.mark.parametrize(("version", "member"), [("STU2", "error"), ("STU4", "outcome")])
def test_a_lenient_client_is_told_what_was_ignored(start: Start, version: str, member: str) -> None:
    http = start(version=version)
    headers = {**KICK_OFF, "Prefer": "respond-async, handling=lenient"}
    accepted = http.get("/fhir/$export?_made_up=1&_type=Patient", headers=headers)
    manifest = completed(http, accepted).json()
    assert len(rows(http, manifest["output"])) == PATIENTS
    (told,) = manifest[member]
    (outcome,) = rows(http, [told])
    assert outcome["resourceType"] == "OperationOutcome"
    assert "_made_up" in outcome["issue"][0]["diagnostics"]
    if version == "STU4":
        assert told["countSeverity"] == [{"code": "information", "count": 1}]


@pytest.mark.parametrize("version", ["STU2", "STU3", "STU4"])
def test_a_manifest_speaks_its_version(start: Start, version: str) -> None:
    http = start(version=version)
    status = completed(http, http.get("/fhir/$export", headers=KICK_OFF))
    manifest = status.json()
    assert status.headers["expires"].endswith("GMT")
    newest = version == "STU4"
    assert ("request" in manifest) is not newest
    assert ("outcome" in manifest, "error" in manifest) == (newest, not newest)
    for entry in manifest["output"]:
        size = int(http.head(entry["url"]).headers["content-length"])
        assert entry.get("fileSize") == (size if newest else None)
    (told,) = http.get("/fhir/metadata").json()["instantiates"]
    assert told.rpartition("|")[2].startswith({"STU2": "2", "STU3": "3", "STU4": "4"}[version])


def test_blocks_by_patient(start: Start, ward: list[Resource]) -> None:
    http = start(version="STU3")
    accepted = http.get("/fhir/$export?organizeOutputBy=Patient", headers=KICK_OFF)
    manifest = completed(http, accepted).json()
    assert manifest["outputOrganizedBy"] == "Patient"
    assert all("type" not in entry for entry in manifest["output"])
    found = rows(http, manifest["output"])
    headers = [row for row in found if row["resourceType"] == "Parameters"]
    assert len(headers) == PATIENTS
    assert records(row for row in found if row["resourceType"] != "Parameters") == records(ward)
    owner = ""
    for row in found:
        if row["resourceType"] == "Parameters":
            owner = row["parameter"][0]["valueReference"]["reference"]
        elif "subject" in row:
            assert row["subject"]["reference"] == owner


def test_deletions_are_told_since_a_time(start: Start, tmp_path: Path, ward: list[Any]) -> None:
    gone = [("p-90", "2025-05-01T00:00:00Z"), ("p-91", "2025-07-01T00:00:00Z")]
    lines = [orjson.dumps({"type": "Patient", "id": each, "at": time}) for each, time in gone]
    (tmp_path / "ward" / "deleted.ndjson").write_bytes(b"\n".join(lines))
    http = start()
    whole = completed(http, http.get("/fhir/$export", headers=KICK_OFF)).json()
    assert whole["deleted"] == []
    since = completed(http, http.get(f"/fhir/$export?_since={SINCE}", headers=KICK_OFF)).json()
    (bundle,) = rows(http, since["deleted"])
    assert bundle["type"] == "transaction"
    assert [each["request"] for each in bundle["entry"]] == [
        {"method": "DELETE", "url": "Patient/p-91"}
    ]


def test_pages_come_one_by_one_to_who_allows_them(start: Start, ward: list[Resource]) -> None:
    http = start(version="STU3", page_files=2)
    whole = completed(http, http.get("/fhir/$export", headers=KICK_OFF)).json()
    assert "link" not in whole
    accepted = http.get("/fhir/$export?allowPartialManifests=true", headers=KICK_OFF)
    early = http.get(accepted.headers["content-location"])
    assert early.status_code == 202
    assert len(early.json()["output"]) == 2
    page = completed(http, accepted).json()
    assert page["output"] == early.json()["output"]
    found = rows(http, page["output"])
    while "link" in page:
        (link,) = page["link"]
        held = httpx.Response(202, headers={"content-location": link["url"]})
        page = completed(http, held).json()
        found += rows(http, page["output"])
    assert records(found) == records(ward)


def test_the_job_s_status_can_be_told_apart(start: Start) -> None:
    http = start(version="STU4")
    headers = {**KICK_OFF, "Prefer": "respond-async, separate-export-status"}
    accepted = http.get(f"/fhir/$export?_since={SINCE}", headers=headers)
    seen: list[str] = []
    while not seen or seen[-1] != "200":
        answer = http.get(accepted.headers["content-location"])
        assert answer.status_code == 200
        seen.append(answer.headers["x-export-status"])
    assert set(seen) <= {"202", "200"}
    assert answer.json()["output"]


def test_one_export_at_a_time(start: Start, tmp_path: Path) -> None:
    http = start(one_job=True)
    first = http.get(f"/fhir/$export?_since={SINCE}", headers=KICK_OFF)
    second = http.get(f"/fhir/$export?_since={SINCE}", headers=KICK_OFF)
    assert (first.status_code, second.status_code) == (202, 429)
    assert second.headers["retry-after"] == "0"
    completed(http, first)
    assert http.get("/fhir/$export", headers=KICK_OFF).status_code == 202


@pytest.mark.parametrize(
    ("scope", "query", "status", "types"),
    [
        ("system/*.read", "", 202, {"Encounter", "Observation", "Patient", "Practitioner"}),
        ("system/Patient.rs system/Encounter.read", "", 202, {"Encounter", "Patient"}),
        ("system/Patient.cruds", "?_type=Patient", 202, {"Patient"}),
        ("system/Patient.rs", "?_type=Patient,Observation", 403, set()),
    ],
)
def test_a_token_opens_what_its_scopes_name(
    start: Start, scope: str, query: str, status: int, types: set[str]
) -> None:
    http = start(scope)
    accepted = http.get(f"/fhir/$export{query}", headers=KICK_OFF)
    assert accepted.status_code == status
    if types:
        manifest = completed(http, accepted).json()
        assert {entry["type"] for entry in manifest["output"]} == types


def test_a_file_comes_in_parts(start: Start) -> None:
    http = start()
    manifest = completed(http, http.get("/fhir/$export?_type=Patient", headers=KICK_OFF)).json()
    url, packed = manifest["output"][0]["url"], {"Accept-Encoding": "gzip"}
    with http.stream("GET", url, headers=packed) as answer:
        whole = b"".join(answer.iter_raw())
        etag = answer.headers["etag"]
    part = {**packed, "Range": "bytes=10-", "If-Range": etag}
    with http.stream("GET", url, headers=part) as answer:
        assert answer.status_code == 206
        assert answer.headers["content-range"] == f"bytes 10-{len(whole) - 1}/{len(whole)}"
        assert b"".join(answer.iter_raw()) == whole[10:]
    with http.stream("GET", url, headers={**part, "If-Range": '"other"'}) as answer:
        assert answer.status_code == 200
