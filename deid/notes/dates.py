"""Dates in notes: a whole date of the patient's timeline becomes the day since its zero.

What is partial, what lies outside the timeline and the observed window, and the birth date are
gone: a day of birth that is told from zero tells an age to the day (45 CFR 164.514(b)(2)(i)(C)).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

GONE: Final = "[DATE]"
_MONTHS: Final = (
    "jan",
    "feb",
    "mar",
    "apr",
    "may",
    "jun",
    "jul",
    "aug",
    "sep",
    "oct",
    "nov",
    "dec",
)
_WRITTEN: Final = re.compile(
    r"(?P<month>jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*\.?", re.IGNORECASE
)


@dataclass(frozen=True)
class Timeline:
    """What of a patient's time may be told: `zero`, from `begins` (or birth) up to `until`."""

    zero: datetime
    begins: datetime
    ends: datetime
    observed_until: int
    birth: date | None
    exported: date

    def tell(self, day: date | None) -> str:
        """`[day +12]` for a day of this timeline, else `[DATE]`."""
        if day is None or day == self.birth:
            return GONE
        moment = datetime(day.year, day.month, day.day)
        lived = self.birth is None or day > self.birth
        seen = (moment - self.zero).total_seconds() <= self.observed_until
        if not (
            lived and seen and self.begins <= moment + timedelta(days=1) and moment < self.ends
        ):
            return GONE
        return f"[day {(day - self.zero.date()).days:+d}]"


def parse_date(written: str, latest: date) -> date | None:
    """The one whole date that a text tells, or None; two-digit years are the last up to `latest`.

    Months come before days where both can be, as they are written in the United States.
    """
    compact = re.fullmatch(r"((?:19|20)\d{2})(\d{2})(\d{2})(?:T?\d{4,6}.*)?", written)
    if compact:
        return _day(*map(int, compact.groups()))
    text = re.sub(r"(?<=\d)(?:st|nd|rd|th)\b", "", written, flags=re.IGNORECASE)
    iso = re.match(r"\D*?((?:1[89]|20|21)\d{2})[-/.](\d{1,2})[-/.](\d{1,2})", text)
    if iso:
        return _day(*map(int, iso.groups()))
    month = _WRITTEN.search(text) if not re.fullmatch(r"[\d\s/.-]+", text) else None
    if month is not None and month["month"]:
        rest = text[: month.start()] + " " + text[month.end() :]
        numbers = re.match(r"\D*(\d{1,2})[\s,.-]+(?:of\s+)?'?(\d{4}|\d{2})(?![\d:])", rest)
        if not numbers or len(re.findall(_WRITTEN, rest)) > 0:
            return None
        position = _MONTHS.index(month["month"].lower()) + 1
        return _day(_year(numbers[2], latest), position, int(numbers[1]))
    numbers = re.match(
        r"\D*(\d{1,2})\s?[-/.]\s?(\d{1,2})\s?[-/.]\s?'?(\d{4}|\d{2})(?!\d|\s?[-/]\s?\d)", text
    )
    if not numbers:
        return None
    first, second, year = int(numbers[1]), int(numbers[2]), _year(numbers[3], latest)
    return _day(year, first, second) if first <= 12 else _day(year, second, first)


def _year(written: str, latest: date) -> int:
    if len(written) == 4:
        return int(written)
    year = latest.year // 100 * 100 + int(written)
    return year if year <= latest.year + 1 else year - 100


def _day(year: int, month: int, day: int) -> date | None:
    try:
        return date(year, month, day)
    except ValueError:
        return None
