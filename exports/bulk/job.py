"""The durable record of one export job: what a stopped export continues from.

`phi/export-job/<request>.json` is on the disk before the first poll; `phi/export-job/<request>/`
holds the files downloaded so far. Neither has a token or a key in it.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from exports.durable import write_json_durably
from exports.errors import FhirloomError
from exports.landing.screening import Screen
from exports.request import ExportRequest
from exports.turns import alone

FOLDER: Final = "export-job"


@dataclass(frozen=True)
class ExportJob:
    """A job that a server accepted.

    `export_id` names its log, `profile` the server's habits, `dropped` the parameters that it
    would not take. `asked_at` and `landed_at` are wall times (ISO, UTC); `partials` are the partial
    manifests seen so far, `manifest` the pages of the complete one; `landing` names the content of
    the landing zone once it is sealed, under `screen`.
    """

    request: dict[str, Any]
    server: str
    status_url: str
    asked_at: str
    export_id: str
    profile: str
    dropped: tuple[str, ...]
    partials: list[dict[str, Any]] = field(default_factory=list)
    manifest: list[dict[str, Any]] = field(default_factory=list)
    landing: str = ""
    landed_at: str = ""
    screen: dict[str, Any] = field(default_factory=dict)


class JobRecord:
    """The job of one request below one `phi` folder."""

    def __init__(self, phi: Path, request: ExportRequest) -> None:
        self._request = request
        self._path = phi / FOLDER / f"{request.digest[:16]}.json"
        self.downloads = phi / FOLDER / request.digest[:16]

    def alone(self) -> AbstractContextManager[None]:
        """Keep other processes from this very job. Raises `FhirloomError` (bad-input)."""
        refusal = FhirloomError(
            "bad-input",
            "The same export is already running",
            where=FOLDER,
            fix="Wait for it to end, or stop it; it can be continued.",
        )
        return alone(self._path.with_suffix(".lock"), refusal)

    def read(self) -> ExportJob | None:
        """The job as last recorded, or None."""
        if not self._path.is_file():
            return None
        recorded = orjson.loads(self._path.read_bytes())
        known = {entry.name for entry in fields(ExportJob)}
        if not recorded.keys() <= known or not isinstance(recorded.get("manifest"), list):
            return None
        return ExportJob(**{**recorded, "dropped": tuple(recorded["dropped"])})

    def begin(
        self, status_url: str, export_id: str, profile: str, dropped: Sequence[str]
    ) -> ExportJob:
        """Record a job that the server has just accepted; files of an earlier one are dropped."""
        shutil.rmtree(self.downloads, ignore_errors=True)
        scope, base = self._request.scope, self._request.base
        job = ExportJob(scope, base, status_url, _now(), export_id, profile, tuple(dropped))
        self._save(job)
        return job

    def told_more(self, job: ExportJob, partial: dict[str, Any]) -> ExportJob:
        """Record a partial manifest: nothing says that the server will tell it again."""
        told = replace(job, partials=[*job.partials, partial])
        self._save(told)
        return told

    def answered(self, job: ExportJob, manifest: list[dict[str, Any]]) -> ExportJob:
        """Record the manifest of a job that the server has completed."""
        answered = replace(job, manifest=manifest)
        self._save(answered)
        return answered

    def landed(self, job: ExportJob, landing: str, screen: Screen) -> None:
        """Record that the job's files are sealed; downloads and manifest are needed no longer."""
        done = replace(job, partials=[], manifest=[])
        self._save(replace(done, landing=landing, landed_at=_now(), screen=screen.scope))
        shutil.rmtree(self.downloads, ignore_errors=True)

    def forget(self) -> None:
        """Remove the record and what was downloaded."""
        self._path.unlink(missing_ok=True)
        shutil.rmtree(self.downloads, ignore_errors=True)

    def _save(self, job: ExportJob) -> None:
        write_json_durably(self._path, asdict(job))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
