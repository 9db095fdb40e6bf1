"""NDJSON that came inside of a Binary resource: older servers answer so where files are Binaries.

Source: FHIR R4, section 2.19 (Binary): `data` is the content, in base64.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Final

import orjson

from exports.download.partial import Partial
from exports.landing.delivery import Delivered, file_chunks, take
from exports.landing.ndjson import DamagedGzip, unpack

DATA: Final = re.compile(rb'"data"\s*:\s*"')
LARGEST_SHELL: Final = 2**16
"""Bytes of a Binary resource beside its data, on either side."""
BETWEEN: Final = re.compile(rb"\\[nrt]|\s")
"""What may stand between the characters of base64."""


def unwrap(partial: Partial, delivered: Delivered, expected_type: str) -> Delivered:
    """Put in place of a Binary of NDJSON what is in it; any other file stays as it is."""
    judged = delivered.judged
    is_one = judged.rows == {"Binary": 1} and judged.lines == 1
    if expected_type == "Binary" or not (is_one or (judged.bad and not judged.rows)):
        return delivered
    inside, identities = (
        partial.path.with_suffix(".inside"),
        partial.path.with_suffix(".inside.ids"),
    )
    wrapping = _Wrapping(unpack(file_chunks(partial.path)))
    try:
        unwrapped = take(wrapping, inside, identities=identities)
        if not wrapping.is_of_ndjson():
            return delivered
    except (binascii.Error, DamagedGzip):
        return delivered
    else:
        inside.replace(partial.path)
        identities.replace(partial.identities)
        return replace(unwrapped, unwrapped=True)
    finally:
        inside.unlink(missing_ok=True)
        identities.unlink(missing_ok=True)


class _Wrapping:
    """Passes on the content of a Binary resource; keeps the resource without it."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = iter(blocks)
        self._shell = b""

    def is_of_ndjson(self) -> bool:
        """Whether all that was read is one such resource."""
        try:
            resource = orjson.loads(self._shell)
        except orjson.JSONDecodeError:
            return False
        return (
            isinstance(resource, dict)
            and resource.get("resourceType") == "Binary"
            and "ndjson" in str(resource.get("contentType"))
        )

    def __iter__(self) -> Iterator[bytes]:
        left = b""
        for piece in self._data():
            text = BETWEEN.sub(b"", left + piece)
            usable = 0 if text.endswith(b"\\") else len(text)
            text, left = text[:usable].replace(b"\\/", b"/"), text[usable:]
            whole = len(text) // 4 * 4
            yield binascii.a2b_base64(text[:whole], strict_mode=True)
            left = text[whole:] + left
        if left:
            raise binascii.Error("the data ends too early")

    def _data(self) -> Iterator[bytes]:
        """The text of `data`, piece by piece, as it stands between the quotes."""
        before = b""
        while (start := DATA.search(before)) is None:
            block = next(self._blocks, None)
            if block is None or len(before) > LARGEST_SHELL:
                return
            before += block
        self._shell = before[: start.end()]
        blocks = chain([before[start.end() :]], self._blocks)
        for block in blocks:
            data, quote, after = block.partition(b'"')
            yield data
            if quote:
                self._shell += b'"' + after
                break
        for block in blocks:
            self._shell += block
            if len(self._shell) > 2 * LARGEST_SHELL:
                return
