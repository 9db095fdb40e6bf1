"""Room on the disk for what is going to arrive: looked at before, and told when it runs out."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from exports.bulk.manifest import RemoteFile
from exports.errors import NO_ROOM, FhirloomError

RESERVE: Final = 64 * 2**20
"""Bytes for records, clean copies and files whose size nobody told."""
UNITS: Final = ("bytes", "KB", "MB", "GB", "TB", "PB")


def check_space(folder: Path, files: Iterable[RemoteFile]) -> None:
    """Raise `FhirloomError` (bad-input) unless `folder` has room for `files`, as their sizes say.

    The landing zone takes no room of its own: its files are second names of the downloads.
    """
    needed = RESERVE + sum(file.size or 0 for file in files)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise FhirloomError(
            "bad-input",
            f"The export needs {_readable(needed)} and the disk has {_readable(free)} free",
            where="the work folder",
            fix="Free some space, or take a work folder on a larger disk.",
        )


@contextmanager
def telling_when_full(where: str) -> Iterator[None]:
    """Turn the system's error for a full disk into a `FhirloomError` (bad-input)."""
    try:
        yield
    except OSError as fault:
        if fault.errno not in NO_ROOM:
            raise
        raise FhirloomError(
            "bad-input",
            "The disk is full",
            where=where,
            fix="Free some space, then run again: the export continues where it stopped.",
        ) from None


def _readable(size: int) -> str:
    amount, unit = float(size), UNITS[0]
    for unit in UNITS:
        if amount < 1000 or unit == UNITS[-1]:
            break
        amount /= 1000
    return f"{amount:.0f} {unit}" if amount >= 10 or unit == UNITS[0] else f"{amount:.1f} {unit}"
