"""Manifests of every edition are read; what breaks the protocol is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exports.bulk.manifest import next_page, read_manifest, with_partials
from exports.errors import FhirloomError

BASE = "https://ehr.example/fhir"
TIME = {"transactionTime": "2026-01-01T00:00:00Z"}


def item(name: str, type_: str = "Patient", **more: Any) -> dict[str, Any]:
    return {"type": type_, "url": f"https://ehr.example/files/{name}", **more}


STU1 = {**TIME, "request": "", "requiresAccessToken": True, "output": [item("a", count=3)]}
STU2 = {**STU1, "error": [item("e", "OperationOutcome")], "deleted": [item("d", "Bundle")]}
STU3 = {
    **STU2,
    "output": [item("a", count=3, fileSize=120)],
    "error": [item("e", "OperationOutcome", countSeverity={"error": 2, "warning": 1})],
    "link": [],
}
STU4 = {
    **TIME,
    "requiresAccessToken": False,
    "outputFormat": "application/fhir+ndjson",
    "output": [{"url": "https://ehr.example/files/a", "count": 3}],
    "outcome": [
        {
            "url": "https://ehr.example/files/e",
            "countSeverity": [{"code": "error", "count": 2}, {"severity": "warning", "count": "1"}],
        }
    ],
    "deleted": [{"url": "https://ehr.example/files/d"}],
    "outputOrganizedBy": "Patient",
    "extension": [{"url": "https://vendor.example/x", "valueString": "y"}],
}


@pytest.mark.parametrize(
    ("body", "kinds", "stems"),
    [
        (STU1, ["files"], ["Patient.0001"]),
        (
            STU2,
            ["files", "errors", "deleted"],
            ["Patient.0001", "OperationOutcome.0002", "Bundle.0003"],
        ),
        (
            STU3,
            ["files", "errors", "deleted"],
            ["Patient.0001", "OperationOutcome.0002", "Bundle.0003"],
        ),
        (
            STU4,
            ["files", "errors", "deleted"],
            ["Resources.0001", "OperationOutcome.0002", "Bundle.0003"],
        ),
    ],
    ids=["STU1", "STU2", "STU3", "STU4"],
)
def test_every_edition(body: dict[str, Any], kinds: list[str], stems: list[str]) -> None:
    manifest = read_manifest([body], BASE)
    assert manifest.transaction_time == datetime(2026, 1, 1, tzinfo=UTC)
    assert [file.kind for file in manifest.files] == kinds
    assert [file.stem for file in manifest.files] == stems
    assert manifest.files[0].count == 3
    assert manifest.with_token == (body is not STU4)


def test_what_later_editions_add() -> None:
    stu3, stu4 = read_manifest([STU3], BASE), read_manifest([STU4], BASE)
    assert stu3.files[0].size == 120
    counted = (("error", 2), ("warning", 1))
    assert stu3.files[1].severities == stu4.files[1].severities == counted
    assert stu4.organized_by == "Patient"
    assert stu4.files[0].type == ""
    assert stu4.server_rows is None
    assert stu3.server_rows == {"Patient": 3}
    assert stu4.extensions == (STU4["extension"],)


@pytest.mark.parametrize(
    ("told", "needed"),
    [(True, True), (False, False), ("true", True), ("True", True), ("false", False), (None, False)],
)
def test_a_truth_may_be_a_string(told: Any, needed: bool) -> None:
    assert read_manifest([{**STU1, "requiresAccessToken": told}], BASE).with_token is needed


@pytest.mark.parametrize(
    ("told", "count"),
    [(3, 3), ("3", 3), (0, 0), (None, None), ("many", None), (-1, None), (True, None), (1.5, None)],
)
def test_a_count_may_be_a_string(told: Any, count: int | None) -> None:
    (file,) = read_manifest([{**TIME, "output": [item("a", count=told)]}], BASE).files
    assert file.count == count


def test_nothing_exported_may_be_told_in_any_way() -> None:
    ways: list[dict[str, Any]] = [{}, {"output": None}, {"output": [], "error": None}]
    for nothing in ways:
        manifest = read_manifest([{**TIME, **nothing}], BASE)
        assert manifest.files == ()
        assert manifest.server_rows == {}


def test_pages_are_one_manifest() -> None:
    second = {**TIME, "transactionTime": "2025-12-31T00:00:00Z", "output": [item("b"), item("a")]}
    manifest = read_manifest([STU2, second], BASE)
    assert [file.url.rpartition("/")[2] for file in manifest.files] == ["a", "e", "d", "b"]
    assert manifest.transaction_time == datetime(2025, 12, 31, tzinfo=UTC)
    assert manifest.with_token


def test_a_file_listed_twice_is_one_and_two_that_differ_by_query_are_two() -> None:
    files = [item("a"), item("a"), item("a?part=1"), item("a?part=2")]
    assert len(read_manifest([{**TIME, "output": files}], BASE).files) == 3


def test_relative_urls_are_taken_from_the_base() -> None:
    output = [{"type": "Patient", "url": "Binary/1"}, {"type": "Patient", "url": "/files/1"}]
    urls = [file.url for file in read_manifest([{**TIME, "output": output}], BASE).files]
    assert urls == ["https://ehr.example/fhir/Binary/1", "https://ehr.example/files/1"]


def test_a_time_without_zone_is_refused_unless_the_vendor_is_known_for_it() -> None:
    body = {"transactionTime": "2026-01-01T00:00:00", "output": []}
    with pytest.raises(FhirloomError, match="manifest lacks"):
        read_manifest([body], BASE)
    assert read_manifest([body], BASE, zoneless_is_utc=True).transaction_time.tzinfo is UTC


@pytest.mark.parametrize(
    "broken",
    [
        {"transactionTime": None},
        {"transactionTime": "today"},
        {"output": [{"type": "Patient"}]},
        {"output": [{"type": "../../x", "url": "x"}]},
        {"output": [{"type": 7, "url": "x"}]},
        {"output": [{"type": "Patient", "url": "file:///etc/hosts"}]},
        {"output": [{"type": "Patient", "url": "http://"}]},
        {"output": {"type": "Patient", "url": "x"}},
        {"output": ["x"]},
        {"output": 5},
        {"deleted": [{}]},
    ],
    ids=str,
)
def test_a_broken_manifest_is_refused(broken: dict[str, Any]) -> None:
    with pytest.raises(FhirloomError, match="manifest") as raised:
        read_manifest([{**STU1, **broken}], BASE)
    assert raised.value.code == "server"


def test_the_next_page() -> None:
    assert next_page(STU1, BASE) is None
    assert next_page({"link": None}, BASE) is None
    assert next_page({"link": [{"relation": "self", "url": "/1"}]}, BASE) is None
    link = [{"relation": "self", "url": "/1"}, {"relation": "next", "url": "/2"}]
    assert next_page({"link": link}, BASE) == "https://ehr.example/2"
    with pytest.raises(FhirloomError, match="no URL"):
        next_page({"link": [{"relation": "next", "url": "file:///2"}]}, BASE)


NAMES = st.lists(st.sampled_from("abcdef"), max_size=4)


@given(st.lists(NAMES, min_size=1, max_size=3), st.lists(NAMES, max_size=3))
def test_no_file_that_was_ever_told_is_lost_and_none_comes_twice(
    pages: list[list[str]], partials: list[list[str]]
) -> None:
    def bodies(named: list[list[str]], signature: str) -> list[dict[str, Any]]:
        return [
            {**TIME, "output": [item(f"{name}?{signature}") for name in names]} for names in named
        ]

    together = with_partials(bodies(pages, "new"), bodies(partials, "old"))
    files = read_manifest(together, BASE).files
    told = {name for names in (*pages, *partials) for name in names}
    assert sorted(file.identity.rpartition("/")[2] for file in files) == sorted(told)
    assert len({file.stem for file in files}) == len(files)
