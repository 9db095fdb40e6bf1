"""The sandbox EHR's web application: FHIR Bulk Data `$export` and FHIR search behind a login.

Source: FHIR Bulk Data Access 2.0.0 to 4.0.0-ballot.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from exports.sandbox.exporting import Exports
from exports.sandbox.files import file_response
from exports.sandbox.jobs import Jobs
from exports.sandbox.login import Door
from exports.sandbox.manner import PLAIN, Manner
from exports.sandbox.metadata import capability_statement, smart_configuration
from exports.sandbox.order import ORDER
from exports.sandbox.outcomes import FHIR_JSON, Wrong
from exports.sandbox.prepared import PreparedFiles
from exports.sandbox.search import SearchServer
from exports.sandbox.search_index import SearchIndex
from exports.sandbox.smart_server import CLOCK, Refused
from exports.sandbox.source import ExportSource

Handler = Callable[[Request], Awaitable[Response]]


class SandboxEhr:
    """The endpoints of one sandbox hospital; `app` is the ASGI application.

    `home` is the folder of its files and jobs; `root` is the URL of the server itself, and the
    FHIR base is `root`/fhir.
    """

    def __init__(
        self,
        source: ExportSource,
        home: Path,
        door: Door,
        root: str,
        manner: Manner = PLAIN,
    ) -> None:
        prepared = PreparedFiles.of(source, home / "files")
        self._source = source
        self._prepared = prepared
        self._door = door
        self._root = root
        self._manner = manner
        self._exports = Exports(source, prepared, Jobs(home / "jobs"), root, manner)
        search = SearchServer(SearchIndex(prepared, home / "search.sqlite"), f"{root}/fhir")
        self.app = Starlette(
            routes=[
                Route("/fhir/.well-known/smart-configuration", self._smart_configuration),
                Route("/fhir/metadata", self._metadata),
                Route("/token", self._token, methods=["POST"]),
                *(self._export_routes() if manner.exports else ()),
                Route("/fhir/{type}", self._guarded(search.search)),
                Route("/fhir/{type}/{id}", self._guarded(search.read)),
            ],
            exception_handlers={404: _not_found, 405: _not_found},
        )

    def _export_routes(self) -> list[Route]:
        kick_offs = ("/fhir/$export", "/fhir/Patient/$export", "/fhir/Group/{group}/$export")
        methods = ["GET", "POST"]
        return [
            *(Route(path, self._guarded(self._kick_off), methods=methods) for path in kick_offs),
            Route("/jobs/{job}", self._guarded(self._exports.status)),
            Route("/jobs/{job}", self._guarded(self._exports.delete), methods=["DELETE"]),
            Route("/jobs/{job}/pages/{page:int}", self._guarded(self._exports.status)),
            Route("/jobs/{job}/{file}", self._guarded(self._file)),
        ]

    async def _smart_configuration(self, request: Request) -> Response:
        if self._manner.login != "smart":
            return await _not_found(request)
        return JSONResponse(smart_configuration(self._root))

    async def _metadata(self, request: Request) -> Response:
        types = {file.type for file in self._prepared.files() or ()}
        date = self._source.transaction_time
        statement = capability_statement(self._root, self._manner, date, types)
        return JSONResponse(statement, media_type=FHIR_JSON)

    async def _token(self, request: Request) -> Response:
        """RFC 6749 section 5: a token, or why not."""
        body = (await request.body()).decode(errors="replace")
        try:
            granted = self._door.grant(dict(parse_qsl(body)), skew=request.scope.get(CLOCK, 0))
        except Refused as refused:
            return JSONResponse(
                {"error": refused.error, "error_description": refused.description},
                status_code=401 if refused.error == "invalid_client" else 400,
            )
        return JSONResponse(granted, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})

    async def _kick_off(self, request: Request) -> Response:
        order = await self._exports.read_order(request)
        allowed = self._door.types(request.headers.get("authorization", ""))
        if allowed is not None:
            if set(order.types) - allowed:
                raise Wrong(403, "forbidden", "The token's scopes don't cover every type in _type.")
            order = replace(order, types=order.types or tuple(sorted(allowed)))
        return self._exports.accept(request, replace(order, **request.scope.get(ORDER, {})))

    async def _file(self, request: Request) -> Response:
        path = self._exports.path(request.path_params["job"], request.path_params["file"])
        return file_response(request, path)

    def _guarded(self, handler: Handler) -> Handler:
        @wraps(handler)
        async def guarded(request: Request) -> Response:
            if not self._door.knows(request.headers.get("authorization", "")):
                challenge = {"WWW-Authenticate": self._door.challenge}
                return Wrong(401, "login", "Good credentials are needed.", challenge).answer()
            try:
                return await handler(request)
            except Wrong as wrong:
                return wrong.answer()

        return guarded


async def _not_found(request: Request, fault: Exception | None = None) -> Response:
    return Wrong(404, "not-found", "There is nothing here.").answer()
