"""The sandbox as a FHIR server that is searched, for clients of one without `$export`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.exports.sandbox.asking import KICK_OFF, logged_in
from tests.exports.ward import PATIENTS, Resource, records, write_ward


@pytest.fixture
def ward(tmp_path: Path) -> list[Resource]:
    return write_ward(tmp_path / "ward")


@pytest.fixture
def http(
    start_ehr: Callable[..., Any], tmp_path: Path, ward: list[Resource]
) -> Iterator[httpx.Client]:
    with logged_in(start_ehr(folder=tmp_path / "ward", exports=False)) as client:
        yield client


def pages(http: httpx.Client, url: str) -> Iterator[dict[str, Any]]:
    while url:
        answer = http.get(url)
        assert answer.status_code == 200, answer.text
        yield answer.json()
        links = {link["relation"]: link["url"] for link in answer.json()["link"]}
        url = links.get("next", "")


def test_nothing_is_exported_and_it_says_so(http: httpx.Client) -> None:
    assert http.get("/fhir/Patient/$export", headers=KICK_OFF).status_code == 404
    statement = http.get("/fhir/metadata").json()
    assert "operation" not in statement["rest"][0]
    assert "instantiates" not in statement


def test_every_page_of_a_search(http: httpx.Client, ward: list[Resource]) -> None:
    bundles = list(pages(http, "/fhir/Observation?_count=7&_format=json"))
    assert {bundle["total"] for bundle in bundles} == {10 * PATIENTS}
    assert max(len(bundle["entry"]) for bundle in bundles) == 7
    found = [entry["resource"] for bundle in bundles for entry in bundle["entry"]]
    expected = [resource for resource in ward if resource["resourceType"] == "Observation"]
    assert len(found) == len(expected)
    assert records(found) == records(expected)


@pytest.mark.parametrize(
    ("query", "total"),
    [
        ("Patient", PATIENTS),
        ("Patient?_id=p-1,p-2", 2),
        ("Patient?gender=female&birthdate=lt1955", 2),
        ("Observation?patient=p-1", 10),
        ("Observation?patient=Patient/p-1,Patient/p-2&category=laboratory", 10),
        ("Observation?subject=Patient/p-1&date=ge2024-01-02T05:00:00Z", 5),
        ("Encounter?class=IMP&_lastUpdated=gt2025-06-15", 6),
        ("Encounter?patient=nobody", 0),
        ("Practitioner", 1),
        ("Condition", 0),
    ],
)
def test_what_fits_is_counted_and_comes(http: httpx.Client, query: str, total: int) -> None:
    found = [entry for bundle in pages(http, f"/fhir/{query}") for entry in bundle["entry"]]
    assert len(found) == total
    mark = "&" if "?" in query else "?"
    counted = http.get(f"/fhir/{query}{mark}_summary=count").json()
    assert (counted["total"], counted["entry"]) == (total, [])


def test_one_resource_is_read(http: httpx.Client, ward: list[Resource]) -> None:
    read = http.get("/fhir/Observation/o-3-4").json()
    assert records([read]) <= records(ward)
    missing = http.get("/fhir/Observation/nobody")
    assert (missing.status_code, missing.json()["issue"][0]["code"]) == (404, "not-found")


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("/fhir/Observation?value-quantity=5", 400),
        ("/fhir/Observation?_count=many", 400),
        ("/fhir/Nonsense", 404),
    ],
)
def test_a_search_that_means_nothing_is_refused(http: httpx.Client, url: str, status: int) -> None:
    answer = http.get(url)
    assert answer.status_code == status
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_of_several_versions_the_newest_is_found(
    start_ehr: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "versions"
    folder.mkdir()
    rows = [
        f'{{"resourceType":"Patient","id":"1","meta":{{"lastUpdated":"2025-0{month}-01T00:00:00Z"}}}}'
        for month in (2, 3, 1)
    ]
    (folder / "Patient.0001.ndjson").write_text("\n".join(rows))
    with logged_in(start_ehr(folder=folder)) as http:
        bundle = http.get("/fhir/Patient").json()
    assert bundle["total"] == 1
    assert bundle["entry"][0]["resource"]["meta"]["lastUpdated"].startswith("2025-03")
