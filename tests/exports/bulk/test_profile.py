"""Profiles are data: read strictly, each habit with its reason, recognised by the statement."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from exports.bulk.capability import UNKNOWN, capability_of
from exports.bulk.profile import FOLDER, load_profile, profile_for, profile_names, read_profile
from exports.errors import FhirloomError
from exports.request import ExportRequest


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        ({"software": {"name": "Epic"}}, "epic"),
        ({"publisher": "Oracle Health"}, "oracle-health"),
        ({"implementation": {"description": "Cerner Millennium R4"}}, "oracle-health"),
        ({"publisher": "athenahealth"}, "athenahealth"),
        ({"software": {"name": "HAPI FHIR Server", "version": "7.4.0"}}, "hapi"),
        ({"software": {"name": "fhirloom sandbox EHR"}}, "generic"),
        ({"software": {"name": "Epicurus"}}, "generic"),
        ({}, "generic"),
    ],
)
def test_a_server_is_known_by_its_statement(statement: dict[str, object], name: str) -> None:
    assert profile_for(capability_of(statement)).name == name


def test_the_operator_has_the_last_word() -> None:
    assert profile_for(capability_of({"software": {"name": "Epic"}}), "hapi").name == "hapi"
    with pytest.raises(FhirloomError, match="no vendor profile nobody") as raised:
        profile_for(UNKNOWN, "nobody")
    assert raised.value.code == "bad-input"
    assert "athenahealth, epic, generic, hapi, oracle-health" in raised.value.fix


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.json")), ids=lambda path: path.stem)
def test_every_habit_has_a_reason(path: Path) -> None:
    told = orjson.loads(path.read_bytes())
    assert len(told.pop("title")) > 2
    assert all(len(habit["why"]) > 10 for habit in told.values())
    profile = load_profile(path.stem)
    floor, ceiling = profile.poll_seconds
    assert 0.2 <= floor <= 10 <= ceiling <= 600
    assert profile.levels
    assert not profile.rejects & profile.ignores


def test_there_are_profiles_of_the_vendors() -> None:
    assert set(profile_names()) == {"athenahealth", "epic", "generic", "hapi", "oracle-health"}
    assert load_profile("athenahealth").scope_style == "per-type v1"
    assert load_profile("epic").scope_style == "per-type"


KNOWN = {"is": ["x"], "why": "because"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"title": "X"},
        {"title": "X", "known_by": KNOWN, "colour": 1},
        {"title": "X", "known_by": {"is": ["x"]}},
        {"title": "X", "known_by": KNOWN, "levels": {"is": ["ward"], "why": "because"}},
        {"title": "X", "known_by": KNOWN, "rejects": {"is": ["_x"], "why": "because"}},
        {"title": "X", "known_by": KNOWN, "one_job": {"is": True, "why": "b", "since": "2020"}},
        [],
        "{",
    ],
    ids=str,
)
def test_a_profile_that_is_not_as_it_should_be_is_refused(wrong: object) -> None:
    with pytest.raises(FhirloomError) as raised:
        read_profile("x", orjson.dumps(wrong))
    assert raised.value.code == "bad-input"


def test_what_a_profile_does_not_mention_is_as_everywhere() -> None:
    profile = read_profile("x", orjson.dumps({"title": "X", "known_by": KNOWN}))
    generic = load_profile("generic")
    assert (profile.levels, profile.lists) == (generic.levels, generic.lists)


def test_a_level_that_a_vendor_lacks_is_refused_with_those_that_it_has() -> None:
    request = ExportRequest("https://ehr.example/fhir")
    with pytest.raises(FhirloomError, match="no system export, only patient and group") as raised:
        load_profile("oracle-health").check(request)
    assert raised.value.code == "bad-input"
    load_profile("oracle-health").check(ExportRequest("https://ehr.example/fhir", level="patient"))
