"""The sandbox server's export jobs and the files behind them, kept on the disk.

A status URL outlives the server: after a restart on the same data folder the job is still known,
and its files are there, or are prepared again.
"""

from __future__ import annotations

import shutil
import threading
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from exports.durable import write_json_durably
from exports.sandbox.source import ExportSource, SourceFile


@dataclass(frozen=True)
class ServerJob:
    """One accepted `$export`: the kick-off URL, and the types asked for (empty: all)."""

    id: str
    request: str
    types: tuple[str, ...]


class Jobs:
    """The jobs below one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def create(self, request: str, types: tuple[str, ...]) -> ServerJob:
        """Accept a job; it is on the disk when this returns."""
        job = ServerJob(uuid.uuid4().hex, request, types)
        write_json_durably(self._folder / f"{job.id}.json", asdict(job))
        return job

    def get(self, job_id: str) -> ServerJob | None:
        """The job of that id, or None."""
        path = self._folder / f"{job_id}.json"
        if not job_id.isalnum() or not path.is_file():
            return None
        read = orjson.loads(path.read_bytes())
        return ServerJob(read["id"], read["request"], tuple(read["types"]))

    def delete(self, job: ServerJob) -> None:
        """Forget the job: its status and files are gone."""
        (self._folder / f"{job.id}.json").unlink(missing_ok=True)


class PreparedFiles:
    """The export files of one source, made once in the background, complete when present."""

    def __init__(self, source: ExportSource, folder: Path) -> None:
        self._source = source
        self._folder = folder
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._percent = 0
        self.failed = False
        if self.files() is not None:
            source.publish(folder)

    @property
    def percent(self) -> int:
        """How far the preparation is."""
        return self._percent

    def files(self) -> list[SourceFile] | None:
        """The files, or None while they are not all there."""
        listing = self._folder / "files.json"
        if not listing.is_file():
            return None
        return [SourceFile(**file) for file in orjson.loads(listing.read_bytes())]

    def path(self, name: str) -> Path:
        """Where a file of that name lies."""
        return self._folder / name

    def start(self) -> None:
        """Prepare the files in the background, unless they are there or under way."""
        with self._lock:
            if self._thread is None and self.files() is None:
                self._thread = threading.Thread(target=self._prepare, daemon=True)
                self._thread.start()

    def _prepare(self) -> None:
        building = self._folder.with_name(f".{self._folder.name}.building")
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        try:
            files = self._source.prepare(building, self._tell)
            write_json_durably(building / "files.json", [asdict(file) for file in files])
            self._source.publish(building)
            building.rename(self._folder)
        except BaseException:
            self.failed = True
            raise

    def _tell(self, done: int, total: int | None, unit: str) -> None:
        self._percent = min(99, 100 * done // total) if total else 0
