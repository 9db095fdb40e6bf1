"""A FHIR Bulk Data export, from kick-off to a sealed landing zone.

Source: FHIR Bulk Data Access STU1 to STU4, "Request Flow". Killed at any moment and started
again, it continues: the job's status URL is on the disk before the first poll, and each file is
recorded once it is whole.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exports.bulk.capability import UNKNOWN, Capability, read_capability
from exports.bulk.job import ExportJob, JobRecord
from exports.bulk.manifest import ExportManifest
from exports.bulk.profile import Profile, load_profile, profile_for
from exports.bulk.running import JobGone, RunningJob, delete
from exports.connection.session import Session, open_session
from exports.connection.transport import Patience
from exports.download.downloads import Downloaded, download_all
from exports.errors import FhirloomError
from exports.landing.export_log import ExportLog
from exports.landing.provenance import write_provenance
from exports.landing.reconcile import reconcile, refuse
from exports.landing.screening import Exclusion
from exports.landing.sieve import Sieve
from exports.landing.zone import Arrival, LandingZone, find_landing, landed_zones, seal_landing
from exports.options import DEFAULT_OPTIONS, ExportOptions
from exports.progress import Progress, silent
from exports.request import ExportRequest
from exports.sealed import hash_json

DEFAULT_PATIENCE: Final = Patience()


def export(
    request: ExportRequest,
    phi: Path,
    *,
    fresh: bool = False,
    options: ExportOptions = DEFAULT_OPTIONS,
    patience: Patience = DEFAULT_PATIENCE,
    progress: Progress = silent,
) -> LandingZone:
    """Export what `request` asks for into `phi/landing`, and make it the current landing zone.

    The same request again gives the landing zone that it gave before, without asking the server,
    and continues a job that was stopped; `fresh` (here or in `options`) asks anew in both cases.
    Raises `FhirloomError`: `server` where it refuses or breaks the protocol, `incomplete` where
    rows that it counted don't arrive, `bad-input` for an unusable request, key or profile.
    """
    if options.vendor:
        load_profile(options.vendor).check(request)
    phi.mkdir(mode=0o700, parents=True, exist_ok=True)
    record = JobRecord(phi, request)
    with record.alone():
        job = record.read()
        fresh = fresh or options.fresh
        if job is not None and job.landing:
            reusable = not fresh and job.screen == options.screen.scope
            found = find_landing(phi, job.landing) if reusable else None
            if found is not None:
                refuse(found.findings, options.policy)
                return found
            job = None
        return _Export(request, phi, record, options, patience, progress).run(job, fresh)


@dataclass(frozen=True)
class Cancelled:
    """What became of a job that was given up: whether the server confirms that it ended it."""

    confirmed: bool


def cancel(
    request: ExportRequest, phi: Path, *, patience: Patience = DEFAULT_PATIENCE
) -> Cancelled:
    """Give up the unfinished job of `request`: at the server, and what was downloaded of it.

    Raises `FhirloomError`: bad-input where there is no such job, `server` where the server can't
    be reached (the job is kept then, and can be given up later).
    """
    record = JobRecord(phi, request)
    with record.alone():
        job = record.read()
        if job is None or job.landing:
            raise FhirloomError(
                "bad-input",
                "No export of this request is under way",
                where="export-job",
                fix="It has ended, or was asked for otherwise: name its own work folder.",
            )
        with open_session(request.base, request.access, patience) as session:
            status = delete(session, job.status_url, patience)
        record.forget()
        # A job that is not there any more has ended too.
        return Cancelled(confirmed=200 <= status < 300 or status in (404, 410))


class _Export:
    """One run of one export."""

    def __init__(
        self,
        request: ExportRequest,
        phi: Path,
        record: JobRecord,
        options: ExportOptions,
        patience: Patience,
        progress: Progress,
    ) -> None:
        self._request = request
        self._phi = phi
        self._record = record
        self._options = options
        self._patience = patience
        self._progress = progress

    def run(self, job: ExportJob | None, fresh: bool) -> LandingZone:
        """Continue `job`, or begin one; a `fresh` one after that one is given up."""
        profile, capability = self._server(job)
        profile.check(self._request)
        export_id = uuid.uuid4().hex[:16] if job is None or fresh else job.export_id
        log = ExportLog(self._phi, export_id)
        with self._session(profile) as session:
            running = RunningJob(
                session,
                self._request,
                self._record,
                profile,
                capability,
                self._options,
                export_id=export_id,
                first_wait=self._patience.first_wait,
                progress=self._progress,
                log=log,
            )
            running.job = job
            if fresh and job is not None:
                # A server that runs one job at a time would let the new one wait for the old.
                running.release()
            if fresh or job is None:
                running.begin()
            try:
                return self._complete(session, running, log)
            except JobGone:
                running.release()
                running.begin()
            try:
                return self._complete(session, running, log)
            except JobGone:
                raise FhirloomError(
                    "server",
                    "The server forgot the job that it had just accepted",
                    where="the export's status",
                    fix="Run again; if it stays so, tell the server's operator.",
                ) from None

    def _server(self, job: ExportJob | None) -> tuple[Profile, Capability]:
        if job is not None:
            return load_profile(self._options.vendor or job.profile), UNKNOWN
        with open_session(self._request.base, self._request.access, self._patience) as session:
            capability = read_capability(session, self._request.base)
        return profile_for(capability, self._options.vendor), capability

    def _session(self, profile: Profile) -> AbstractContextManager[Session]:
        return open_session(
            self._request.base,
            self._request.access,
            self._patience,
            types=self._request.types,
            scope_style=profile.scope_style,
        )

    def _complete(self, session: Session, running: RunningJob, log: ExportLog) -> LandingZone:
        began, manifest = time.monotonic(), running.manifest()
        self._record.downloads.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = download_all(
            session,
            manifest,
            self._record.downloads,
            patience=self._patience,
            progress=self._progress,
            log=log,
            renew=lambda: running.renewed(manifest),
            parallel=self._options.parallel,
        )
        sieve = Sieve(self._options.screen, running.narrowing, self._known_before(manifest))
        spec = _content(self._request, manifest, files, sieve)
        zone = find_landing(self._phi, spec)
        if zone is None:
            zone = self._seal(spec, manifest, files, sieve, running)
        refuse(zone.findings, self._options.policy)
        origins = {file.path.name: file.remote.url for file in files if file.remote.kind == "files"}
        write_provenance(self._phi, zone, origins)
        self._record.landed(running.known_job, spec, self._options.screen)
        log.event(
            "export_complete",
            {
                "files": len(files),
                "resources": sum(zone.rows().values()),
                "bytes": sum(file.delivered.bytes for file in files),
                "attachments": 0,
                "duration": round(1000 * (time.monotonic() - began)),
            },
        )
        running.release()
        return zone

    def _known_before(self, manifest: ExportManifest) -> dict[str, Exclusion]:
        """The test patients of the last landing of all patients, where this is none.

        Such a landing is no export like this one, so that what this one has sealed changes nothing
        where it is gone on with.
        """
        request = self._request
        brings_all = request.since is None and (not request.types or "Patient" in request.types)
        if brings_all or not self._options.screen.test_patients:
            return {}
        earlier = [
            (time, zone.sealed.key, zone)
            for zone in landed_zones(self._phi)
            if (time := zone.transaction_time) is not None and time <= manifest.transaction_time
            if zone.brings_all_patients
        ]
        excluded = max(earlier)[2].excluded_patients() if earlier else {}
        return {patient: why for patient, why in excluded.items() if why == "test-patient"}

    def _seal(
        self,
        spec: str,
        manifest: ExportManifest,
        files: Sequence[Downloaded],
        sieve: Sieve,
        running: RunningJob,
    ) -> LandingZone:
        def bring(folder: Path) -> list[Arrival]:
            for file in files:
                place = folder / file.remote.kind
                place.mkdir(mode=0o700, exist_ok=True)
                _link(file.path, place / file.path.name)
            return [
                Arrival(file.path.name, file.remote.type, file.delivered, file.identities)
                for file in files
                if file.remote.kind == "files"
            ]

        policy = self._options.policy
        facts = {
            "source": "bulk",
            "transaction_time": manifest.transaction_time.isoformat(),
            "server_rows": manifest.server_rows,
            "errors": sum(f.delivered.judged.lines for f in files if f.remote.kind == "errors"),
            "dropped": list(running.known_job.dropped),
            "since": self._request.scope["since"],
            "deleted_reported": any(file.remote.kind == "deleted" for file in files),
        }
        return seal_landing(
            self._phi,
            spec,
            bring,
            facts,
            sieve=sieve,
            findings=reconcile(self._request, manifest, files, policy, heeded=running.heeded),
            policy=policy,
            progress=self._progress,
        )


def _content(
    request: ExportRequest, manifest: ExportManifest, files: Sequence[Downloaded], sieve: Sieve
) -> str:
    """The hash of what was asked, what came and what stays, whichever host it came from."""
    return hash_json(
        {
            "scope": request.scope,
            "transaction_time": manifest.transaction_time.isoformat(),
            "files": [[file.remote.kind, file.path.name, file.delivered.sha256] for file in files],
            "sieve": sieve.digest,
        }
    )


def _link(source: Path, target: Path) -> None:
    """A second name for a file, so that neither a kill nor a failure here loses the download."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
