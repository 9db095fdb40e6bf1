"""A FHIR server that remembers every version: it exports what it holds at its own clock's time.

Small and of its own: it shares nothing with the sandbox, nor with the client.
"""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from exports.request import ExportRequest

BEGINNING = datetime(2026, 1, 1, tzinfo=UTC)
PAGE = 3
Key = tuple[str, str]
Content = dict[str, Any]


@dataclass
class Hospital:
    """What the server holds, and its manners; tests change it while it is being served.

    `history` has each resource's versions as (moment, content or None where it was deleted).
    """

    now: datetime = BEGINNING
    history: defaultdict[Key, list[tuple[datetime, Content | None]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    groups: dict[str, set[str]] = field(default_factory=dict)
    reports_deletions: bool = True
    tells_updates: bool = True
    repeats: bool = False
    loses_files: bool = False
    refuses: frozenset[str] = frozenset()
    asked: list[dict[str, str]] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)

    def tick(self, **passed: float) -> None:
        self.now += timedelta(**passed or {"seconds": 1})

    def put(self, resource_type: str, resource_id: str, **elements: Any) -> None:
        meta = {"meta": {"lastUpdated": self.now.isoformat()}} if self.tells_updates else {}
        content = {"resourceType": resource_type, "id": resource_id, **meta, **elements}
        self.history[resource_type, resource_id].append((self.now, content))

    def delete(self, resource_type: str, resource_id: str) -> None:
        if self.current.get((resource_type, resource_id)):
            self.history[resource_type, resource_id].append((self.now, None))

    @property
    def current(self) -> dict[Key, Content]:
        """All that stands."""
        last = {key: versions[-1][1] for key, versions in self.history.items()}
        return {key: content for key, content in last.items() if content is not None}

    def export(self, level: str, group: str, asked: dict[str, str]) -> dict[str, Any]:
        """Take a snapshot for one export, and return its manifest's parts: lines by file."""
        since = datetime.fromisoformat(asked["_since"]) if "_since" in asked else None
        types = set(asked["_type"].split(",")) if asked.get("_type") else None
        patients = None if level == "system" else {i for t, i in self.history if t == "Patient"}
        if group:
            patients = set(self.groups[group])
        if asked.get("patient"):
            named = {name.removeprefix("Patient/") for name in asked["patient"].split(",")}
            patients = (patients or set()) & named
        rows: defaultdict[str, list[bytes]] = defaultdict(list)
        deleted = []
        for (resource_type, resource_id), versions in self.history.items():
            moment, content = versions[-1]
            if types is not None and resource_type not in types:
                continue
            if since is not None and moment <= since:
                continue
            known = next(content for _, content in reversed(versions) if content is not None)
            if patients is not None and owner(known) not in patients:
                continue
            if content is None:
                deleted.append(f"{resource_type}/{resource_id}")
            else:
                row = orjson.dumps(narrowed(content, asked.get("_elements", "")))
                rows[resource_type] += [row, row] if self.repeats else [row]
        return {"rows": rows, "deleted": deleted if since is not None else []}


def owner(content: Content) -> str:
    if content["resourceType"] == "Patient":
        return str(content["id"])
    return str(content.get("subject", {}).get("reference", "")).removeprefix("Patient/")


def narrowed(content: Content, elements: str) -> Content:
    if not elements:
        return content
    return {
        name: value
        for name, value in content.items()
        if name in {"resourceType", "id", "meta", *elements.split(",")}
    }


class VersionedEhr:
    """Hospitals by name, each at `<root>/<name>/fhir`."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.hospitals: dict[str, Hospital] = {}
        self.app = Starlette(
            routes=[
                Route("/{name}/fhir/$export", self._kick_off, methods=["GET", "POST"]),
                Route("/{name}/fhir/Patient/$export", self._kick_off, methods=["GET", "POST"]),
                Route(
                    "/{name}/fhir/Group/{group}/$export", self._kick_off, methods=["GET", "POST"]
                ),
                Route("/{name}/jobs/{job}", self._status, methods=["GET", "DELETE"]),
                Route("/{name}/files/{file:path}", self._file),
            ]
        )

    def open(self, hospital: Hospital, **asked: Any) -> ExportRequest:
        """Serve a hospital from now on; the request for it."""
        name = f"h{len(self.hospitals)}"
        self.hospitals[name] = hospital
        return ExportRequest(f"{self.root}/{name}/fhir", **asked)

    async def _kick_off(self, request: Request) -> Response:
        name, group = request.path_params["name"], request.path_params.get("group", "")
        hospital = self.hospitals[name]
        pairs = parse_qsl(request.url.query)
        if request.method == "POST":
            for parameter in orjson.loads(await request.body())["parameter"]:
                (value,) = [parameter[key] for key in parameter if key.startswith("value")]
                told = value["reference"] if isinstance(value, dict) else str(value)
                pairs.append((parameter["name"], told))
        asked: dict[str, str] = {}
        for key, value in pairs:
            asked[key] = f"{asked[key]},{value}" if key in asked else value
        asked.pop("_outputFormat", None)
        level = "group" if group else "patient" if "/Patient/" in request.url.path else "system"
        hospital.asked.append({"level": level, **asked})
        if hospital.refuses & set(asked) or (group and group not in hospital.groups):
            return JSONResponse({"resourceType": "OperationOutcome", "issue": []}, 400)
        job = f"j{len(hospital.jobs)}"
        snapshot = hospital.export(level, group, asked)
        output = []
        for resource_type, rows in snapshot["rows"].items():
            for page, start in enumerate(range(0, len(rows), PAGE)):
                lines = rows[start : start + PAGE]
                url = self._store(name, f"{job}/{resource_type}-{page}", lines)
                output.append({"type": resource_type, "url": url, "count": len(lines)})
        manifest = {
            "transactionTime": hospital.now.isoformat(),
            "request": str(request.url),
            "requiresAccessToken": False,
            "output": output,
            "error": [],
        }
        if hospital.reports_deletions:
            entries = [{"request": {"method": "DELETE", "url": url}} for url in snapshot["deleted"]]
            bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}
            url = self._store(name, f"{job}/deleted", [orjson.dumps(bundle)])
            manifest["deleted"] = [{"type": "Bundle", "url": url, "count": 1}] if entries else []
        hospital.jobs[job] = manifest
        return Response(
            status_code=202, headers={"Content-Location": f"{self.root}/{name}/jobs/{job}"}
        )

    def _store(self, name: str, file: str, lines: list[bytes]) -> str:
        self.hospitals[name].files[file] = b"\n".join(lines) + b"\n"
        return f"{self.root}/{name}/files/{file}"

    async def _status(self, request: Request) -> Response:
        hospital = self.hospitals[request.path_params["name"]]
        if request.method == "DELETE":
            return Response(status_code=202)
        manifest = hospital.jobs.get(request.path_params["job"])
        return Response(status_code=404) if manifest is None else JSONResponse(manifest)

    async def _file(self, request: Request) -> Response:
        hospital = self.hospitals[request.path_params["name"]]
        if hospital.loses_files:
            return Response(status_code=500)
        content = hospital.files[request.path_params["file"]]
        return Response(
            gzip.compress(content, mtime=0),
            media_type="application/fhir+ndjson",
            headers={"Content-Encoding": "gzip"},
        )


@contextmanager
def served() -> Iterator[VersionedEhr]:
    """A server of its own, in a thread, until the block ends."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    ehr = VersionedEhr(f"http://127.0.0.1:{listener.getsockname()[1]}")
    config = uvicorn.Config(ehr.app, log_level="critical", lifespan="off", access_log=False)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield ehr
    finally:
        server.force_exit = server.should_exit = True
        thread.join()
