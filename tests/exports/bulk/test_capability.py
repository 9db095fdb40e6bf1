"""What a CapabilityStatement tells is read; what it doesn't is unknown, and fails nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exports.access import OPEN, Access
from exports.bulk.capability import UNKNOWN, capability_of, read_capability
from exports.connection.session import open_session
from exports.connection.transport import Patience
from tests.exports.scripted import Answer, Script, outcome, serving

DEFINED = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition"


@pytest.fixture
def server() -> Iterator[Script]:
    with serving() as script:
        yield script


def statement(**more: Any) -> dict[str, Any]:
    return {
        "resourceType": "CapabilityStatement",
        "publisher": "Some Hospital",
        "software": {"name": "An EHR", "version": "7.1", "releaseDate": "2026-01-01"},
        "fhirVersion": "4.0.1",
        **more,
    }


def resource(name: str, operation: str, definition: str, *parameters: str) -> dict[str, Any]:
    return {
        "type": name,
        "operation": [{"name": operation, "definition": f"{DEFINED}/{definition}"}],
        "searchParam": [{"name": parameter, "type": "token"} for parameter in parameters],
    }


def test_a_full_statement() -> None:
    rest = {
        "mode": "server",
        "resource": [
            resource("Group", "export", "group-export|2.0.0"),
            resource("Patient", "patient-export", "patient-export|2.0.0", "birthdate", "_id"),
        ],
        "operation": [{"name": "$export", "definition": f"{DEFINED}/export|2.0.0"}],
    }
    read = capability_of(statement(rest=[rest], implementation={"description": "of Test Vendor"}))
    assert (read.software, read.version, read.released) == ("An EHR", "7.1", "2026-01-01")
    assert (read.fhir_version, read.bulk_version) == ("4.0.1", "STU2")
    assert read.levels == frozenset({"system", "patient", "group"})
    assert read.search_parameters["Patient"] == {"birthdate", "_id"}
    assert "test vendor" in read.identity
    assert "some hospital" in read.identity
    assert not read.post_only


def test_a_group_s_export_that_is_told_at_the_top_is_known_by_its_definition() -> None:
    rest = {"operation": [{"name": "export", "definition": f"{DEFINED}/group-export"}]}
    assert capability_of(statement(rest=[rest])).levels == frozenset({"group"})


@pytest.mark.parametrize(
    ("canonical", "edition"),
    [
        ("http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data|1.0.1", "STU1"),
        ("http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data|3.0.0", "STU3"),
        ("http://hl7.org/fhir/uv/bulkdata/ImplementationGuide/hl7.fhir.uv.bulkdata|4.0.0", "STU4"),
        ("http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data", ""),
        ("http://hl7.org/fhir/us/core/CapabilityStatement/us-core-server|6.1.0", ""),
    ],
)
@pytest.mark.parametrize("member", ["instantiates", "implementationGuide"])
def test_the_edition_is_that_of_the_canonicals(member: str, canonical: str, edition: str) -> None:
    read = capability_of(statement(**{member: ["http://example.org|9.0", canonical]}))
    assert read.bulk_version == edition
    assert read.post_only == (edition == "STU4")
    assert read.levels is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["software", "rest", "resource", "operation", "name", "type", "definition"]
            )
            | st.text(),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(JSON)
def test_whatever_a_server_sends_is_read(anything: Any) -> None:
    assert capability_of(anything).levels != frozenset()


def read(server: Script) -> Any:
    with open_session(server.base, OPEN, Patience(0)) as session:
        return read_capability(session, server.base)


@pytest.mark.parametrize(
    "answer",
    [Answer(404), outcome(500, "exception"), Answer(200, b"<html>"), Answer(200, [1]), Answer(403)],
    ids=str,
)
def test_no_statement_is_no_error(server: Script, answer: Answer) -> None:
    server.answer = lambda asked: answer
    assert read(server) == UNKNOWN


def test_nobody_there_is_no_error(server: Script) -> None:
    with open_session("http://127.0.0.1:9/fhir", OPEN, Patience(0)) as session:
        assert read_capability(session, "http://127.0.0.1:9/fhir") == UNKNOWN


def test_it_is_asked_for_as_fhir(server: Script) -> None:
    server.answer = lambda asked: Answer(200, statement())
    assert read(server).software == "An EHR"
    (asked,) = server.seen
    assert (asked.path, asked.headers["accept"]) == ("/fhir/metadata", "application/fhir+json")


def test_a_server_that_wants_a_token_gets_it(server: Script, tmp_path: Any) -> None:
    (tmp_path / "token").write_text("secret\n")
    server.answer = lambda asked: (
        Answer(200, statement()) if "authorization" in asked.headers else Answer(401)
    )
    with open_session(server.base, Access(bearer_file=tmp_path / "token"), Patience(0)) as session:
        assert read_capability(session, server.base).software == "An EHR"
    assert ["authorization" in asked.headers for asked in server.seen] == [False, True]
