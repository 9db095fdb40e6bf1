"""How a stage tells how far it is, without knowing who listens."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called now and then by a stage with what is done, of how much (None: unknown), in what."""

    def __call__(self, done: int, total: int | None, unit: str) -> None:
        """Report `done` of `total` in `unit`, a plural noun such as `files` or `rows`."""


def silent(done: int, total: int | None, unit: str) -> None:
    """The listener that hears nothing: the default of every stage."""
