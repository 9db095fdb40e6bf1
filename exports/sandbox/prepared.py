"""Files that are made once, in the background, and are complete when present."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

import orjson

from exports.durable import write_json_durably
from exports.progress import Progress
from exports.sandbox.source import ExportSource, SourceFile

LISTING: Final = "files.json"
Make = Callable[[Path, Progress], Sequence[SourceFile]]


class PreparedFiles:
    """A folder of files that `make` makes; `publish` is called before any of them is served."""

    def __init__(
        self, folder: Path, make: Make, publish: Callable[[Path], None] | None = None
    ) -> None:
        self._folder = folder
        self._make = make
        self._publish = publish
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._percent = 0
        self._found: list[SourceFile] | None = None
        self.failed = False
        if publish is not None and self.files() is not None:
            publish(folder)

    @classmethod
    def of(cls, source: ExportSource, folder: Path) -> PreparedFiles:
        """The files of a source."""
        return cls(folder, source.prepare, source.publish)

    @property
    def percent(self) -> int:
        """How far the preparation is."""
        return self._percent

    def files(self) -> list[SourceFile] | None:
        """The files, or None while they are not all there."""
        listing = self._folder / LISTING
        if self._found is None and listing.is_file():
            self._found = [SourceFile(**file) for file in orjson.loads(listing.read_bytes())]
        return self._found

    def path(self, name: str) -> Path:
        """Where a file of that name lies."""
        return self._folder / name

    def start(self) -> None:
        """Prepare the files in the background, unless they are there or under way."""
        with self._lock:
            if self._thread is None and self.files() is None:
                self._thread = threading.Thread(target=self._prepare, daemon=True)
                self._thread.start()

    def wait(self) -> list[SourceFile]:
        """The files, once they are there. Raises `RuntimeError` where they could not be made."""
        self.start()
        if self._thread is not None:
            self._thread.join()
        files = self.files()
        if files is None:
            raise RuntimeError("the files could not be made")
        return files

    def _prepare(self) -> None:
        building = self._folder.with_name(f".{self._folder.name}.building")
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(parents=True)
        try:
            files = self._make(building, self._tell)
            write_json_durably(building / LISTING, [asdict(file) for file in files])
            if self._publish is not None:
                self._publish(building)
            building.rename(self._folder)
        except BaseException:
            self.failed = True
            raise

    def _tell(self, done: int, total: int | None, unit: str) -> None:
        self._percent = min(99, 100 * done // total) if total else 0
