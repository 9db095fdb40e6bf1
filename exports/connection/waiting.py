"""When a server says to come back, and how long that is.

Source: RFC 9110, section 10.2.3 (Retry-After in seconds or as a date). What servers send beside
it: fractions, epochs in seconds or milliseconds, and dates by a clock that isn't ours.
"""

from __future__ import annotations

import re
import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

SHORTEST_WAIT: Final = 0.2
LONGEST_WAIT: Final = 3600.0
NUMBER: Final = re.compile(r"\d{1,20}(\.\d{1,20})?", re.ASCII)
FIRST_EPOCH: Final = 1e9
"""A larger number is no wait (32 years), but an instant after 2001."""
FIRST_EPOCH_MS: Final = 1e11


def retry_after(response: httpx.Response) -> float | None:
    """Seconds to wait as the server asks, within 0.2 s and one hour; None where it doesn't.

    A date is read by the server's own clock where it tells it (the header Date).
    """
    value = response.headers.get("retry-after", "").strip()
    if NUMBER.fullmatch(value):
        number = float(value)
        if number >= FIRST_EPOCH:
            number = number / (1000.0 if number >= FIRST_EPOCH_MS else 1.0) - _now(response)
        seconds = number
    else:
        instant = _instant(value)
        if instant is None:
            return None
        seconds = instant - _now(response)
    return min(LONGEST_WAIT, max(SHORTEST_WAIT, seconds))


def clock_skew(response: httpx.Response) -> float:
    """Seconds by which the server's clock is ahead of ours; 0 where it doesn't tell."""
    return _now(response) - time.time()


def _now(response: httpx.Response) -> float:
    told = _instant(response.headers.get("date", ""))
    return time.time() if told is None else told


def _instant(value: str) -> float | None:
    try:
        then = parsedate_to_datetime(value)
        return (then if then.tzinfo else then.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
