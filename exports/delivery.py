"""One delivered file, taken in a single pass: stored as it came, hashed, unpacked and judged."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from exports.ndjson import GZIP_MAGIC, Judged, judge_all, read_lines, unpack


@dataclass(frozen=True)
class Delivered:
    """A stored file: its size and hash as stored (packed, where it came packed), and its lines."""

    bytes: int
    sha256: str
    gzipped: bool
    judged: Judged

    @property
    def suffix(self) -> str:
        """The file name's ending that tells a reader how to unpack it."""
        return ".ndjson.gz" if self.gzipped else ".ndjson"

    def to_json(self) -> dict[str, Any]:
        """As a JSON value."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Delivered:
        """From what `to_json` made."""
        return cls(**{**value, "judged": Judged(**value["judged"])})


class _Recorder:
    """Passes chunks on, once they are in the file and in the hash."""

    def __init__(self, chunks: Iterable[bytes], path: Path) -> None:
        self._chunks = chunks
        self._path = path
        self.hash = hashlib.sha256()
        self.bytes = 0
        self.head = b""

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("wb") as file:
            for chunk in self._chunks:
                file.write(chunk)
                self.hash.update(chunk)
                self.bytes += len(chunk)
                if len(self.head) < len(GZIP_MAGIC):
                    self.head += chunk[: len(GZIP_MAGIC)]
                yield chunk


def take(chunks: Iterable[bytes], path: Path) -> Delivered:
    """Store `chunks` at `path` and judge their lines on the way.

    Raises `exports.ndjson.DamagedGzip` where they begin as gzip and don't end as gzip.
    """
    recorder = _Recorder(chunks, path)
    judged = judge_all(read_lines(unpack(recorder)))
    return Delivered(
        bytes=recorder.bytes,
        sha256=recorder.hash.hexdigest(),
        gzipped=recorder.head.startswith(GZIP_MAGIC),
        judged=judged,
    )


def file_chunks(path: Path) -> Iterator[bytes]:
    """A file's bytes in blocks of 256 KiB."""
    with path.open("rb") as file:
        while chunk := file.read(2**18):
            yield chunk
