"""The hospital's clock: moments as whole seconds since 1970 UTC, written as FHIR times.

The hospital lies in US Eastern time, so its resources carry `-05:00` or, under daylight saving
(15 U.S.C. 260a: second Sunday of March to first Sunday of November, at 02:00), `-04:00`.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

MINUTE: Final = 60
HOUR: Final = 3600
DAY: Final = 86400
YEAR: Final = 31_557_600

AS_OF: Final = datetime(2025, 10, 1, tzinfo=UTC)
"""When the hospital's export is taken: nothing in it is later."""


def moment(year: int, month: int = 1, day: int = 1) -> int:
    """Midnight UTC of a date, in seconds since 1970."""
    return int(datetime(year, month, day, tzinfo=UTC).timestamp())


def _sunday(year: int, month: int, nth: int) -> int:
    first = datetime(year, month, 1, tzinfo=UTC)
    return moment(year, month, 1) + (6 - first.weekday()) % 7 * DAY + (nth - 1) * 7 * DAY


_SUMMERS: Final = {
    year: (_sunday(year, 3, 2) + 7 * HOUR, _sunday(year, 11, 1) + 6 * HOUR)
    for year in range(1900, 2100)
}


def utc_offset(at: int) -> int:
    """Seconds to add to UTC for the hospital's wall clock."""
    begin, end = _SUMMERS[1970 + at // YEAR]
    return -4 * HOUR if begin <= at < end else -5 * HOUR


def local(at: int) -> str:
    """A FHIR dateTime or instant with the hospital's own offset."""
    offset = utc_offset(at)
    return f"{_wall(at + offset)}-0{-offset // HOUR}:00"


def local_date(at: int) -> str:
    """A FHIR date: the day on the hospital's wall clock."""
    return _day((at + utc_offset(at)) // DAY)


def instant(at: int) -> str:
    """A FHIR instant in UTC, as servers write `meta.lastUpdated`."""
    return f"{_wall(at)}.000Z"


def _wall(at: int) -> str:
    days, seconds = divmod(at, DAY)
    minutes = seconds // MINUTE
    return f"{_day(days)}T{_TWO[minutes // 60]}:{_TWO[minutes % 60]}:{_TWO[seconds % MINUTE]}"


@lru_cache(2**16)
def _day(days: int) -> str:
    return datetime.fromtimestamp(days * DAY, UTC).isoformat()[:10]


_TWO: Final = tuple(f"{number:02d}" for number in range(60))


def at_hour(at: int, days: int, hour: float) -> int:
    """The moment at `hour` (0..24) on the wall clock, `days` after the local day of `at`."""
    midnight = (at + utc_offset(at)) // DAY * DAY + days * DAY
    wall = midnight + int(hour * HOUR)
    return wall - utc_offset(wall + 5 * HOUR)


def next_workday(at: int, hour: float) -> int:
    """The moment at `hour` on the first day after `at` that is no Saturday or Sunday."""
    day = datetime.fromtimestamp(at + utc_offset(at), UTC) + timedelta(days=1)
    skip = max(0, 7 - day.weekday()) if day.weekday() >= 5 else 0
    return at_hour(at, 1 + skip, hour)
