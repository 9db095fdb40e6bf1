"""Where the sandbox server's export files come from."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Literal, Protocol

import orjson

from exports.landing.delivery import file_chunks
from exports.landing.ndjson import BLANKS, read_lines, unpack
from exports.progress import Progress
from exports.sealed import hash_file, hash_json

Kind = Literal["output", "deleted", "outcome"]
DELETED: Final = "deleted.ndjson"


@dataclass(frozen=True)
class SourceFile:
    """A gzip NDJSON file, ready to be served; `rows` counts its lines.

    `type` is "" where it holds resources of several types; `severities` counts the outcomes of an
    outcome file.
    """

    name: str
    type: str
    rows: int
    kind: Kind = "output"
    severities: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Deletion:
    """A resource that is no more, since `at` (with zone)."""

    type: str
    id: str
    at: datetime


class ExportSource(Protocol):
    """What a sandbox server exports. Equal `key`s mean equal files."""

    @property
    def key(self) -> str:
        """A name for the content, fit for a folder."""

    @property
    def site(self) -> str:
        """A name for whose records they are, the same at every moment."""

    @property
    def transaction_time(self) -> datetime:
        """The instant of the snapshot, with zone."""

    def prepare(self, folder: Path, progress: Progress) -> Sequence[SourceFile]:
        """Write the files into `folder`, telling how far it is."""

    def publish(self, folder: Path) -> None:
        """Called once the files in `folder` are complete, before any of them is served."""

    def deletions(self) -> Sequence[Deletion]:
        """The resources that were deleted, as far as the source remembers."""


@dataclass(frozen=True)
class FolderSource:
    """A folder of `<Type>.*.ndjson` or `<Type>.*.ndjson.gz`, served as it is.

    `deleted.ndjson`, where it is there, tells of deletions: {"type", "id", "at"} a line.
    """

    folder: Path
    transaction_time: datetime

    @property
    def key(self) -> str:
        """The hash of the files' names and bytes."""
        hashes = {path.name: hash_file(path) for path in self.folder.glob("*.ndjson*")}
        return f"folder-{hash_json([hashes, self.transaction_time.isoformat()])[:16]}"

    @property
    def site(self) -> str:
        """The content: another folder is another site."""
        return self.key

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

    def deletions(self) -> list[Deletion]:
        """What `deleted.ndjson` tells."""
        path = self.folder / DELETED
        lines = path.read_bytes().splitlines() if path.is_file() else []
        told = [orjson.loads(line) for line in lines if line.strip()]
        return [
            Deletion(each["type"], each["id"], datetime.fromisoformat(each["at"])) for each in told
        ]

    def _paths(self) -> list[Path]:
        return sorted(path for path in self.folder.glob("*.ndjson*") if path.name != DELETED)


def _count(path: Path) -> int:
    lines = read_lines(unpack(file_chunks(path)))
    return sum(bool(line.strip(BLANKS)) for _, _, line in lines)
