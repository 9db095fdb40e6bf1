"""Which of several versions of one resource stands: the order of versions, made once.

The newest `meta.lastUpdated` stands, compared as an instant; one that is missing or unreadable is
older than any. Of versions of the same instant the one whose SHA-256 (hex, of the line without the
blanks around it) is greatest stands: no better reason than any other, but the same every time.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from exports.landing.delivery import file_chunks
from exports.landing.ndjson import BLANKS, Line, decoded, read_lines, unpack

INSTANT: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:T(\d\d:\d\d)(?::(\d\d)(?:\.(\d+))?)?(Z|[+-]\d\d:?\d\d)?)?"
)


class Version(NamedTuple):
    """One version's place in the order of versions: the greater one is the newer.

    `updated` is what `instant` made of `meta.lastUpdated`, `content` the SHA-256 of the line.
    """

    updated: str
    content: str


class _Head(msgspec.Struct):
    """All that is read of a resource to place it."""

    resource_type: str = msgspec.field(name="resourceType")
    id: str
    meta: Any = None


_read_head: Final = msgspec.json.Decoder(_Head)


def place(line: bytes) -> tuple[str, str, Version]:
    """(resource type, id, version) of a line that holds a good resource."""
    stripped = line.strip(BLANKS)
    head = decoded(_read_head, stripped)
    updated = head.meta.get("lastUpdated") if isinstance(head.meta, dict) else None
    written = instant(updated) if isinstance(updated, str) else ""
    return head.resource_type, head.id, Version(written, hashlib.sha256(stripped).hexdigest())


@lru_cache(2**12)
def instant(written: str) -> str:
    """A FHIR instant in UTC, written so that text compares as time does; "" if it is none.

    A fraction keeps all its digits but trailing zeros; a time without zone is taken as UTC, a date
    as its midnight (FHIR R4, "instant"). A zone without its colon, as some servers write it, is
    one all the same.
    """
    parts = INSTANT.fullmatch(written)
    if parts is None:
        return ""
    day, minute, second, fraction, zone = parts.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{minute or '00:00'}{zone or 'Z'}")
        # A leap second is the sixtieth of its minute.
        moment = moment.astimezone(UTC) + timedelta(seconds=int(second or 0))
    except (ValueError, OverflowError):
        return ""
    tail = (fraction or "").rstrip("0")
    return moment.strftime("%Y-%m-%dT%H:%M:%S").rjust(19, "0") + (f".{tail}" if tail else "")


def good_lines(path: Path) -> Iterator[Line]:
    """The lines of a clean NDJSON file (plain or gzip) that aren't blank."""
    for number, offset, line in read_lines(unpack(file_chunks(path))):
        if line.strip(BLANKS):
            yield number, offset, line
