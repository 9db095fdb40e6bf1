"""FHIR search and read: for clients of a server that exports nothing.

Source: FHIR R4, "Search" (searchset Bundles, `total`, paging by `next` links) and "read".
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any, Final
from urllib.parse import urlencode

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from exports.resource_types import RESOURCE_TYPES
from exports.sandbox.cohort import GROUPS
from exports.sandbox.outcomes import FHIR_JSON, Wrong
from exports.sandbox.queries import UnknownQuery, read_query
from exports.sandbox.search_index import SearchIndex

DEFAULT_COUNT: Final = 100
LARGEST_COUNT: Final = 1000
AFTER: Final = "_after"
SHAPE: Final = frozenset({"_count", "_format", "_summary", "_total", AFTER})
PATIENT: Final = frozenset({"patient", "subject"})

Line = tuple[int, bytes]


class SearchServer:
    """The search and read endpoints below `base`."""

    def __init__(self, index: SearchIndex, base: str) -> None:
        self._index = index
        self._base = base

    async def search(self, request: Request) -> Response:
        """`GET <Type>?...`. Raises `Wrong`."""
        return await run_in_threadpool(self._search, request)

    async def read(self, request: Request) -> Response:
        """`GET <Type>/<id>`. Raises `Wrong`."""
        resource_type, resource_id = request.path_params["type"], request.path_params["id"]
        line = await run_in_threadpool(self._read, resource_type, resource_id)
        return Response(line, media_type=FHIR_JSON)

    def _read(self, resource_type: str, resource_id: str) -> bytes:
        if resource_type == "Group" and resource_id in GROUPS:
            return orjson.dumps(self._group(resource_id))
        line = self._index.read(resource_type, resource_id)
        if line is None:
            raise Wrong(404, "not-found", "There is no such resource.")
        return line

    def _group(self, group: str) -> dict[str, Any]:
        members = [
            {"entity": {"reference": f"Patient/{patient}"}}
            for patient in self._index.patients()
            if GROUPS[group](patient)
        ]
        return {
            "resourceType": "Group",
            "id": group,
            "type": "person",
            "actual": True,
            "name": group,
            "quantity": len(members),
            "member": members,
        }

    def _search(self, request: Request) -> Response:
        resource_type = request.path_params["type"]
        if resource_type not in RESOURCE_TYPES:
            raise Wrong(404, "not-supported", "There is no such resource type.")
        pairs = request.query_params.multi_items()
        count, after = _number(request, "_count", DEFAULT_COUNT), _number(request, AFTER, 0)
        patients, criteria = _split(resource_type, pairs)
        if resource_type == "Group":
            groups = [orjson.dumps(self._group(group)) for group in GROUPS]
            return self._bundle(request, list(enumerate(groups, start=1)), len(groups), False)
        try:
            lets_through = read_query(resource_type, criteria)
        except UnknownQuery as unknown:
            raise Wrong(400, "not-supported", f"{unknown}.") from None

        def found(behind: int) -> Iterator[Line]:
            lines = self._index.lines(resource_type, patients, behind)
            if not criteria:
                return lines
            return (line for line in lines if lets_through(orjson.loads(line[1])))

        total = sum(1 for _ in found(0)) if criteria else self._index.count(resource_type, patients)
        if request.query_params.get("_summary") == "count" or count == 0:
            return self._bundle(request, [], total, False)
        page = list(islice(found(after), min(count, LARGEST_COUNT) + 1))
        more = len(page) > min(count, LARGEST_COUNT)
        return self._bundle(request, page[:-1] if more else page, total, more)

    def _bundle(self, request: Request, page: list[Line], total: int, more: bool) -> Response:
        own = f"{self._base}/{request.path_params['type']}"
        links = [{"relation": "self", "url": f"{own}?{request.url.query}"}]
        if more:
            pairs = [pair for pair in request.query_params.multi_items() if pair[0] != AFTER]
            query = urlencode([*pairs, (AFTER, str(page[-1][0]))])
            links.append({"relation": "next", "url": f"{own}?{query}"})
        bundle = {
            "resourceType": "Bundle",
            "type": "searchset",
            "total": total,
            "link": links,
            "entry": [
                {"resource": orjson.Fragment(line), "search": {"mode": "match"}} for _, line in page
            ],
        }
        return Response(orjson.dumps(bundle), media_type=FHIR_JSON)


def _split(
    resource_type: str, pairs: list[tuple[str, str]]
) -> tuple[tuple[str, ...], list[tuple[str, str]]]:
    """The one criterion that the index answers by itself, and the others."""
    patients: tuple[str, ...] = ()
    criteria = []
    for name, value in pairs:
        if name in PATIENT and resource_type != "Patient" and not patients:
            patients = tuple(each.rpartition("/")[2] for each in value.split(","))
        elif name not in SHAPE:
            criteria.append((name, value))
    return patients, criteria


def _number(request: Request, name: str, default: int) -> int:
    text = request.query_params.get(name, str(default))
    if not text.isascii() or not text.isdigit():
        raise Wrong(400, "invalid", f"{name} is no number.")
    return int(text)
