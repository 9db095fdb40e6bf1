"""The sandbox server's export jobs, kept on the disk: a status URL outlives the server."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from exports.durable import write_json_durably
from exports.sandbox.order import ExportOrder


@dataclass(frozen=True)
class ServerJob:
    """One accepted `$export`: the kick-off URL, and what was ordered."""

    id: str
    request: str
    order: ExportOrder


class Jobs:
    """The jobs below one folder: `<id>.json`, and `<id>/` for files of the job's own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def create(self, request: str, order: ExportOrder) -> ServerJob:
        """Accept a job; it is on the disk when this returns."""
        job = ServerJob(uuid.uuid4().hex, request, order)
        record = {"id": job.id, "request": request, "order": order.to_json()}
        write_json_durably(self._folder / f"{job.id}.json", record)
        return job

    def get(self, job_id: str) -> ServerJob | None:
        """The job of that id, or None."""
        path = self._folder / f"{job_id}.json"
        if not job_id.isalnum() or not path.is_file():
            return None
        read = orjson.loads(path.read_bytes())
        return ServerJob(read["id"], read["request"], ExportOrder.from_json(read["order"]))

    def all(self) -> Iterator[ServerJob]:
        """Every job that is known."""
        for path in sorted(self._folder.glob("*.json")):
            if (job := self.get(path.stem)) is not None:
                yield job

    def folder(self, job: ServerJob) -> Path:
        """Where the job's own files lie, once they are complete."""
        return self._folder / job.id

    def delete(self, job: ServerJob) -> None:
        """Forget the job: its status and files are gone."""
        (self._folder / f"{job.id}.json").unlink(missing_ok=True)
        shutil.rmtree(self.folder(job), ignore_errors=True)
