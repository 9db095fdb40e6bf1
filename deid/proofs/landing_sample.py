"""A bounded sample of a run's own resources: as large for a hundred patients as for a million."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from exports.landing.zone import LandingZone

FILES: Final = 4
"""Delivered files of one type that a sample is taken from, spread over all of them."""
LONGEST: Final = 1 << 17
"""Bytes; a longer line (an attachment, as a rule) is passed over."""


def sampled(
    landing: LandingZone, resource: str, *, most_lines: int, most_bytes: int
) -> list[bytes]:
    """Lines of that type from the beginnings of some files: the same ones every time."""
    paths = landing.paths(resource)
    chosen = paths[:: max(1, len(paths) // FILES)][:FILES]
    share = max(1, len(chosen))
    return [
        line
        for path in chosen
        for line in _beginning(path, most_lines // share, most_bytes // share)
    ]


def _beginning(path: Path, most_lines: int, most_bytes: int) -> Iterator[bytes]:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        for line in islice(file, most_lines):
            most_bytes -= len(line)
            if most_bytes < 0:
                return
            if line.strip() and len(line) <= LONGEST:
                yield line.strip() + b"\n"
