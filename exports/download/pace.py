"""How many requests are in flight at once: fewer when the server says it is too much, then more.

Source: RFC 6585, section 4, and RFC 9110, section 15.6.4 (429 and 503, with Retry-After).
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition

from exports.connection.transport import Patience


class Stopped(Exception):  # noqa: N818 - not a fault: another thread's was
    """The work is being given up."""


class Pace:
    """Shared by threads that ask one server: one limit, and one pause, for all of them."""

    def __init__(self, most: int, patience: Patience) -> None:
        self._most = most
        self._patience = patience
        self._changed = Condition()
        self._allowed = most
        self._in_flight = 0
        self._successes = 0
        self._pauses = 0
        self._resume_at = 0.0
        self._stopped = False

    @property
    def allowed(self) -> int:
        """How many may be in flight at present."""
        return self._allowed

    @property
    def stopped(self) -> bool:
        """Whether the work is being given up."""
        return self._stopped

    @contextmanager
    def turn(self) -> Iterator[None]:
        """One request in flight, once the limit and the pause allow it. Raises `Stopped`."""
        with self._changed:
            while self._must_wait():
                self._changed.wait(self._pause_left() or None)
            self._in_flight += 1
        try:
            yield
        finally:
            with self._changed:
                self._in_flight -= 1
                self._changed.notify_all()

    def wait(self, seconds: float) -> None:
        """Pause this thread alone. Raises `Stopped`."""
        until = time.monotonic() + seconds
        with self._changed:
            while not self._stopped and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            self._must_wait()

    def slow_down(self, seconds: float | None) -> bool:
        """The server had enough: halve the limit, and pause all for what it asks.

        Whoever was in flight at the same time hears the same and changes nothing more than the
        pause. False where the server has had enough too often, with no success in between.
        """
        with self._changed:
            if not self._pause_left():
                self._allowed = max(1, self._allowed // 2)
                self._pauses += 1
                self._successes = 0
            pause = seconds or self._patience.wait(self._pauses - 1)
            self._resume_at = max(self._resume_at, time.monotonic() + pause)
            return self._pauses <= self._patience.retries

    def succeeded(self) -> None:
        """A request went well; as many as the limit in a row raise it by one."""
        with self._changed:
            self._pauses = 0
            self._successes += 1
            if self._successes >= self._allowed < self._most:
                self._allowed += 1
                self._successes = 0
                self._changed.notify_all()

    def stop(self) -> None:
        """Let nobody begin, and wake whoever waits."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _must_wait(self) -> bool:
        if self._stopped:
            raise Stopped
        return self._in_flight >= self._allowed or self._pause_left() > 0

    def _pause_left(self) -> float:
        return max(0.0, self._resume_at - time.monotonic())
