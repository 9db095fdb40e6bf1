"""Runs the stages on a work folder in a process that is killed, again and again, until it ends.

`python chain_of_kills.py WORK NDJSON MOMENT...`: the n-th process is killed at the n-th MOMENT,
the last one is left alone. With `-` for NDJSON, patients come from where WORK has them from.
A moment is `before` or `after` (the first rename of a sealed folder into place that this process
does) or `progress:STAGE:N` (the N-th time that a stage reports).
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from exports.progress import Progress
from exports.sealed import MANIFEST
from flows import stages
from flows.settings import Settings, save_settings
from flows.work import open_work


class Silent:
    @contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        yield lambda done, total, unit: None


class Counting:
    """A display that kills the process at the N-th report of a stage."""

    def __init__(self, name: str, number: int) -> None:
        self.name, self.left = name, number

    @contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        def report(done: int, total: int | None, unit: str) -> None:
            self.left -= name == self.name
            if self.left == 0:
                die()

        yield report


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


def die_around_rename(moment: str) -> None:
    rename = Path.rename

    def renamed(self: Path, target: Any) -> Path:
        if not (self / MANIFEST).is_file():
            return rename(self, target)
        if moment == "after":
            rename(self, target)
        die()

    Path.rename = renamed  # type: ignore[method-assign, assignment]


def run(folder: Path, moment: str) -> None:
    shown: Silent | Counting = Silent()
    if moment.startswith("progress:"):
        _, name, number = moment.split(":")
        shown = Counting(name, int(number))
    elif moment:
        die_around_rename(moment)
    for stage in stages.ALL:
        stages.run(stage, open_work(folder), shown)


def main(folder: Path, ndjson: str, moments: list[str]) -> None:
    if ndjson != "-":
        save_settings(Settings(ndjson=ndjson), open_work(folder).phi)
    for moment in [*moments, ""]:
        child = os.fork()
        if child == 0:
            run(folder, moment)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        print(moment or "to the end", os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201


if __name__ == "__main__":
    import training.registry
    import training.report  # noqa: F401 - loaded once, before the forks

    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
