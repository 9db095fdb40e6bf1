"""What a stage costs: seconds, peak memory, and MB of its input per CPU second."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAXRSS_UNIT: Final = 1 if sys.platform == "darwin" else 1024
MEGABYTE: Final = 1_000_000


@dataclass
class Cost:
    """The cost of one stage; all zero until its block ends.

    `peak_bytes` is the process's high-water mark within the stage on Linux, and since its start
    elsewhere. `cpu_seconds` count this process and the children that ended, user and system.
    `skipped` says that the stage found its output sealed.
    """

    stage: str
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_bytes: int = 0
    input_bytes: int = 0
    skipped: bool = False

    def facts(self) -> dict[str, object]:
        """The figures that the summary shows."""
        rate = self.input_bytes / MEGABYTE / self.cpu_seconds if self.cpu_seconds else 0.0
        return {
            "stage": self.stage,
            "skipped": self.skipped,
            "seconds": round(self.seconds, 2),
            "peak_mb": round(self.peak_bytes / MEGABYTE),
            "input_mb": round(self.input_bytes / MEGABYTE, 2),
            "mb_per_cpu_second": round(rate, 2),
        }


@contextmanager
def metered(stage: str) -> Iterator[Cost]:
    """Measure the block; the caller sets `input_bytes` and `skipped`."""
    cost = Cost(stage)
    with suppress(OSError):  # Linux alone can set the high-water mark back
        Path("/proc/self/clear_refs").write_text("5")
    started, cpu = time.monotonic(), _cpu_seconds()
    try:
        yield cost
    finally:
        cost.seconds = time.monotonic() - started
        cost.cpu_seconds = _cpu_seconds() - cpu
        cost.peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * MAXRSS_UNIT


def folder_bytes(folder: Path) -> int:
    """The size of all files below `folder`."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _cpu_seconds() -> float:
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )
