"""The commands on the crosswalk in a process that dies just before it changes the folder again."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, Final

from deid.identity import ledger
from deid.identity.rekeying import rekey
from deid.identity.removal import remove_patients
from deid.identity.rotation import rotate_surrogates

KILLED: Final = -signal.SIGKILL
WHY: Final = "asked for it"
COMMANDS: Final[dict[str, Callable[[Path], object]]] = {
    "remove": lambda work: remove_patients(work, ["p2"], WHY, purged=True),
    "rotate": lambda work: rotate_surrogates(work / "phi", WHY),
    "rekey": lambda work: rekey(work / "phi", f"file:{work / 'new.key'}"),
}
CHANGES: Final = (
    *((Path, name) for name in ("rename", "replace", "unlink", "symlink_to")),
    (shutil, "rmtree"),
    (ledger, "open_private"),
)


def _deadly(place: Any, name: str, left: list[int]) -> None:
    change = getattr(place, name)

    def changed(*arguments: Any, **more: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return change(*arguments, **more)

    setattr(place, name, changed)


def run(command: str, work: Path, changes: int) -> None:
    """The command, killed when it is about to make one change more than so many."""
    left = [changes]
    for place, name in CHANGES:
        _deadly(place, name, left)
    COMMANDS[command](work)


def forks() -> ForkServerContext:
    """Where processes come from: a server that has imported all of it already."""
    return multiprocessing.get_context("forkserver")


def chain_of_kills(command: str, work: Path) -> int:
    """Run it again and again, each time for one change longer, until it ends; how often it died."""
    context = forks()
    context.set_forkserver_preload([__name__])
    for changes in range(60):
        process = context.Process(target=run, args=(command, work, changes), daemon=True)
        process.start()
        process.join()
        if process.exitcode != KILLED:
            assert process.exitcode == 0
            return changes
    raise AssertionError("it never ends")
