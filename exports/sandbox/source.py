"""Where the sandbox server's export files come from."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from exports.delivery import file_chunks
from exports.ndjson import BLANKS, read_lines, unpack
from exports.progress import Progress
from exports.sealed import hash_file, hash_json


@dataclass(frozen=True)
class SourceFile:
    """A gzip NDJSON file of one type, ready to be served; `rows` counts its lines."""

    name: str
    type: str
    rows: int


class ExportSource(Protocol):
    """What a sandbox server exports. Equal `key`s mean equal files."""

    @property
    def key(self) -> str:
        """A name for the content, fit for a folder."""

    @property
    def transaction_time(self) -> datetime:
        """The instant of the snapshot, with zone."""

    def prepare(self, folder: Path, progress: Progress) -> Sequence[SourceFile]:
        """Write the files into `folder`, telling how far it is."""

    def publish(self, folder: Path) -> None:
        """Called once the files in `folder` are complete, before any of them is served."""


@dataclass(frozen=True)
class FolderSource:
    """A folder of `<Type>.*.ndjson` or `<Type>.*.ndjson.gz`, served as it is."""

    folder: Path
    transaction_time: datetime

    @property
    def key(self) -> str:
        """The hash of the files' names and bytes."""
        hashes = {path.name: hash_file(path) for path in self._paths()}
        return f"folder-{hash_json([hashes, self.transaction_time.isoformat()])[:16]}"

    def prepare(self, folder: Path, progress: Progress) -> list[SourceFile]:
        """Copy the files, packing those that aren't."""
        paths, files = self._paths(), []
        for done, path in enumerate(paths, start=1):
            name = path.name if path.suffix == ".gz" else f"{path.name}.gz"
            if path.suffix == ".gz":
                shutil.copyfile(path, folder / name)
            else:
                (folder / name).write_bytes(gzip.compress(path.read_bytes(), mtime=0))
            files.append(SourceFile(name, path.name.split(".")[0], _count(path)))
            progress(done, len(paths), "files")
        return files

    def publish(self, folder: Path) -> None:
        """A folder has nothing to tell beside its files."""

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("*.ndjson*"))


def _count(path: Path) -> int:
    lines = read_lines(unpack(file_chunks(path)))
    return sum(bool(line.strip(BLANKS)) for _, _, line in lines)
