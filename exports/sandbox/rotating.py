"""Gzip NDJSON files as a Bulk Data server delivers them: several of a type, in bounded memory."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import orjson
from isal import isal_zlib

from exports.sandbox.elements import Resource

CHUNK: Final = 1 << 18
LEVEL: Final = 1
GZIP: Final = 31
"""`wbits` of a gzip stream."""


@dataclass(frozen=True)
class ExportedFile:
    """One file: its name in the folder, its resource type, its number of lines."""

    name: str
    type: str
    rows: int


@dataclass(frozen=True)
class ExportedFiles:
    """All files of an export, by type and number."""

    files: tuple[ExportedFile, ...]

    @property
    def rows(self) -> dict[str, int]:
        """Rows by resource type, with everything that is repeated."""
        counts: Counter[str] = Counter()
        for file in self.files:
            counts[file.type] += file.rows
        return dict(counts)


class RotatingFiles:
    """One open file for each resource type; a full one is closed and the next begun."""

    def __init__(self, folder: Path, rows_per_file: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._rows_per_file = folder, rows_per_file
        self._open: dict[str, _File] = {}
        self._held: dict[str, list[bytes]] = {}
        self._closed: list[ExportedFile] = []

    @property
    def written(self) -> ExportedFiles:
        """What has been written; complete after the `with` block."""
        return ExportedFiles(tuple(sorted(self._closed, key=lambda file: file.name)))

    def add(self, resource: Resource) -> None:
        """Write a resource into the file of its type."""
        self.add_line(resource["resourceType"], orjson.dumps(resource))

    def add_line(self, name: str, line: bytes) -> None:
        """Write a line into the files of that name, which is a resource type or like one."""
        self._write(name, line)

    def hold(self, resource: Resource) -> None:
        """Keep a resource for the next file of its type."""
        self._held.setdefault(resource["resourceType"], []).append(orjson.dumps(resource))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for resource_type in list(self._held):
            self._close(resource_type)
            for line in self._held.pop(resource_type, []):
                self._write(resource_type, line)
        for resource_type in list(self._open):
            self._close(resource_type)

    def _write(self, resource_type: str, line: bytes) -> None:
        if resource_type not in self._open:
            self._begin(resource_type)
        file = self._open[resource_type]
        file.write(line)
        if file.rows >= self._rows_per_file:
            self._close(resource_type)

    def _begin(self, resource_type: str) -> None:
        number = 1 + sum(1 for file in self._closed if file.type == resource_type)
        name = f"{resource_type}.{number:04d}.ndjson.gz"
        self._open[resource_type] = _File(self._folder / name)
        for line in self._held.pop(resource_type, []):
            self._write(resource_type, line)

    def _close(self, resource_type: str) -> None:
        file = self._open.pop(resource_type, None)
        if file is not None:
            file.close()
            self._closed.append(ExportedFile(file.path.name, resource_type, file.rows))


class _File:
    def __init__(self, path: Path) -> None:
        self.path, self.rows = path, 0
        self._raw = path.open("wb")
        # Its header has no name and no time: equal rows give equal bytes.
        self._zip = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, GZIP)
        self._buffer = bytearray()

    def write(self, line: bytes) -> None:
        self._buffer += line
        self._buffer += b"\n"
        self.rows += 1
        if len(self._buffer) >= CHUNK:
            self._raw.write(self._zip.compress(self._buffer))
            self._buffer.clear()

    def close(self) -> None:
        self._raw.write(self._zip.compress(self._buffer) + self._zip.flush())
        self._raw.close()
