"""The terms of an export: what was asked of each type, and what of it is new.

Changes can only be asked for of what was fetched whole before on the same terms; all else must be
fetched whole.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from exports.landing.screening import Screen
from exports.request import ExportRequest

Terms = Mapping[str, Any]


@dataclass(frozen=True)
class Plan:
    """What to fetch whole: everything (`full`), or the types in `fresh`; of the rest, changes."""

    full: bool
    fresh: frozenset[str] = frozenset()


def terms_of(request: ExportRequest, screen: Screen) -> dict[str, Any]:
    """What an export asks for and leaves out, as JSON. Under "" is what holds for all types."""
    elements: dict[str, list[str]] = {}
    for element in sorted(request.elements):
        elements.setdefault(element.rpartition(".")[0], []).append(element)
    filters: dict[str, list[str]] = {}
    for search in sorted(request.type_filters):
        filters.setdefault(search.partition("?")[0], []).append(search)
    return {
        "types": sorted(request.types),
        "filters": filters,
        "elements": elements,
        "associated_data": sorted(request.associated_data),
        "screen": screen.scope,
    }


def plan(before: Terms, now: Terms) -> Plan:
    """How to come from an export on the terms `before` to one on the terms `now`."""
    common = ("associated_data", "screen")
    if any(before[name] != now[name] for name in common) or (before["types"] and not now["types"]):
        return Plan(full=True)
    if before["elements"].get("") != now["elements"].get(""):
        return Plan(full=True)
    changed = {
        resource_type
        for name in ("filters", "elements")
        for resource_type in {*before[name], *now[name]}
        if before[name].get(resource_type) != now[name].get(resource_type)
    }
    asked = set(now["types"])
    fresh = changed & asked if asked else changed
    if before["types"]:
        fresh |= asked - set(before["types"])
    return Plan(full=True) if asked and fresh == asked else Plan(False, frozenset(fresh))


def of_types(request: ExportRequest, types: Collection[str]) -> ExportRequest:
    """The part of a request that asks for those types."""
    return replace(
        request,
        types=tuple(sorted(types)),
        type_filters=tuple(
            search for search in request.type_filters if search.partition("?")[0] in types
        ),
        elements=tuple(
            element
            for element in request.elements
            if not (of := element.rpartition(".")[0]) or of in types
        ),
    )
