"""Lines of NDJSON in one plain spelling, so that bytes can be searched for what JSON tells.

Escapes are undone, and what is not ASCII is brought into normal form (NFKC, case folded), without
a walk through the resource. A line keeps its place; one that can't be spelled plainly without a
doubt gets a `MARK`, and is to be walked.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

import orjson

from exports.landing.ndjson import load

MARK: Final = b"\x01\x01\x01\x01"
"""Bytes that no JSON holds."""
ESCAPES: Final = re.compile(rb"\\[^/u]")
"""Found from the left, so that of a run of backslashes each second one is escaped. They become
spaces, quotes as well: so every quote that is left bounds a text."""
LONGEST_KEPT: Final = 200
"""Bytes of a text whose plain spelling is remembered."""
ATTACHED: Final = re.compile(rb'"data"\s*:\s*(?:"([^"]*)"|(\S))')

_NOT_ASCII: Final = re.compile(rb"[\x80-\xff]")
_OTHER: Final = re.compile(r"[^\w\x00-\x7f]")
_CONTROL: Final = re.compile(rb"\\u[0-9a-f]{4}")
"""What is written as an escape alone."""
_BREAKS: Final = re.compile(r'["\n]')


def readable(block: bytes) -> bytes:
    """Whole lines in their plain spelling."""
    if b"\\" in block:
        if b"\\u" in block:
            lines = block.split(b"\n")
            block = b"\n".join(_respelled(line) if b"\\u" in line else line for line in lines)
        block = ESCAPES.sub(b" ", block)
        if b"\\" in block:
            block = _CONTROL.sub(b" ", block.replace(b"\\/", b"/"))
    return block if block.isascii() else _folded(block)


def attached(line: bytes) -> Iterator[bytes]:
    """The texts of a readable line's attachments (base64), readable themselves."""
    for data, other in ATTACHED.findall(line):
        try:
            text = MARK if other else base64.b64decode(data)
        except (binascii.Error, ValueError):
            continue
        yield readable_text(text)


def readable_text(text: bytes) -> bytes:
    """A text that is no JSON, on one line."""
    if text.isascii():
        return text.replace(b'"', b" ").replace(b"\n", b" ")
    return _plain(text.decode(errors="replace"))


def _respelled(line: bytes) -> bytes:
    try:
        return orjson.dumps(load(line))
    except orjson.JSONEncodeError:  # nested deeper than it writes
        return MARK


def _folded(block: bytes) -> bytes:
    """The block with each text that is not ASCII brought into its plain spelling."""
    pieces: list[bytes] = []
    done = 0
    while match := _NOT_ASCII.search(block, done):
        begin = block.rfind(b'"', done, match.start())
        end = block.find(b'"', match.end())
        if min(begin, end) < 0 or block.find(b"\n", begin, end) >= 0:  # it stands in no text
            pieces += block[done : match.start()], MARK
            done = match.end()
            continue
        text = block[begin + 1 : end]
        spelled = _kept(text) if len(text) <= LONGEST_KEPT else _plain(text.decode())
        pieces += block[done : begin + 1], spelled
        done = end
    pieces.append(block[done:])
    return b"".join(pieces)


@lru_cache(2**16)
def _kept(text: bytes) -> bytes:
    return _plain(text.decode())


def _plain(text: str) -> bytes:
    """A text in normal form, where that goes character by character.

    Then the normal form of each part of it is a part of this. Where it does not (marks that
    combine, characters that are not seen, digits of other scripts), the `MARK`.
    """
    others = {other for other in set(text) if not other.isascii()}
    each = {other: unicodedata.normalize("NFKC", other) for other in others}
    whole = unicodedata.normalize("NFKC", text)
    one_by_one = text.translate({ord(other): spelled for other, spelled in each.items()})
    if whole != one_by_one or any(_depends(*pair) for pair in each.items()):
        return MARK
    spelled = _OTHER.sub(" ", _BREAKS.sub(" ", whole.casefold()))
    if whole != text:
        # As it stands in a reference, whose characters are ASCII alone.
        spelled += '"' + _BREAKS.sub(" ", text.encode("ascii", "replace").decode())
    return spelled.encode()


def _depends(character: str, normalized: str) -> bool:
    """Whether what a character means depends on those beside it, or on who reads it as a digit."""
    return (
        unicodedata.category(character)[0] == "M"
        or unicodedata.category(character) == "Cf"
        or any(c.isnumeric() or unicodedata.category(c)[0] == "M" for c in normalized)
    )
