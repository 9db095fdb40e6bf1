"""Dates, times and decimals known to some precision: how they compare, and between what they lie.

Sources: hl7.org/fhirpath, "Date/Time comparison", "lowBoundary", "highBoundary". The earliest
moment of a local time is told in UTC+14, the latest in UTC-12: it was then somewhere on earth.
"""

from __future__ import annotations

import calendar
import re
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final

TEMPORAL: Final = frozenset({"date", "dateTime", "instant", "time"})

_DATE: Final = r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?"
_TIME: Final = r"(\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d+))?)?)?"
_MOMENT: Final = re.compile(rf"{_DATE}(?:T{_TIME}(Z|[+-]\d\d:\d\d)?)?", re.ASCII)
_CLOCK: Final = re.compile(_TIME, re.ASCII)
_DIGITS: Final = 3
"""Of a second's fraction, as boundaries are written: milliseconds."""


def is_temporal(text: str, kind: str) -> bool:
    """Whether a text can be read as a value of the type; of any temporal type where it is ""."""
    clock = bool(_CLOCK.fullmatch(text)) and ":" in text
    if kind == "time":
        return clock
    return bool(_MOMENT.fullmatch(text)) or (not kind and clock)


def order(left: str, right: str) -> int | None:
    """-1, 0 or 1 as `left` is before, at or after `right`; None where the precision can't tell."""
    first, second = _MOMENT.fullmatch(left), _MOMENT.fullmatch(right)
    if first is None or second is None:
        clocks = _CLOCK.fullmatch(left), _CLOCK.fullmatch(right)
        if clocks[0] is None or clocks[1] is None:
            return None
        return _order(_parts(clocks[0].groups()), _parts(clocks[1].groups()))
    zones = first.group(8), second.group(8)
    timed = bool(first.group(4) and second.group(4))
    if timed and bool(zones[0]) != bool(zones[1]):
        return None
    moments = [
        _in_utc(_parts(each.groups()[:7]), zone) if timed and zone else _parts(each.groups()[:7])
        for each, zone in zip((first, second), zones, strict=True)
    ]
    return None if None in moments else _order(moments[0] or [], moments[1] or [])


def _parts(groups: tuple[str | None, ...]) -> list[Decimal]:
    """From the largest to the smallest that is known; seconds and their fraction are one."""
    *whole, fraction = groups
    parts = [Decimal(part) for part in whole if part]
    if fraction:
        parts[-1] += Decimal(f"0.{fraction}")
    return parts


def _in_utc(parts: list[Decimal], zone: str) -> list[Decimal] | None:
    offset = timedelta()
    if zone != "Z":
        offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[4:])) * (
            1 if zone[0] == "+" else -1
        )
    year, month, day, hour, *rest = (int(part) for part in parts)
    try:
        moment = datetime(year, month, day, hour, rest[0] if rest else 0) - offset
    except (ValueError, OverflowError):
        return None
    named = (moment.year, moment.month, moment.day, moment.hour, moment.minute)
    return [Decimal(part) for part in named[: len(parts)]] + parts[5:]


def _order(left: list[Decimal], right: list[Decimal]) -> int | None:
    for ours, theirs in zip(left, right, strict=False):
        if ours != theirs:
            return -1 if ours < theirs else 1
    return 0 if len(left) == len(right) else None


def boundary(text: str, kind: str, *, high: bool) -> str | None:
    """The first or last value that a date, dateTime or time may stand for; None for no such text.

    A text of unknown type is a time or a dateTime, as it looks.
    """
    clock = _CLOCK.fullmatch(text)
    if kind == "time" or (not kind and clock and ":" in text):
        return _clock(clock.groups(), high) if clock else None
    found = _MOMENT.fullmatch(text)
    if found is None:
        return None
    year, month, day = found.group(1), found.group(2), found.group(3)
    month = month or ("12" if high else "01")
    if not ("01" <= month <= "12" and year > "0000"):
        return None
    last = calendar.monthrange(int(year), int(month))[1]
    date = f"{year}-{month}-{day or (last if high else '01')}"
    if kind == "date":
        return date
    zone = found.group(8) or ("-12:00" if high else "+14:00")
    return f"{date}T{_clock(found.groups()[3:7], high)}{zone}"


def _clock(groups: tuple[str | None, ...], high: bool) -> str:
    hour, minute, second, fraction = groups
    most = ("23", "59", "59", "9") if high else ("00", "00", "00", "0")
    digits = (fraction or "").ljust(_DIGITS, most[3])
    return f"{hour or most[0]}:{minute or most[1]}:{second or most[2]}.{digits}"


def decimal_boundary(value: Decimal, *, high: bool) -> Decimal:
    """Half a unit of the last written digit below or above a number: 1.0 is 0.95 to 1.05."""
    exponent = value.as_tuple().exponent
    half = Decimal(5).scaleb((exponent if isinstance(exponent, int) else 0) - 1)
    return value + half if high else value - half
