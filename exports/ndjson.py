"""NDJSON as a stream: unpacked, split into lines, and each line judged a FHIR resource or not.

Source: FHIR Bulk Data Access STU2, "File Requests" (one resource per line, UTF-8, one type a
file); RFC 1952 for gzip, whose members may follow one another.
"""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Final, Literal

import orjson

from exports.resource_types import RESOURCE_TYPES

LONGEST_LINE: Final = 16 * 2**20
BLOCK: Final = 2**20
GZIP_MAGIC: Final = b"\x1f\x8b"
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
BLANKS: Final = b" \t\r\n"

Reason = Literal[
    "too-long", "not-utf8", "not-json", "not-object", "no-type", "unknown-type", "no-id"
]
Line = tuple[int, int, bytes]


class DamagedGzip(Exception):  # noqa: N818 - a state of the bytes, told where it is caught
    """A gzip stream that ends too early or can't be unpacked."""


@dataclass(frozen=True)
class Judged:
    """What the lines of one file are.

    `rows` and `ids` (distinct) count the good lines by resource type, `bad` the others by reason;
    blank lines are in neither. `marked`: the file begins with a byte order mark.
    """

    rows: Mapping[str, int]
    ids: Mapping[str, int]
    bad: Mapping[str, int]
    marked: bool

    @property
    def lines(self) -> int:
        """All lines that aren't blank."""
        return sum(self.rows.values()) + sum(self.bad.values())

    @property
    def readable(self) -> bool:
        """Whether a strict reader can take the file as it is: one type, and no bad line."""
        return len(self.rows) <= 1 and not self.bad and not self.marked


def unpack(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The bytes behind `chunks`: gunzipped where they begin with gzip's magic, else as they are.

    Blocks of gzip come in at most 1 MiB, so that no small input can fill the memory.
    Raises `DamagedGzip`, also where the stream ends cleanly but before gzip's own end.
    """
    head, rest = _peek(chunks, len(GZIP_MAGIC))
    return _gunzip(rest) if head == GZIP_MAGIC else rest


def read_lines(blocks: Iterable[bytes]) -> Iterator[Line]:
    """Each line as (number from 1, byte offset in the unpacked file, bytes without line feed).

    A line over 16 MiB comes cut one byte above that, so that the reader sees that it is too long.
    """
    head, rest = _peek(blocks, len(BYTE_ORDER_MARK))
    offset = len(BYTE_ORDER_MARK) if head == BYTE_ORDER_MARK else 0
    number, held, dropped, skip = 1, b"", 0, offset
    for given in rest:
        block, skip = given[skip:], max(0, skip - len(given))
        if dropped:
            end = block.find(b"\n")
            dropped += len(block) if end < 0 else end
            if end < 0:
                continue
            block = block[end:]
        pieces = (held + block).split(b"\n")
        held = pieces.pop()
        for piece in pieces:
            yield number, offset, piece
            number += 1
            offset += len(piece) + 1 + dropped
            dropped = 0
        if len(held) > LONGEST_LINE + 1:
            dropped = len(held) - LONGEST_LINE - 1
            held = held[: LONGEST_LINE + 1]
    if held:
        yield number, offset, held


def judge(line: bytes) -> tuple[str, str] | Reason | None:
    """A good line's (resource type, id), a bad line's reason, or None for a blank one."""
    if len(line) > LONGEST_LINE:
        return "too-long"
    try:
        resource = orjson.loads(line)
    except orjson.JSONDecodeError:
        return _why_not_json(line)
    if not isinstance(resource, dict):
        return "not-object"
    resource_type = resource.get("resourceType")
    if not isinstance(resource_type, str) or not resource_type:
        return "no-type"
    if resource_type not in RESOURCE_TYPES:
        return "unknown-type"
    resource_id = resource.get("id")
    if not isinstance(resource_id, str) or not resource_id:
        return "no-id"
    return resource_type, resource_id


def judge_all(lines: Iterable[Line]) -> Judged:
    """Judge every line, keeping the counts only."""
    rows: Counter[str] = Counter()
    ids: defaultdict[str, set[str]] = defaultdict(set)
    bad: Counter[str] = Counter()
    marked = False
    for number, offset, line in lines:
        marked |= number == 1 and offset > 0
        verdict = judge(line)
        if isinstance(verdict, tuple):
            rows[verdict[0]] += 1
            ids[verdict[0]].add(verdict[1])
        elif verdict is not None:
            bad[verdict] += 1
    return Judged(
        rows=dict(sorted(rows.items())),
        ids={name: len(found) for name, found in sorted(ids.items())},
        bad=dict(sorted(bad.items())),
        marked=marked,
    )


def _why_not_json(line: bytes) -> Reason | None:
    if not line.strip(BLANKS):
        return None
    try:
        line.decode()
    except UnicodeDecodeError:
        return "not-utf8"
    return "not-json"


def _gunzip(chunks: Iterable[bytes]) -> Iterator[bytes]:
    member = zlib.decompressobj(wbits=31)
    try:
        for given in chunks:
            chunk = given
            while chunk:
                if member.eof:
                    chunk = chunk.lstrip(b"\0")
                    if not chunk:
                        break
                    member = zlib.decompressobj(wbits=31)
                if block := member.decompress(chunk, BLOCK):
                    yield block
                chunk = member.unused_data if member.eof else member.unconsumed_tail
    except zlib.error:
        raise DamagedGzip("the gzip stream is corrupt") from None
    if not member.eof:
        raise DamagedGzip("the gzip stream ends too early")


def _peek(chunks: Iterable[bytes], size: int) -> tuple[bytes, Iterator[bytes]]:
    """The first `size` bytes, and all the bytes."""
    rest, head = iter(chunks), b""
    while len(head) < size and (chunk := next(rest, None)) is not None:
        head += chunk
    return head[:size], chain((head,), rest)
