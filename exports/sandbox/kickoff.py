"""Reading a kick-off request, GET or POST, into an order, or telling what is wrong with it.

Source: FHIR Bulk Data Access 2.0.0 to 4.0.0-ballot, "Bulk Data Kick-off Request"; RFC 7240 for
`Prefer`. The ballot has POST only; here GET goes on, and the fault `post-only` ends it.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, Final

import orjson
from starlette.requests import Request

from exports.resource_types import RESOURCE_TYPES
from exports.sandbox.cohort import GROUPS
from exports.sandbox.manner import Version
from exports.sandbox.order import LISTS, PARAMETERS, ExportOrder, Level
from exports.sandbox.outcomes import FHIR_JSON, Wrong
from exports.sandbox.queries import UnknownQuery, read_type_filter

OUTPUT_FORMATS: Final = frozenset({"application/fhir+ndjson", "application/ndjson", "ndjson"})
PROVENANCE: Final = frozenset({"LatestProvenanceResources", "RelevantProvenanceResources"})
NEXT_FILTER: Final = re.compile(r",(?=[A-Z][A-Za-z]+\?)")

Given = dict[str, list[str]]


async def read_order(request: Request, version: Version) -> ExportOrder:
    """What the request orders. Raises `Wrong`."""
    preferences = set(re.split(r"[,;]\s*", request.headers.get("prefer", "")))
    if "respond-async" not in preferences:
        raise Wrong(400, "required", "The header Prefer: respond-async is missing.")
    if FHIR_JSON not in request.headers.get("accept", ""):
        raise Wrong(406, "not-supported", f"The header Accept: {FHIR_JSON} is missing.")
    given = _from_query(request) if request.method == "GET" else await _from_body(request)
    unknown = sorted(given.keys() - PARAMETERS[version])
    if unknown and "handling=lenient" not in preferences:
        raise Wrong(400, "not-supported", f"No parameter {unknown[0]} here.")
    for name in unknown:
        del given[name]
    if repeated := sorted(name for name in given.keys() - LISTS if len(given[name]) > 1):
        raise Wrong(400, "invalid", f"{repeated[0]} is given more than once.")
    group = request.path_params.get("group", "")
    order = ExportOrder(
        level=_level(request),
        group=group,
        types=_listed(given, "_type"),
        since=_instant(given, "_since"),
        until=_instant(given, "_until"),
        filters=tuple(
            part for text in given.get("_typeFilter", []) for part in NEXT_FILTER.split(text)
        ),
        elements=_listed(given, "_elements"),
        patients=tuple(text.rpartition("Patient/")[2] for text in given.get("patient", [])),
        associated=_listed(given, "includeAssociatedData"),
        organize_by=given.get("organizeOutputBy", [""])[0],
        partial=given.get("allowPartialManifests", ["false"])[0] == "true",
        separate_status=version == "STU4" and "separate-export-status" in preferences,
        ignored=tuple(unknown),
    )
    if given.get("_outputFormat", ["ndjson"])[0] not in OUTPUT_FORMATS:
        raise Wrong(400, "not-supported", "Only NDJSON is exported.")
    _check(order, by_query=request.method == "GET")
    return order


def _check(order: ExportOrder, *, by_query: bool) -> None:
    if set(order.types) - RESOURCE_TYPES:
        raise Wrong(400, "invalid", "_type names an unknown resource type.")
    if order.group and order.group not in GROUPS:
        raise Wrong(404, "not-found", f"The groups are {' and '.join(GROUPS)}.")
    if order.patients and order.level == "system":
        raise Wrong(400, "invalid", "A system export can't be narrowed to patients.")
    if order.patients and by_query:
        raise Wrong(400, "invalid", "The parameter patient is for POST requests.")
    if order.organize_by not in ("", "Patient"):
        raise Wrong(400, "not-supported", "Output is organized by type or by Patient.")
    if set(order.associated) - PROVENANCE:
        raise Wrong(400, "not-supported", "There is no such associated data.")
    try:
        for text in order.filters:
            read_type_filter(text)
    except UnknownQuery as unknown:
        raise Wrong(400, "not-supported", f"_typeFilter: {unknown}.") from None


def _level(request: Request) -> Level:
    if "group" in request.path_params:
        return "group"
    return "patient" if request.url.path.endswith("/Patient/$export") else "system"


def _from_query(request: Request) -> Given:
    given: Given = {}
    for name, value in request.query_params.multi_items():
        given.setdefault(name, []).append(value)
    return given


async def _from_body(request: Request) -> Given:
    try:
        body = orjson.loads(await request.body())
        if body["resourceType"] != "Parameters":
            raise ValueError("another resource")
        given: Given = {}
        for parameter in body.get("parameter", []):
            given.setdefault(parameter["name"], []).append(_value(parameter))
    except (LookupError, TypeError, ValueError, AttributeError):
        raise Wrong(400, "structure", "The body is no Parameters resource.") from None
    return given


def _value(parameter: dict[str, Any]) -> str:
    (value,) = (each for name, each in parameter.items() if name.startswith("value"))
    if isinstance(value, bool):
        return str(value).lower()
    return str(value["reference"] if isinstance(value, dict) else value)


def _listed(given: Given, name: str) -> tuple[str, ...]:
    texts = given.get(name, [])
    return tuple(part.strip() for text in texts for part in text.split(",") if part.strip())


def _instant(given: Given, name: str) -> str:
    text = given.get(name, [""])[0]
    if not text:
        return ""
    try:
        if datetime.fromisoformat(text).tzinfo is None:
            raise ValueError("no zone")
    except ValueError:
        raise Wrong(400, "invalid", f"{name} is no instant with its zone.") from None
    return text
