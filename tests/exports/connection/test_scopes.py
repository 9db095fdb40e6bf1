"""Scopes: none that a server doesn't list, no more than reading, and what was granted of them."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exports.connection.scopes import propose, unreadable
from exports.resource_types import RESOURCE_TYPES

V1_PER_TYPE = ("system/Observation.read", "system/Patient.read")
V2_PER_TYPE = ("system/Observation.rs", "system/Patient.rs")
TYPES = ("Patient", "Observation")


def asked(*arguments: object, **more: object) -> list[tuple[str, ...]]:
    return [proposal.scopes for proposal in propose(*arguments, **more)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("supported", "first"),
    [
        (["system/*.rs", "system/*.read"], ("system/*.rs",)),
        (["system/*.read", "openid"], ("system/*.read",)),
        (["system/*.cruds"], ("system/*.rs",)),
        (["system/*.*"], ("system/*.read",)),
        (["system/*.r", "system/*.s"], ("system/*.r", "system/*.s")),
        ([*V2_PER_TYPE, "system/Group.rs"], V2_PER_TYPE),
        ([*V1_PER_TYPE, "system/Group.read"], V1_PER_TYPE),
        ([*V1_PER_TYPE, "system/Patient.rs"], V1_PER_TYPE),
        ([*V1_PER_TYPE, *V2_PER_TYPE], V2_PER_TYPE),
        (["system/Patient.rs", "system/*.read"], ("system/*.read",)),
        (["system/Patient.rs", "user/*.rs"], ("system/Patient.rs",)),
    ],
    ids=str,
)
def test_what_a_server_lists_is_asked_for(supported: list[str], first: tuple[str, ...]) -> None:
    assert asked(TYPES, supported)[0] == first


def test_a_server_that_lists_nothing_useful_is_asked_for_nothing() -> None:
    assert asked(TYPES, ["system/Encounter.read", "system/Patient.write", "system/Patient.c"]) == []


@pytest.mark.parametrize("supported", [[], ["openid", "launch", "patient/*.read", "user/*.rs"]])
def test_a_server_that_lists_no_system_scope_is_asked_in_order(supported: list[str]) -> None:
    order = [("system/*.rs",), ("system/*.read",), V2_PER_TYPE, V1_PER_TYPE]
    assert asked(TYPES, supported) == order
    assert asked((), supported) == order[:2]
    both = ["permission-v1", "permission-v2"]
    assert asked(TYPES, supported, both) == order
    old = [("system/*.read",), ("system/*.rs",), V1_PER_TYPE, V2_PER_TYPE]
    assert asked(TYPES, supported, ["permission-v1"]) == old


@pytest.mark.parametrize(
    ("style", "first"),
    [
        ("wildcard", ("system/*.rs",)),
        ("wildcard v1", ("system/*.read",)),
        ("per-type", V2_PER_TYPE),
        ("per-type v1", V1_PER_TYPE),
        ("v1", ("system/*.read",)),
        ("v2", ("system/*.rs",)),
    ],
)
def test_a_vendor_s_habit_goes_first(style: str, first: tuple[str, ...]) -> None:
    proposals = asked(TYPES, style=style)
    assert proposals[0] == first
    assert sorted(proposals) == sorted(asked(TYPES))


def test_a_habit_never_asks_for_what_is_not_listed() -> None:
    assert asked(TYPES, ["system/*.rs"], style="per-type v1") == [("system/*.rs",)]


def test_without_types_every_listed_one_is_asked_for() -> None:
    assert asked((), [*V1_PER_TYPE, "system/Group.read"]) == [("system/Group.read", *V1_PER_TYPE)]


SCOPES = st.builds(
    "system/{}.{}".format,
    st.sampled_from(["*", "Patient", "Observation", "Group"]),
    st.sampled_from(["read", "write", "*", "rs", "r", "s", "cruds", "c", "d"]),
)
CHOSEN = st.lists(st.sampled_from(sorted(RESOURCE_TYPES)), unique=True, max_size=4)
STYLES = st.sampled_from(["", "wildcard", "per-type", "v1", "per-type v1", "wildcard v2"])


@given(CHOSEN, st.lists(SCOPES, min_size=1), STYLES)
def test_nothing_unlisted_and_nothing_but_reading_is_ever_asked_for(
    types: list[str], supported: list[str], style: str
) -> None:
    for proposal in propose(types, supported, style=style):
        assert proposal.scopes
        for scope in proposal.scopes:
            type_, _, permission = scope.removeprefix("system/").partition(".")
            wider = {f"system/{type_}.cruds", f"system/{type_}.*"}
            assert scope in supported or wider & set(supported)
            assert re.fullmatch("read|rs|r|s", permission)
            assert type_ == "*" or not types or type_ in types


@given(CHOSEN)
def test_what_is_asked_for_and_granted_is_readable(types: list[str]) -> None:
    for proposal in propose(types):
        assert unreadable(proposal.scopes, types) == ()


@pytest.mark.parametrize(
    ("granted", "missing"),
    [
        (["system/*.rs"], ()),
        (["system/*.read"], ()),
        (["system/*.cruds"], ()),
        (["system/Patient.read"], ("Observation",)),
        (["system/Patient.rs", "system/Observation.r"], ("Observation",)),
        (["system/Patient.rs", "system/Observation.r", "system/Observation.s"], ()),
        (["system/*.r", "system/Patient.s"], ("Observation",)),
        (["system/Patient.rs", "system/Observation.rs?category=laboratory"], ("Observation",)),
        (["system/*.write", "user/*.rs", "nonsense"], ("Observation", "Patient")),
        ([], ("Observation", "Patient")),
    ],
    ids=str,
)
def test_types_that_the_granted_scopes_leave_out_are_found(
    granted: list[str], missing: tuple[str, ...]
) -> None:
    assert unreadable(granted, TYPES) == missing
