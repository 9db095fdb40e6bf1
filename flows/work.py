"""The work folder: `phi/` for its owner alone, `research/` for everyone, one run at a time."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exports.errors import FhirloomError
from exports.turns import alone
from flows.settings import Settings

if TYPE_CHECKING:
    from deid.policy import PolicyName


@dataclass(frozen=True)
class Work:
    """A work folder that is fit for use."""

    path: Path

    @property
    def phi(self) -> Path:
        """The identified zone."""
        return self.path / "phi"

    @property
    def research(self) -> Path:
        """The de-identified zone."""
        return self.path / "research"

    def released(self, policy: PolicyName) -> Path:
        """Where the tables of that policy stand, and whatever is made from them."""
        from deid.policy import Policy

        return Policy(policy).released(self.path)

    @property
    def sandbox(self) -> Path:
        """What the sandbox EHR keeps: its files, its jobs and its client's key."""
        return self.phi / "sandbox"

    def truth(self, settings: Settings) -> Path:
        """What the sandbox knows of its patients outside the FHIR data."""
        return self.phi / "truth" / f"seed-{settings.seed}-patients-{settings.patients}"


def open_work(path: Path) -> Work:
    """Make the two zones below `path`, and refuse a `phi/` that others can read.

    Raises `FhirloomError` (bad-input) where `phi/` is another user's, is a link, or can't be
    closed to others.
    """
    work = Work(path.absolute())
    try:
        work.phi.mkdir(mode=0o700, parents=True, exist_ok=True)
        work.research.mkdir(exist_ok=True)
        state = work.phi.lstat()
        mine = stat.S_ISDIR(state.st_mode) and state.st_uid == os.geteuid()
        if mine and state.st_mode & 0o077:
            work.phi.chmod(0o700)
        private = mine and not work.phi.lstat().st_mode & 0o077
    except OSError as error:
        raise FhirloomError(
            "bad-input",
            f"The work folder can't be used ({error.strerror})",
            where=str(path),
            fix="Give a folder of your own with --work.",
        ) from None
    if not private:
        raise FhirloomError(
            "bad-input",
            "Others than you own or can read the folder for identified data",
            where=str(work.phi),
            fix="Give a folder of your own with --work, on a file system that knows owners.",
        )
    return work


_held: set[Path] = set()


@contextmanager
def at_work(work: Work) -> Iterator[None]:
    """Keep other runs out of the work folder; a killed run's hold ends with its process.

    Within the block the same process may enter again: the command holds the folder for its flow.
    """
    if work.path in _held:
        yield
        return
    refusal = FhirloomError(
        "bad-input",
        "Another run is at work in this folder",
        where=str(work.path),
        fix="Wait until it ends, or give another folder with --work.",
    )
    with alone(work.phi / ".lock", refusal):
        _held.add(work.path)
        try:
            yield
        finally:
            _held.discard(work.path)
