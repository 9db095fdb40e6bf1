"""One process at a time: the others are refused, or wait. A killed process holds nothing back."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exports.durable import open_private
from exports.errors import FhirloomError


@contextmanager
def alone(lock: Path, refusal: FhirloomError) -> Iterator[None]:
    """Hold `lock` while the block runs; raises `refusal` where another holds it."""
    lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open_private(lock, "w") as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise refusal from None
        yield


@contextmanager
def in_turn(lock: Path) -> Iterator[None]:
    """Hold `lock` while the block runs, once no other does."""
    with open_private(lock, "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
