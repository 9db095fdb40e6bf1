"""One export job at one server: begun or found again, awaited, asked again, and let go."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any, Final

from exports.bulk.capability import UNKNOWN, Capability, read_capability
from exports.bulk.job import ExportJob, JobRecord
from exports.bulk.kickoff import Starter
from exports.bulk.manifest import ExportManifest, read_manifest
from exports.bulk.polling import PollPace, await_manifests
from exports.bulk.profile import Profile
from exports.bulk.refusal import EVERY_STATUS
from exports.connection.session import Session
from exports.connection.transport import Patience
from exports.errors import FhirloomError
from exports.landing.export_log import EventLog
from exports.landing.narrowing import Narrowing
from exports.options import ExportOptions
from exports.progress import Progress
from exports.request import ExportRequest

ONCE: Final = Patience(retries=0)


class JobGone(Exception):  # noqa: N818 - a state of the server, told where it is caught
    """The server knows the job no longer."""


class RunningJob:
    """The job of one request, by way of one session; whatever happens to it is recorded."""

    def __init__(
        self,
        session: Session,
        request: ExportRequest,
        record: JobRecord,
        profile: Profile,
        capability: Capability,
        options: ExportOptions,
        *,
        export_id: str,
        first_wait: float,
        progress: Progress,
        log: EventLog,
    ) -> None:
        self._session = session
        self._request = request
        self._record = record
        self._profile = profile
        self._capability = capability
        self._options = options
        self._export_id = export_id
        floor, ceiling = profile.poll_seconds
        self._pace = PollPace(floor, ceiling, first_wait, options.outage, profile.fixed_retry_after)
        self._progress = progress
        self._log = log
        self.job: ExportJob | None = None

    @property
    def narrowing(self) -> Narrowing:
        """What the server does not apply, and what is therefore to be applied here."""
        dropped = () if self.job is None else self.job.dropped
        return Narrowing.of_dropped(self._request, {*dropped, *self._profile.ignores})

    @property
    def heeded(self) -> Narrowing:
        """What the server took on to leave out."""
        dropped = () if self.job is None else self.job.dropped
        return Narrowing.of_heeded(self._request, {*dropped, *self._profile.ignores})

    def begin(self) -> None:
        """Kick the export off, and record it. Raises `FhirloomError`.

        What the server is known to pass over must be possible to apply here, or it is bad-input.
        """
        _ = self.narrowing
        if self._capability is UNKNOWN:
            self._capability = read_capability(self._session, self._request.base)
        edition = self._options.edition or self._capability.bulk_version
        started = Starter(
            self._session,
            self._request,
            self._profile,
            replace(self._capability, bulk_version=edition),
            self._pace,
            self._log,
            allow_wider=self._options.allow_wider,
            progress=self._progress,
        ).start()
        self.job = self._record.begin(
            started.status_url, self._export_id, self._profile.name, started.dropped
        )

    def manifest(self) -> ExportManifest:
        """The complete manifest, awaited. Raises `JobGone`, or `FhirloomError` (server)."""
        job = self.known_job
        pages = await_manifests(
            self._session,
            job.status_url,
            self._request.base,
            pace=self._pace,
            progress=self._progress,
            log=self._log,
            partials=job.partials,
            keep=self._keep,
        )
        if pages is None:
            raise JobGone
        manifest = read_manifest(
            pages, self._request.base, zoneless_is_utc=self._profile.zoneless_is_utc
        )
        if not job.manifest:
            self._tell(pages, manifest)
        self.job = self._record.answered(self.known_job, pages)
        return manifest

    def renewed(self, before: ExportManifest) -> ExportManifest:
        """The manifest again, its URLs renewed. Raises `JobGone` if it is another snapshot's."""
        now = self.manifest()
        same_files = [(file.kind, file.stem) for file in now.files] == [
            (file.kind, file.stem) for file in before.files
        ]
        if now.transaction_time != before.transaction_time or not same_files:
            raise JobGone
        return now

    def release(self) -> None:
        """Let the server delete the job: a courtesy, the export is complete without it."""
        if self._profile.deletes:
            with suppress(FhirloomError):
                delete(self._session, self.known_job.status_url, ONCE)

    def _keep(self, partial: dict[str, Any]) -> None:
        self.job = self._record.told_more(self.known_job, partial)

    @property
    def known_job(self) -> ExportJob:
        """The job as last recorded."""
        if self.job is None:
            raise RuntimeError("no job has begun")
        return self.job

    def _tell(self, pages: list[dict[str, Any]], manifest: ExportManifest) -> None:
        time = manifest.transaction_time.isoformat()
        self._log.event("status_complete", {"transactionTime": time})
        for page in pages:
            counts = [
                len(page.get(member) or page.get(other) or ())
                for member, other in (("output", ""), ("deleted", ""), ("error", "outcome"))
            ]
            self._log.event("status_page_complete", _counted(time, "", *counts))
        kinds = [file.kind for file in manifest.files]
        totals = [kinds.count(kind) for kind in ("files", "deleted", "errors")]
        self._log.event(
            "manifest_complete", {**_counted(time, "total", *totals), "totalManifests": len(pages)}
        )


def delete(session: Session, status_url: str, patience: Patience) -> int:
    """DELETE a job: the status of the answer. Raises `FhirloomError` where there is none."""
    return session.send(
        "DELETE",
        status_url,
        what="the export's end",
        headers={"Accept": "application/fhir+json"},
        answers=EVERY_STATUS,
        patience=patience,
    ).status_code


def _counted(time: str, prefix: str, output: int, deleted: int, error: int) -> dict[str, Any]:
    counted = {"outputFileCount": output, "deletedFileCount": deleted, "errorFileCount": error}
    named = {
        f"{prefix}{name[0].upper()}{name[1:]}" if prefix else name: count
        for name, count in counted.items()
    }
    return {"transactionTime": time, **named}
