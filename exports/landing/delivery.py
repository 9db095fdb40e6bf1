"""One delivered file, taken in a single pass: stored as it came, hashed, unpacked and judged."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from exports.durable import open_private
from exports.landing.identities import IdHashes
from exports.landing.judging import Judged, judge_all
from exports.landing.ndjson import GZIP_MAGIC, unpack


@dataclass(frozen=True)
class Delivered:
    """A stored file: its size and hash as stored (packed, where it came packed), and its lines.

    `unpacked` is its size in bytes behind the gzip. `identities` is the SHA-256 of the file of its
    id hashes ("" where none was asked for). `unwrapped`: the lines came inside of a Binary
    resource, and the stored file is what was in it.
    """

    bytes: int
    sha256: str
    gzipped: bool
    judged: Judged
    unpacked: int = 0
    identities: str = ""
    unwrapped: bool = False

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
    """Passes chunks on, once they are in the hash and, but for the first `stored`, in the file."""

    def __init__(self, path: Path, chunks: Iterable[bytes], stored: int) -> None:
        self._path = path
        self._chunks = chunks
        self._stored = stored
        self.hash = hashlib.sha256()
        self.bytes = 0
        self.head = b""

    def __iter__(self) -> Iterator[bytes]:
        before = file_chunks(self._path, self._stored) if self._stored else ()
        for chunk in before:
            yield self._seen(chunk)
        with open_private(self._path, "r+b" if self._stored else "wb") as file:
            file.seek(self._stored)
            file.truncate()
            for chunk in self._chunks:
                file.write(chunk)
                yield self._seen(chunk)

    def _seen(self, chunk: bytes) -> bytes:
        self.hash.update(chunk)
        self.bytes += len(chunk)
        if len(self.head) < len(GZIP_MAGIC):
            self.head += chunk[: len(GZIP_MAGIC)]
        return chunk


class _Meter:
    """Passes blocks on, adding up their bytes."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = blocks
        self.bytes = 0

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            self.bytes += len(block)
            yield block


def take(
    chunks: Iterable[bytes], path: Path, *, stored: int = 0, identities: Path | None = None
) -> Delivered:
    """Store `chunks` at `path` and judge their lines on the way.

    The first `stored` bytes of the file are there already, and `chunks` go on after them: they
    are judged and hashed from the disk. `identities` is where to keep the hashes of the ids.
    Raises `exports.landing.ndjson.DamagedGzip` where they begin as gzip and don't end as gzip.
    """
    recorder = _Recorder(path, chunks, stored)
    blocks, hashes = _Meter(unpack(recorder)), IdHashes()
    judged = judge_all(blocks, hashes)
    return Delivered(
        bytes=recorder.bytes,
        sha256=recorder.hash.hexdigest(),
        gzipped=recorder.head.startswith(GZIP_MAGIC),
        judged=judged,
        unpacked=blocks.bytes,
        identities="" if identities is None else hashes.write(identities),
    )


def file_chunks(path: Path, size: int | None = None) -> Iterator[bytes]:
    """A file's bytes (the first `size`, if given) in blocks of 256 KiB."""
    left = path.stat().st_size if size is None else size
    with path.open("rb") as file:
        while left > 0 and (chunk := file.read(min(left, 2**18))):
            left -= len(chunk)
            yield chunk
