"""Export jobs over HTTP: accepted, watched, paged through, deleted.

Source: FHIR Bulk Data Access 2.0.0 to 4.0.0-ballot, "Bulk Data Status Request" and "Bulk Data
Delete Request".
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from exports.sandbox.job_files import JobFiles
from exports.sandbox.jobs import Jobs, ServerJob
from exports.sandbox.kickoff import read_order
from exports.sandbox.manifests import Manifests
from exports.sandbox.manner import Manner
from exports.sandbox.order import ExportOrder
from exports.sandbox.outcomes import Wrong
from exports.sandbox.prepared import PreparedFiles
from exports.sandbox.source import ExportSource, SourceFile

KEPT: Final = timedelta(days=1)


class Exports:
    """The jobs of one server, and the files behind them.

    Where nothing but types narrows an order, its files are the server's own, as they lie; else
    they are made for it in the background.
    """

    def __init__(
        self,
        source: ExportSource,
        prepared: PreparedFiles,
        jobs: Jobs,
        root: str,
        manner: Manner,
    ) -> None:
        self._source = source
        self._prepared = prepared
        self._jobs = jobs
        self._root = root
        self._manner = manner
        self._manifests = Manifests(manner.version, source.transaction_time, manner.login != "none")
        self._own: dict[str, PreparedFiles] = {}
        self._told: set[str] = set()
        self._lock = threading.Lock()

    async def read_order(self, request: Request) -> ExportOrder:
        """What a kick-off request orders. Raises `Wrong`."""
        return await read_order(request, self._manner.version)

    def accept(self, request: Request, order: ExportOrder) -> Response:
        """Begin a job. Raises `Wrong` where another one must end first."""
        if self._manner.one_job and any(self._is_running(job) for job in self._jobs.all()):
            headers = {"Retry-After": str(self._manner.retry_after)}
            raise Wrong(429, "throttled", "Another export is being made.", headers)
        job = self._jobs.create(str(request.url), order)
        self._files_of(job).start()
        headers = {"Content-Location": f"{self._root}/jobs/{job.id}"}
        return Response(status_code=202, headers=headers)

    async def status(self, request: Request) -> Response:
        """202 while the files are being made, then the manifest, page by page."""
        job, page = self._job(request.path_params["job"]), request.path_params.get("page", 1)
        prepared = self._files_of(job)
        if prepared.failed:
            wrong = Wrong(500, "exception", "The files could not be made.")
            return self._separated(job, wrong.answer())
        files = prepared.files()
        if files is None:
            prepared.start()
            return self._separated(job, self._in_progress(prepared.percent))
        return self._separated(job, self._page(job, self._wanted(job, files), page))

    async def delete(self, request: Request) -> Response:
        """Bulk Data Delete Request."""
        job = self._job(request.path_params["job"])
        self._jobs.delete(job)
        self._own.pop(job.id, None)
        return Response(status_code=202)

    def path(self, job_id: str, name: str) -> Path:
        """Where a job's file of that name lies. Raises `Wrong`."""
        job = self._job(job_id)
        prepared = self._files_of(job)
        if name not in {file.name for file in self._wanted(job, prepared.files() or ())}:
            raise Wrong(404, "not-found", "There is no such file.")
        return prepared.path(name)

    def _page(self, job: ServerJob, files: Sequence[SourceFile], number: int) -> Response:
        """A page; where pages are allowed, the first is told before the others are ready."""
        size = self._manner.page_files if job.order.partial else 0
        last = -(-len(files) // size) if size else 1
        if not 1 <= number <= max(1, last):
            raise Wrong(404, "not-found", "There is no such page.")
        held = f"{job.id}/{number}"
        if size and last > 1 and held not in self._told:
            self._told.add(held)
            early = number == 1
            body = self._manifest(job, files[:size]) if early else None
            return self._in_progress(99, body)
        there = files[(number - 1) * size : number * size] if size else files
        behind = f"{self._root}/jobs/{job.id}/pages/{number + 1}" if number < last else ""
        expires = format_datetime(datetime.now(UTC) + KEPT, usegmt=True)
        return JSONResponse(self._manifest(job, there, behind), headers={"Expires": expires})

    def _manifest(
        self, job: ServerJob, files: Sequence[SourceFile], next_url: str = ""
    ) -> dict[str, Any]:
        prepared = self._files_of(job)
        return self._manifests.page(
            job,
            files,
            lambda file: f"{self._root}/jobs/{job.id}/{file.name}",
            lambda file: prepared.path(file.name).stat().st_size,
            next_url,
        )

    def _in_progress(self, percent: int, body: dict[str, Any] | None = None) -> Response:
        headers = {
            "X-Progress": f"{percent}% prepared",
            "Retry-After": str(self._manner.retry_after),
        }
        if body is None:
            return Response(status_code=202, headers=headers)
        return JSONResponse(body, status_code=202, headers=headers)

    def _separated(self, job: ServerJob, response: Response) -> Response:
        """The job's status in a header of its own, where the client asked for that."""
        if job.order.separate_status:
            response.headers["X-Export-Status"] = str(response.status_code)
            response.status_code = 200
        return response

    def _wanted(self, job: ServerJob, files: Sequence[SourceFile]) -> list[SourceFile]:
        return [file for file in files if file.kind != "output" or self._is_wanted(job, file)]

    def _is_wanted(self, job: ServerJob, file: SourceFile) -> bool:
        return not file.type or job.order.wants(file.type)

    def _files_of(self, job: ServerJob) -> PreparedFiles:
        if job.order.whole:
            return self._prepared
        with self._lock:
            if job.id not in self._own:
                rows = self._manner.rows_per_file
                deletions = self._source.deletions()
                make = JobFiles(job.order, self._prepared, deletions, rows)
                self._own[job.id] = PreparedFiles(self._jobs.folder(job), make)
            return self._own[job.id]

    def _is_running(self, job: ServerJob) -> bool:
        return self._files_of(job).files() is None and not self._files_of(job).failed

    def _job(self, job_id: str) -> ServerJob:
        job = self._jobs.get(job_id)
        if job is None:
            raise Wrong(404, "not-found", "There is no such job.")
        return job
