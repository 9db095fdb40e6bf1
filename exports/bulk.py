"""A FHIR Bulk Data export, from kick-off to a sealed landing zone.

Source: FHIR Bulk Data Access STU2 (v2.0.0), "Request Flow". Killed at any moment and started
again, it continues: the job's status URL is on the disk before the first poll, and each file is
recorded once it is whole.
"""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import httpx
import orjson

from exports.download import Downloaded, download
from exports.errors import FhirloomError
from exports.job import ExportJob, JobRecord
from exports.landing import Arrival, LandingZone, find_landing, seal_landing
from exports.manifest import ExportManifest, absolute_url, read_manifest
from exports.progress import Progress, silent
from exports.request import ExportRequest
from exports.sealed import hash_json
from exports.session import Session, open_session
from exports.transport import Patience, retry_after

GONE: Final = frozenset({404, 410})
FHIR_JSON: Final = {"Accept": "application/fhir+json"}
PERCENT: Final = re.compile(r"(\d{1,3})(?:\.\d+)?\s*%")
DEFAULT_PATIENCE: Final = Patience()


def export(
    request: ExportRequest,
    phi: Path,
    *,
    fresh: bool = False,
    patience: Patience = DEFAULT_PATIENCE,
    progress: Progress = silent,
) -> LandingZone:
    """Export what `request` asks for into `phi/landing`, and make it the current landing zone.

    The same request again gives the landing zone that it gave before, without asking the server,
    and continues a job that was stopped; `fresh` asks anew in both cases. Raises `FhirloomError`:
    `server` where it refuses or breaks the protocol, `incomplete` where rows that it counted
    don't arrive, `bad-input` for an unusable request or key.
    """
    phi.mkdir(mode=0o700, parents=True, exist_ok=True)
    record = JobRecord(phi, request)
    with record.alone():
        job = None if fresh else record.read()
        if job is not None and job.landing:
            found = find_landing(phi, job.landing)
            if found is not None:
                return found
            job = None
        with open_session(request.base, request.access, patience) as session:
            job, manifest = _completed_job(session, request, record, job, progress)
            files = _download_all(session, manifest, record.downloads, patience, progress)
            spec = _content(request, manifest, files)
            zone = find_landing(phi, spec) or _seal(phi, spec, manifest, files)
            record.landed(job, spec)
            _release(session, job)
        return zone


def _completed_job(
    session: Session,
    request: ExportRequest,
    record: JobRecord,
    job: ExportJob | None,
    progress: Progress,
) -> tuple[ExportJob, ExportManifest]:
    body = None if job is None else _await_manifest(session, job, progress)
    if job is None or body is None:
        job = record.begin(_kick_off(session, request))
        body = _await_manifest(session, job, progress)
    if body is None:
        raise FhirloomError(
            "server",
            "The server forgot the job that it had just accepted",
            where="the export's status",
            fix="Run again; if it stays so, tell the server's operator.",
        )
    job = record.answered(job, body)
    return job, read_manifest(body, request.base)


def _kick_off(session: Session, request: ExportRequest) -> str:
    response = session.send(
        "GET",
        request.url,
        what="the export's kick-off",
        headers={**FHIR_JSON, "Prefer": "respond-async"},
        params=_parameters(request),
    )
    location = response.headers.get("content-location", "")
    with suppress(ValueError):
        if response.status_code == 202 and location:
            return absolute_url(request.base, location)
    raise FhirloomError(
        "server",
        f"The server answered {response.status_code} and started no job",
        where="the export's kick-off",
        fix="Check that the server supports Bulk Data export at this level.",
    )


def _parameters(request: ExportRequest) -> dict[str, str]:
    chosen = {"_outputFormat": "application/fhir+ndjson"}
    if request.types:
        chosen["_type"] = ",".join(request.types)
    if request.since is not None:
        chosen["_since"] = request.since.isoformat()
    return chosen


def _await_manifest(session: Session, job: ExportJob, progress: Progress) -> dict[str, Any] | None:
    """The body of the completed job's status, or None where the server knows the job no longer."""
    polling, polls = Patience(first_wait=1.0, longest_wait=60.0), 0
    while True:
        response = session.send(
            "GET",
            job.status_url,
            what="the export's status",
            headers={"Accept": "application/json"},
            answers=GONE,
        )
        if response.status_code in GONE:
            return None
        if response.status_code != 202:
            return _json_object(response)
        told = PERCENT.search(response.headers.get("x-progress", ""))
        if told is None:
            progress(polls, None, "polls")
        else:
            progress(min(100, int(told[1])), 100, "percent prepared")
        time.sleep(retry_after(response) or polling.wait(polls))
        polls += 1


def _json_object(response: httpx.Response) -> dict[str, Any]:
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        body = None
    if not isinstance(body, dict):
        raise FhirloomError(
            "server",
            "The completed export has no manifest",
            where="the export's status",
            fix="Run again; if it stays so, tell the server's operator.",
        )
    return body


def _download_all(
    session: Session,
    manifest: ExportManifest,
    folder: Path,
    patience: Patience,
    progress: Progress,
) -> list[Downloaded]:
    files = []
    for done, remote in enumerate(manifest.files):
        progress(done, len(manifest.files), "files")
        with_token = manifest.with_token
        files.append(download(session, remote, folder, with_token=with_token, patience=patience))
    progress(len(files), len(files), "files")
    return files


def _content(request: ExportRequest, manifest: ExportManifest, files: Sequence[Downloaded]) -> str:
    """The hash of what was asked and what came, whichever host and port it came from."""
    return hash_json(
        {
            "scope": request.scope,
            "transaction_time": manifest.transaction_time.isoformat(),
            "files": [[file.remote.kind, file.path.name, file.delivered.sha256] for file in files],
        }
    )


def _seal(
    phi: Path, spec: str, manifest: ExportManifest, files: Sequence[Downloaded]
) -> LandingZone:
    def bring(folder: Path) -> list[Arrival]:
        for file in files:
            place = folder / file.remote.kind
            place.mkdir(mode=0o700, exist_ok=True)
            _link(file.path, place / file.path.name)
        return [
            Arrival(file.path.name, file.remote.type, file.delivered)
            for file in files
            if file.remote.kind == "files"
        ]

    facts = {
        "source": "bulk",
        "transaction_time": manifest.transaction_time.isoformat(),
        "server_rows": manifest.server_rows,
        "errors": sum(f.delivered.judged.lines for f in files if f.remote.kind == "errors"),
    }
    return seal_landing(phi, spec, bring, facts)


def _link(source: Path, target: Path) -> None:
    """A second name for a file, so that neither a kill nor a failure here loses the download."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _release(session: Session, job: ExportJob) -> None:
    """Let the server delete the job. It is a courtesy: the export is complete without it."""
    with suppress(FhirloomError):
        session.send(
            "DELETE",
            job.status_url,
            what="the export's end",
            headers=FHIR_JSON,
            patience=Patience(retries=0),
        )
