"""One date in many writings: 2024-01-31, 01/31/2024, 31 Jan 2024, January 31st, 2024, 20240131.

All of it works on tokens in normal form (`deid.proofs.identifiers.normal`). A day and a month that
can't be told apart are read both ways, a year of two digits in both centuries.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date
from typing import Final

MONTHS: Final = (
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
)
_SHORT: Final = {name[:3]: number for number, name in enumerate(MONTHS, start=1)}
_NUMBER_OF: Final = {name: number for number, name in enumerate(MONTHS, start=1)} | _SHORT
_NUMBER_OF_SEPTEMBER: Final = {"sept": 9}
_ORDINAL: Final = {1: "st", 2: "nd", 3: "rd", 21: "st", 22: "nd", 23: "rd", 31: "st"}
_PART: Final = re.compile(r"(\d{1,4})(?:st|nd|rd|th|t\d{1,2})?")
_COMPACT: Final = re.compile(r"(\d{4})(\d{2})(\d{2})(?:t\d+)?")
_COMPACT_YEAR_LAST: Final = re.compile(r"(\d{2})(\d{2})(\d{4})")
_JOINED: Final = re.compile(r"(\d{1,2})([a-z]{3,9})(\d{2,4})")


def dates_told(tokens: Sequence[str]) -> set[date]:
    """Every date that a text may tell."""
    told = set()
    for position, token in enumerate(tokens):
        for parts in _readings(token, tokens[position : position + 3]):
            try:
                told.add(date(*parts))
            except ValueError:
                continue
    return told


def forms_of(day: date) -> set[str]:
    """The usual ways to write a date, in normal form."""
    year, short_year = f"{day.year:04}", f"{day.year % 100:02}"
    name = MONTHS[day.month - 1]
    forms = {f"{year}{day.month:02}{day.day:02}"}
    for month, number in {(f"{day.month:02}", f"{day.day:02}"), (str(day.month), str(day.day))}:
        forms |= {f"{year} {month} {number}"}
        for years in (year, short_year):
            forms |= {f"{month} {number} {years}", f"{number} {month} {years}"}
        for word in {name, name[:3]}:
            forms |= {f"{number}{word}{year}"}
            for ordinal in (number, f"{day.day}{_ORDINAL.get(day.day, 'th')}"):
                forms |= {f"{ordinal} {word} {year}", f"{word} {ordinal} {year}"}
    forms |= {f"{day.month:02}{day.day:02}{year}", f"{day.day:02}{day.month:02}{year}"}
    return {form for form in forms if len(form) >= len("1 1 2024")}


def _readings(token: str, three: Sequence[str]) -> Iterator[tuple[int, int, int]]:
    if match := _COMPACT.fullmatch(token):
        yield int(match[1]), int(match[2]), int(match[3])
    if match := _COMPACT_YEAR_LAST.fullmatch(token):
        yield int(match[3]), int(match[1]), int(match[2])
        yield int(match[3]), int(match[2]), int(match[1])
    if (match := _JOINED.fullmatch(token)) and (month := _month(match[2])):
        yield from ((year, month, int(match[1])) for year in _years(match[3]))
    if len(three) == len(("day", "month", "year")):
        yield from _of_three(*three)


def _of_three(one: str, two: str, three: str) -> Iterator[tuple[int, int, int]]:
    first, second, third = _part(one), _part(two), _part(three)
    if len(first) == len("2024"):
        if month := _month(two) or int(second or 0):
            yield int(first), month, int(third or 0)
        return
    for year in _years(third):
        if month := _month(two):
            yield year, month, int(first or 0)
        elif month := _month(one):
            yield year, month, int(second or 0)
        else:
            yield year, int(first or 0), int(second or 0)
            yield year, int(second or 0), int(first or 0)


def _part(token: str) -> str:
    match = _PART.fullmatch(token)
    return match[1] if match else ""


def _month(token: str) -> int:
    return (_NUMBER_OF | _NUMBER_OF_SEPTEMBER).get(token, 0)


def _years(written: str) -> list[int]:
    match len(written):
        case 4:
            return [int(written)]
        case 2:
            return [1900 + int(written), 2000 + int(written)]
        case _:
            return []
