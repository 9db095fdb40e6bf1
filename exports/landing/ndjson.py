"""NDJSON as a stream: unpacked, split into lines, and each line judged a FHIR resource or not.

Source: FHIR Bulk Data Access STU2, "File Requests" (one resource per line, UTF-8, one type a
file), and STU3, "organizeOutputBy" (a Parameters resource without id heads each block of
lines); RFC 1952 for gzip, whose members may follow one another.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final, Literal, TypeVar

import msgspec
import orjson
from isal import isal_zlib
from isal.igzip_lib import IsalError

from exports.resource_types import RESOURCE_TYPES

LONGEST_LINE: Final = 16 * 2**20
BLOCK: Final = 2**16
"""Bytes that are unpacked at once: what fits into a processor's own cache is worked on fastest."""
GZIP_MAGIC: Final = b"\x1f\x8b"
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
BLANKS: Final = b" \t\r\n"

Reason = Literal[
    "too-long", "not-utf8", "not-json", "not-object", "no-type", "unknown-type", "no-id"
]
Line = tuple[int, int, bytes]
T = TypeVar("T")
_CHECKED: Final = msgspec.json.Decoder(msgspec.Raw)
_LONGEST_INTEGER: Final = 18
"""Digits and sign of an integer that surely fits into 64 bits."""


class DamagedGzip(Exception):  # noqa: N818 - a state of the bytes, told where it is caught
    """A gzip stream that ends too early or can't be unpacked."""


def unpack(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The bytes behind `chunks`: gunzipped where they begin with gzip's magic, else as they are.

    Blocks of gzip come in at most 64 KiB, so that no small input can fill the memory.
    Raises `DamagedGzip`, also where the stream ends cleanly but before gzip's own end.
    """
    head, rest = _peek(chunks, len(GZIP_MAGIC))
    return _gunzip(rest) if head == GZIP_MAGIC else rest


def unmark(blocks: Iterable[bytes]) -> tuple[bool, Iterator[bytes]]:
    """Whether `blocks` begin with a byte order mark, and what follows it."""
    head, rest = _peek(blocks, len(BYTE_ORDER_MARK))
    if head != BYTE_ORDER_MARK:
        return False, rest
    return True, chain((next(rest)[len(BYTE_ORDER_MARK) :],), rest)


def whole_lines(blocks: Iterable[bytes]) -> Iterator[tuple[bytes, int]]:
    """Runs of whole lines, without the last one's line feed.

    A line over 16 MiB comes cut one byte above that, so that the reader sees that it is too long;
    beside each run stands how many bytes its first line was cut by.
    """
    held, dropped = b"", 0
    for given in blocks:
        block = given
        if dropped:
            end = block.find(b"\n")
            dropped += len(block) if end < 0 else end
            if end < 0:
                continue
            block = block[end:]
        text = held + block
        end = text.rfind(b"\n")
        if end >= 0:
            yield text[:end], dropped
            dropped = 0
        held = text[end + 1 :]
        if len(held) > LONGEST_LINE + 1:
            dropped = len(held) - LONGEST_LINE - 1
            held = held[: LONGEST_LINE + 1]
    if held:
        yield held, dropped


def read_lines(blocks: Iterable[bytes]) -> Iterator[Line]:
    """Each line as (number from 1, byte offset in the unpacked file, bytes without line feed).

    A line over 16 MiB comes cut one byte above that.
    """
    marked, rest = unmark(blocks)
    number, offset = 1, len(BYTE_ORDER_MARK) if marked else 0
    for text, dropped in whole_lines(rest):
        cut = dropped
        for line in text.split(b"\n"):
            yield number, offset, line
            number += 1
            offset += len(line) + 1 + cut
            cut = 0


def judge(line: bytes) -> tuple[str, str] | Reason | None:
    """A good line's (resource type, id), a bad line's reason, or None for a blank or a header."""
    resource = read_resource(line)
    if not isinstance(resource, dict):
        return resource
    return None if is_header(resource) else (resource["resourceType"], resource["id"])


def read_resource(line: bytes) -> dict[str, Any] | Reason | None:
    """A good line's or a header's content, a bad line's reason, or None for a blank line."""
    if len(line) > LONGEST_LINE:
        return "too-long"
    try:
        resource = load(line)
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
    named = isinstance(resource_id, str) and resource_id
    return resource if named or is_header(resource) else "no-id"


def load(line: bytes) -> Any:
    """What a line's JSON says; a number beyond all doubles (1e999) is infinite.

    JSON bounds no number (RFC 8259, section 6). Raises `orjson.JSONDecodeError`.
    """
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            _CHECKED.decode(line)
            return json.loads(line.decode(), parse_int=_number)
        except (msgspec.MsgspecError, ValueError, RecursionError):
            pass
        raise


def decoded(decoder: msgspec.json.Decoder[T], line: bytes) -> T:
    """What a typed decoder reads of a good line: numbers as `load` has them."""
    try:
        return decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return msgspec.convert(load(line), decoder.type)


def is_header(resource: dict[str, Any]) -> bool:
    """Whether it only says whose resources follow, in a file that is organized by patient."""
    return resource["resourceType"] == "Parameters" and "id" not in resource


def _number(written: str) -> float:
    return int(written) if len(written) <= _LONGEST_INTEGER else float(written)


def _why_not_json(line: bytes) -> Reason | None:
    if not line.strip(BLANKS):
        return None
    try:
        line.decode()
    except UnicodeDecodeError:
        return "not-utf8"
    return "not-json"


def _gunzip(chunks: Iterable[bytes]) -> Iterator[bytes]:
    member = isal_zlib.decompressobj(wbits=31)
    try:
        for given in chunks:
            chunk = given
            while chunk:
                if member.eof:
                    chunk = chunk.lstrip(b"\0")
                    if not chunk:
                        break
                    member = isal_zlib.decompressobj(wbits=31)
                if block := member.decompress(chunk, BLOCK):
                    yield block
                chunk = member.unused_data if member.eof else member.unconsumed_tail
    except IsalError:  # type: ignore[misc]
        raise DamagedGzip("the gzip stream is corrupt") from None
    if not member.eof:
        raise DamagedGzip("the gzip stream ends too early")


def _peek(chunks: Iterable[bytes], size: int) -> tuple[bytes, Iterator[bytes]]:
    """The first `size` bytes, and all the bytes; the first chunk of these holds the former."""
    rest, head = iter(chunks), b""
    while len(head) < size and (chunk := next(rest, None)) is not None:
        head += chunk
    return head[:size], chain((head,), rest)
