"""The sandbox EHR as any Bulk Data client would see it."""

from __future__ import annotations

import gzip
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.exports.sandbox.asking import KICK_OFF, logged_in


@pytest.fixture
def client(ehr: Any) -> Iterator[httpx.Client]:
    with logged_in(ehr) as http:
        yield http


def completed(client: httpx.Client, url: str) -> tuple[str, dict[str, Any]]:
    accepted = client.get(url, headers=KICK_OFF)
    assert accepted.status_code == 202
    status_url = accepted.headers["content-location"]
    while (status := client.get(status_url)).status_code == 202:
        assert "%" in status.headers["x-progress"]
        assert status.headers["retry-after"].isdigit()
        time.sleep(0.02)
    assert status.status_code == 200
    return status_url, status.json()


def test_it_says_what_it_can(ehr: Any) -> None:
    smart = httpx.get(f"{ehr.root}/fhir/.well-known/smart-configuration", trust_env=False).json()
    assert smart["token_endpoint"] == f"{ehr.root}/token"
    assert smart["token_endpoint_auth_signing_alg_values_supported"] == ["RS384", "ES384"]
    statement = httpx.get(f"{ehr.root}/fhir/metadata", trust_env=False).json()
    assert statement["resourceType"] == "CapabilityStatement"
    (rest,) = statement["rest"]
    assert rest["operation"][0]["name"] == "export"
    exported = {resource["type"] for resource in rest["resource"] if "operation" in resource}
    assert exported == {"Patient", "Group"}


@pytest.mark.parametrize("level", ["", "/Patient", "/Group/all"])
def test_an_export_is_accepted_and_completed(client: httpx.Client, level: str) -> None:
    url = f"/fhir{level}/$export"
    _, manifest = completed(client, url)
    assert manifest["transactionTime"] == "2026-01-01T00:00:00+00:00"
    assert manifest["request"] == f"{client.base_url}{url}".replace("//fhir", "/fhir")
    assert manifest["requiresAccessToken"] is True
    assert (manifest["error"], manifest["deleted"]) == ([], [])
    counts = [(file["type"], file["count"]) for file in manifest["output"]]
    assert counts == [("Encounter", 300), ("Observation", 1000), ("Patient", 60), ("Patient", 40)]


def test_types_narrow_the_export(client: httpx.Client) -> None:
    _, manifest = completed(client, "/fhir/$export?_type=Patient,Device")
    assert [file["type"] for file in manifest["output"]] == ["Patient", "Patient"]


def test_files_come_packed_or_unpacked_as_the_client_wants(
    client: httpx.Client, hospital: Path
) -> None:
    _, manifest = completed(client, "/fhir/$export?_type=Encounter")
    url = manifest["output"][0]["url"]
    lying = (hospital / "Encounter.0001.ndjson.gz").read_bytes()
    with client.stream("GET", url, headers={"Accept-Encoding": "gzip"}) as response:
        assert response.headers["content-encoding"] == "gzip"
        assert response.headers["content-type"] == "application/fhir+ndjson"
        assert b"".join(response.iter_raw()) == lying
    plain = client.get(url, headers={"Accept-Encoding": "identity"})
    assert "content-encoding" not in plain.headers
    assert plain.content == gzip.decompress(lying)


def test_a_deleted_job_is_gone_with_its_files(client: httpx.Client) -> None:
    status_url, manifest = completed(client, "/fhir/$export")
    assert client.delete(status_url).status_code == 202
    for url in (status_url, manifest["output"][0]["url"]):
        assert client.get(url).status_code == 404
    assert client.delete(status_url).status_code == 404


@pytest.mark.parametrize(
    ("url", "headers", "status", "code"),
    [
        ("/fhir/$export", {"Accept": "application/fhir+json"}, 400, "required"),
        ("/fhir/$export", {"Prefer": "respond-async"}, 406, "not-supported"),
        ("/fhir/$export?_outputFormat=text/csv", KICK_OFF, 400, "not-supported"),
        ("/fhir/$export?_since=2026-01-01", KICK_OFF, 400, "invalid"),
        ("/fhir/$export?_typeFilter=Patient", KICK_OFF, 400, "not-supported"),
        ("/fhir/$export?_type=Patients", KICK_OFF, 400, "invalid"),
        ("/fhir/Group/some/$export", KICK_OFF, 404, "not-found"),
        ("/jobs/nobody", {}, 404, "not-found"),
        ("/jobs/..%2Fport", {}, 404, "not-found"),
        ("/nowhere", {}, 404, "not-found"),
    ],
)
def test_what_is_wrong_is_told_as_an_operation_outcome(
    client: httpx.Client, url: str, headers: dict[str, str], status: int, code: str
) -> None:
    response = client.get(url, headers=headers)
    assert response.status_code == status
    assert response.headers["content-type"] == "application/fhir+json"
    outcome = response.json()
    assert outcome["resourceType"] == "OperationOutcome"
    assert outcome["issue"][0]["code"] == code


@pytest.mark.parametrize("authorization", ["", "Bearer made-up", "Basic dGVzdDp0ZXN0"])
def test_nothing_is_given_without_a_good_token(ehr: Any, authorization: str) -> None:
    headers = {**KICK_OFF, "Authorization": authorization}
    for path in ("/fhir/$export", "/jobs/a", "/jobs/a/Patient.0001.ndjson.gz"):
        response = httpx.get(f"{ehr.root}{path}", headers=headers, trust_env=False)
        assert response.status_code == 401
        assert response.json()["issue"][0]["code"] == "login"
