"""The record of the files that are whole and on the disk, for one export's downloads.

It is a journal, a line for each file, written after the file itself is safe. Threads that finish
at the same time share one write, so that many small files don't wait for the disk one by one.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import Any, Final

import orjson

from exports.durable import open_private, sync_folder

JOURNAL: Final = "receipts.ndjson"


class Receipts:
    """The journal below `folder`; safe in many threads of one process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / JOURNAL
        self._adding = Lock()
        self._writing = Lock()
        self._waiting: list[tuple[str, Mapping[str, Any]]] = []
        self._known = self._read()

    def get(self, name: str) -> Mapping[str, Any] | None:
        """What is recorded under `name` (a path relative to the folder), or None."""
        return self._known.get(name)

    def add(self, name: str, record: Mapping[str, Any]) -> None:
        """Record a file whose bytes are on the disk; on the disk itself when this returns."""
        mine = (name, record)
        with self._adding:
            self._waiting.append(mine)
        with self._writing:
            if self._known.get(name) is record:
                return
            with self._adding:
                batch, self._waiting = self._waiting, []
            self._write(batch)

    def _write(self, batch: list[tuple[str, Mapping[str, Any]]]) -> None:
        for folder in sorted({(self._folder / name).parent for name, _ in batch}):
            sync_folder(folder)
        lines = [
            orjson.dumps({"name": name, **record}, option=orjson.OPT_APPEND_NEWLINE)
            for name, record in batch
        ]
        with open_private(self._path, "ab") as file:
            file.write(b"".join(lines))
            file.flush()
            os.fsync(file.fileno())
        self._known.update(batch)

    def _read(self) -> dict[str, Mapping[str, Any]]:
        """All records, newest last; one that a kill or a full disk tore is none."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with open_private(self._path, "a+b") as file:
            file.seek(0)
            text = file.read()
            file.truncate(text.rfind(b"\n") + 1)
        sync_folder(self._folder)
        records: dict[str, Mapping[str, Any]] = {}
        for line in text.splitlines():
            with suppress(orjson.JSONDecodeError):
                record = orjson.loads(line)
                records[record.pop("name")] = record
        return records
