"""The sandbox EHR's web application: FHIR Bulk Data `$export` behind SMART Backend Services.

Source: FHIR Bulk Data Access STU2 (v2.0.0); OperationOutcome codes of FHIR R4 (issue-type).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Final
from urllib.parse import parse_qsl

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from exports.delivery import file_chunks
from exports.ndjson import unpack
from exports.resource_types import RESOURCE_TYPES
from exports.sandbox.jobs import Jobs, PreparedFiles, ServerJob
from exports.sandbox.smart_server import ALGORITHMS, SCOPES, Authorizer, Refused
from exports.sandbox.source import ExportSource

GROUP: Final = "all"
NDJSON: Final = "application/fhir+ndjson"
FHIR_JSON: Final = "application/fhir+json"
OUTPUT_FORMATS: Final = frozenset({NDJSON, "application/ndjson", "ndjson"})
PARAMETERS: Final = frozenset({"_type", "_since", "_outputFormat"})

Handler = Callable[[Request], Awaitable[Response]]


def outcome(status: int, code: str, diagnostics: str) -> Response:
    """An error as FHIR tells it."""
    issue = {"severity": "error", "code": code, "diagnostics": diagnostics}
    return JSONResponse(
        {"resourceType": "OperationOutcome", "issue": [issue]},
        status_code=status,
        media_type=FHIR_JSON,
    )


class SandboxEhr:
    """The endpoints of one sandbox hospital; `app` is the ASGI application.

    `root` is the URL of the server itself; the FHIR base is `root`/fhir. `retry_after` (seconds)
    is what a client that polls is told to wait.
    """

    def __init__(
        self,
        source: ExportSource,
        prepared: PreparedFiles,
        jobs: Jobs,
        authorizer: Authorizer,
        root: str,
        *,
        retry_after: int = 1,
    ) -> None:
        self._source = source
        self._prepared = prepared
        self._jobs = jobs
        self._authorizer = authorizer
        self._root = root
        self._retry_after = retry_after
        kick_offs = ("/fhir/$export", "/fhir/Patient/$export", "/fhir/Group/{group}/$export")
        self.app = Starlette(
            routes=[
                Route("/fhir/.well-known/smart-configuration", self.smart_configuration),
                Route("/fhir/metadata", self.metadata),
                Route("/token", self.token, methods=["POST"]),
                *(Route(path, self._guarded(self.kick_off)) for path in kick_offs),
                Route("/jobs/{job}", self._guarded(self.status)),
                Route("/jobs/{job}", self._guarded(self.delete), methods=["DELETE"]),
                Route("/jobs/{job}/{file}", self._guarded(self.file)),
            ],
            exception_handlers={404: _not_found, 405: _not_found},
        )

    async def smart_configuration(self, request: Request) -> Response:
        """SMART App Launch 2.2, "Discovery"."""
        return JSONResponse(
            {
                "token_endpoint": f"{self._root}/token",
                "grant_types_supported": ["client_credentials"],
                "token_endpoint_auth_methods_supported": ["private_key_jwt"],
                "token_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
                "scopes_supported": list(SCOPES),
                "capabilities": [
                    "client-confidential-asymmetric",
                    "permission-v1",
                    "permission-v2",
                ],
            }
        )

    async def metadata(self, request: Request) -> Response:
        """The CapabilityStatement: what can be exported, and how."""
        definition = "http://hl7.org/fhir/uv/bulkdata/OperationDefinition"

        def operation(level: str) -> dict[str, str]:
            return {"name": "export", "definition": f"{definition}/{level}-export"}

        return JSONResponse(
            {
                "resourceType": "CapabilityStatement",
                "status": "active",
                "date": self._source.transaction_time.isoformat(),
                "kind": "instance",
                "software": {"name": "fhirloom sandbox EHR"},
                "implementation": {"description": "Synthetic data", "url": f"{self._root}/fhir"},
                "fhirVersion": "4.0.1",
                "format": ["json"],
                "instantiates": ["http://hl7.org/fhir/uv/bulkdata/CapabilityStatement/bulk-data"],
                "rest": [
                    {
                        "mode": "server",
                        "resource": [
                            {"type": "Patient", "operation": [operation("patient")]},
                            {"type": "Group", "operation": [operation("group")]},
                        ],
                        "operation": [{"name": "export", "definition": f"{definition}/export"}],
                    }
                ],
            },
            media_type=FHIR_JSON,
        )

    async def token(self, request: Request) -> Response:
        """RFC 6749 section 5: a token, or why not."""
        body = (await request.body()).decode(errors="replace")
        try:
            granted = self._authorizer.grant(dict(parse_qsl(body)))
        except Refused as refused:
            return JSONResponse(
                {"error": refused.error, "error_description": refused.description},
                status_code=401 if refused.error == "invalid_client" else 400,
            )
        return JSONResponse(granted, headers={"Cache-Control": "no-store", "Pragma": "no-cache"})

    async def kick_off(self, request: Request) -> Response:
        """Accept an export, or say what is wrong with it."""
        wrong = self._wrong_with(request)
        if wrong is not None:
            return wrong
        types = tuple(request.query_params.get("_type", "").split(","))
        job = self._jobs.create(str(request.url), tuple(filter(None, types)))
        self._prepared.start()
        return Response(
            status_code=202, headers={"Content-Location": f"{self._root}/jobs/{job.id}"}
        )

    async def status(self, request: Request) -> Response:
        """202 while the files are being made, then the manifest."""
        job = self._job(request)
        if job is None:
            return outcome(404, "not-found", "There is no such job.")
        if self._prepared.failed:
            return outcome(500, "exception", "The files could not be made.")
        files = self._prepared.files()
        if files is None:
            self._prepared.start()
            headers = {
                "X-Progress": f"{self._prepared.percent}% prepared",
                "Retry-After": str(self._retry_after),
            }
            return Response(status_code=202, headers=headers)
        return JSONResponse(
            {
                "transactionTime": self._source.transaction_time.isoformat(),
                "request": job.request,
                "requiresAccessToken": True,
                "output": [
                    {
                        "type": file.type,
                        "url": f"{self._root}/jobs/{job.id}/{file.name}",
                        "count": file.rows,
                    }
                    for file in files
                    if not job.types or file.type in job.types
                ],
                "error": [],
                "deleted": [],
            }
        )

    async def delete(self, request: Request) -> Response:
        """Bulk Data Delete Request."""
        job = self._job(request)
        if job is None:
            return outcome(404, "not-found", "There is no such job.")
        self._jobs.delete(job)
        return Response(status_code=202)

    async def file(self, request: Request) -> Response:
        """One file of a job: as it lies where the client takes gzip, else unpacked."""
        job, name = self._job(request), request.path_params["file"]
        known = {file.name for file in self._prepared.files() or ()}
        if job is None or name not in known:
            return outcome(404, "not-found", "There is no such file.")
        path = self._prepared.path(name)
        if "gzip" in request.headers.get("accept-encoding", ""):
            return FileResponse(path, media_type=NDJSON, headers={"Content-Encoding": "gzip"})
        return StreamingResponse(unpack(file_chunks(path)), media_type=NDJSON)

    def _wrong_with(self, request: Request) -> Response | None:
        query = request.query_params
        if "respond-async" not in request.headers.get("prefer", ""):
            return outcome(400, "required", "The header Prefer: respond-async is missing.")
        if FHIR_JSON not in request.headers.get("accept", ""):
            return outcome(406, "not-supported", f"The header Accept: {FHIR_JSON} is missing.")
        if unknown := sorted(set(query) - PARAMETERS):
            return outcome(400, "not-supported", f"No parameter {unknown[0]} here.")
        if query.get("_outputFormat", NDJSON) not in OUTPUT_FORMATS:
            return outcome(400, "not-supported", "Only NDJSON is exported.")
        if "_since" in query:
            return outcome(400, "not-supported", "The sandbox exports whole snapshots only.")
        types = set(filter(None, query.get("_type", "").split(",")))
        if types - RESOURCE_TYPES:
            return outcome(400, "invalid", "_type names an unknown resource type.")
        if request.path_params.get("group", GROUP) != GROUP:
            return outcome(404, "not-found", f"The only group is {GROUP}.")
        return None

    def _job(self, request: Request) -> ServerJob | None:
        return self._jobs.get(request.path_params["job"])

    def _guarded(self, handler: Handler) -> Handler:
        @wraps(handler)
        async def guarded(request: Request) -> Response:
            if not self._authorizer.knows(request.headers.get("authorization", "")):
                refused = outcome(401, "login", "A good access token is needed.")
                refused.headers["WWW-Authenticate"] = "Bearer"
                return refused
            return await handler(request)

        return guarded


async def _not_found(request: Request, fault: Exception) -> Response:
    return outcome(404, "not-found", "There is nothing here.")
