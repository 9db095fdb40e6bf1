"""A bounded sample of a run's own resources: as large for a hundred patients as for a million."""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Final

from deid.sql_on_fhir import fhir_types
from deid.sql_on_fhir.fhir_types import Element, is_complex
from exports.landing.ndjson import load
from exports.landing.zone import LandingZone

Resource = dict[str, Any]

FILES: Final = 4
"""Delivered files of one type that a sample is taken from, spread over all of them."""
DEEPEST: Final = 40
"""Objects within objects."""
LONGEST: Final = 1 << 17
"""Bytes; a longer line (an attachment, as a rule) is passed over."""


def sampled(
    landing: LandingZone, resource: str, *, most_lines: int, most_bytes: int
) -> list[Resource]:
    """Resources of that type from the beginnings of some files: the same ones every time.

    One that is not in the shape of FHIR can't be rewritten by what its elements mean: passed over.
    """
    paths = landing.paths(resource)
    chosen = paths[:: max(1, len(paths) // FILES)][:FILES]
    share = max(1, len(chosen))
    return [
        read
        for path in chosen
        for line in _beginning(path, most_lines // share, most_bytes // share)
        if in_shape(resource, read := load(line))
    ]


def in_shape(kind: str, value: Mapping[str, Any], room: int = DEEPEST) -> bool:
    """Whether objects and lists of a type stand where FHIR has them, and no list in a list."""
    known = _elements(kind)
    for key, item in value.items():
        element = known.get(key)
        if element is not None and item is not None and element.many != isinstance(item, list):
            return False
        inside = "" if element is None else element.type
        for each in item if isinstance(item, list) else [item]:
            if isinstance(each, list):
                return False
            if inside and each is not None and isinstance(each, dict) != is_complex(inside):
                return False
            if isinstance(each, dict):
                nested = str(each.get("resourceType")) if inside == "Resource" else inside
                if not room or not in_shape(nested, each, room - 1):
                    return False
    return True


@cache
def _elements(kind: str) -> Mapping[str, Element]:
    return {each.name: each for several in fhir_types.elements(kind) for each in several}


def _beginning(path: Path, most_lines: int, most_bytes: int) -> Iterator[bytes]:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        for line in islice(file, most_lines):
            most_bytes -= len(line)
            if most_bytes < 0:
                return
            if line.strip() and len(line) <= LONGEST:
                yield line.strip() + b"\n"
