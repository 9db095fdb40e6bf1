"""A FHIR server that only searches and reads, over loopback, whose answers a test can replace."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from exports.connection.transport import Patience
from exports.request import ExportRequest

PAGE = 3
FAST = Patience(retries=2, first_wait=0.01, longest_wait=0.02)
BESIDE = frozenset({"_count", "_format", "_summary", "_after"})
DATE = "Wed, 01 Jul 2026 10:00:00 GMT"


@dataclass
class SearchServer:
    """Rows by type as the text they are; `meddle` may answer instead of it."""

    rows: dict[str, list[str]] = field(default_factory=dict)
    seen: list[tuple[str, dict[str, str], str]] = field(default_factory=list)
    meddle: Callable[[Request], Response | None] = lambda request: None
    lists: bool = True
    totals: bool = True
    base: str = ""

    def request(self, **asked: Any) -> ExportRequest:
        return ExportRequest(self.base, **{"level": "patient", **asked})

    def asked(self, resource_type: str, **parameters: str) -> list[dict[str, str]]:
        """The parameters of the searches of a type, of those that have `parameters`."""
        return [
            given
            for path, given, _ in self.seen
            if path == resource_type and parameters.items() <= given.items()
        ]

    def answer(self, request: Request) -> Response:
        path = request.url.path.removeprefix("/fhir/")
        given = dict(request.query_params)
        self.seen.append((path, given, request.headers.get("authorization", "")))
        meddled = self.meddle(request)
        if meddled is not None:
            return meddled
        headers = {"Date": DATE}
        if "/" in path:
            kind, _, wanted = path.partition("/")
            found = [row for row in self.rows.get(kind, []) if orjson.loads(row)["id"] == wanted]
            return Response(found[0], headers=headers) if found else outcome(404)
        if path not in self.rows:
            return outcome(404)
        found = [row for row in self.rows[path] if self._matches(path, orjson.loads(row), given)]
        bundle: dict[str, Any] = {"resourceType": "Bundle", "type": "searchset"}
        if self.totals:
            bundle["total"] = len(found)
        if given.get("_summary") == "count":
            return JSONResponse(bundle, headers=headers)
        after = int(given.get("_after", 0))
        page = found[after : after + PAGE]
        if after + PAGE < len(found):
            # The server's own idea of its address, and of what must be quoted.
            query = "&".join(f"{k}={v}" for k, v in {**given, "_after": after + PAGE}.items())
            bundle["link"] = [
                {"relation": "next", "url": f"http://127.0.0.1:1/fhir/{path}?{query}"}
            ]
        text = orjson.dumps(bundle).decode().removesuffix("}")
        entries = ",\n".join(
            f'{{"resource": {row}, "search": {{"mode": "match"}}}}' for row in page
        )
        return Response(f'{text}, "entry": [{entries}]}}' if page else text + "}", headers=headers)

    def _matches(self, kind: str, row: dict[str, Any], given: dict[str, str]) -> bool:
        for name, value in given.items():
            if name in BESIDE:
                continue
            values = value.split(",") if self.lists or name == "_id" else [value]
            if name == "_id":
                fits = row["id"] in values
            elif name == "patient":
                fits = row["subject"]["reference"].removeprefix("Patient/") in values
            elif name == "category":
                fits = row.get("category") in values
            elif name == "_lastUpdated":
                fits = row["meta"]["lastUpdated"] > value[2:]
            else:
                raise AssertionError(name)
            if not fits:
                return False
        return True


def outcome(
    status: int, code: str = "not-found", headers: dict[str, str] | None = None
) -> Response:
    """An error that names a patient, as servers' errors do."""
    issue = {"severity": "error", "code": code, "diagnostics": "Zebediah Quux, MRN 4711-0815"}
    body = {"resourceType": "OperationOutcome", "issue": [issue]}
    return JSONResponse(body, status_code=status, headers=headers)


def observation(number: int, patient: str, value: str = "1.10", **more: Any) -> str:
    rest = "".join(f',"{name}":{orjson.dumps(given).decode()}' for name, given in more.items())
    return (
        f'{{"resourceType":"Observation","id":"o-{number}","subject":{{"reference":'
        f'"Patient/{patient}"}},"valueQuantity":{{"value":{value}}}{rest}}}'
    )
