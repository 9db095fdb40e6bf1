"""The SMART bulk-data export log: what an export did, event by event, for its operator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol


class EventLog(Protocol):
    """Told of each step of an export."""

    def event(self, name: str, detail: Mapping[str, Any]) -> None:
        """Record one event by its name in the log format, with its `eventDetail`."""


class _NoLog:
    def event(self, name: str, detail: Mapping[str, Any]) -> None:
        """Nothing is recorded."""


NO_LOG: Final[EventLog] = _NoLog()
"""The log of an export that nobody wants one of."""
