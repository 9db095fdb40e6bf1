"""The durable record of one export job: what a stopped export continues from.

`phi/export-job/<request>.json` is on the disk before the first poll; `phi/export-job/<request>/`
holds the files downloaded so far. Neither has a token or a key in it.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from exports.durable import write_json_durably
from exports.errors import FhirloomError
from exports.request import ExportRequest

FOLDER: Final = "export-job"


@dataclass(frozen=True)
class ExportJob:
    """A job that a server accepted.

    `asked_at` and `landed_at` are wall times (ISO, UTC); `manifest` is the server's last word on
    the job; `landing` names the content of the landing zone once it is sealed.
    """

    request: dict[str, Any]
    server: str
    status_url: str
    asked_at: str
    manifest: dict[str, Any] = field(default_factory=dict)
    landing: str = ""
    landed_at: str = ""


class JobRecord:
    """The job of one request below one `phi` folder."""

    def __init__(self, phi: Path, request: ExportRequest) -> None:
        self._request = request
        self._path = phi / FOLDER / f"{request.digest[:16]}.json"
        self.downloads = phi / FOLDER / request.digest[:16]

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Keep other processes from this very job. Raises `FhirloomError` (bad-input)."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._path.with_suffix(".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise FhirloomError(
                    "bad-input",
                    "The same export is already running",
                    where=FOLDER,
                    fix="Wait for it to end, or stop it; it can be continued.",
                ) from None
            yield

    def read(self) -> ExportJob | None:
        """The job as last recorded, or None."""
        if not self._path.is_file():
            return None
        return ExportJob(**orjson.loads(self._path.read_bytes()))

    def begin(self, status_url: str) -> ExportJob:
        """Record a job that the server has just accepted; files of an earlier one are dropped."""
        shutil.rmtree(self.downloads, ignore_errors=True)
        job = ExportJob(self._request.scope, self._request.base, status_url, _now())
        self._save(job)
        return job

    def answered(self, job: ExportJob, manifest: dict[str, Any]) -> ExportJob:
        """Record the manifest of a job that the server has completed."""
        answered = replace(job, manifest=manifest)
        self._save(answered)
        return answered

    def landed(self, job: ExportJob, landing: str) -> None:
        """Record that the job's files are sealed; the downloads are needed no longer."""
        self._save(replace(job, landing=landing, landed_at=_now()))
        shutil.rmtree(self.downloads, ignore_errors=True)

    def _save(self, job: ExportJob) -> None:
        write_json_durably(self._path, asdict(job))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
