"""ZIP codes: which three digits may be told, by the population that lives there.

Safe Harbor lets the first three digits of a ZIP code stay where, by the current publicly available
data of the Bureau of the Census, more than 20,000 people live in all ZIP codes that begin so; they
become 000 elsewhere (45 CFR 164.514(b)(2)(i)(B)). The list is computed from a file that the
operator supplies: ZIP code tabulation areas, which is how the Census counts ZIP codes, or their
three digits, each with its population. Where the file names none, nobody is taken to live.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from deid.sql_on_fhir.compiler import text
from exports.errors import FhirloomError

MOST_UNTOLD: Final = 20_000
"""People; three digits that no more than these share are changed to 000."""
UNTOLD: Final = "000"

AREA_COLUMNS: Final = (
    *("ZCTA", "ZCTA5", "ZCTA5CE20", "ZCTA5CE10", "ZIPCODETABULATIONAREA", "ZIP3", "ZIP", "ZIP5"),
    *("ZIPCODE", "GEOID", "GEOID20", "GEOID10", "GEOID2"),
)
"""Letters and digits alone of the headings that name the area; of several, the first counts."""
PEOPLE_COLUMNS: Final = (
    *("POPULATION", "TOTALPOPULATION", "POP", "POP100", "POP20", "POP10"),
    *("P1001N", "P001001", "DP10001C", "B01003001E", "S0101C01001E", "DP050001E", "D001"),
)
"""The same of the headings of total population: plain, and those of the decennial census (P1, DP1,
SF1) and of the American Community Survey (B01003, S0101, DP05) at data.census.gov."""
CENSUS_HEADINGS: Final = frozenset({"geography", "id", "id2"})
"""What the second line of a table of data.census.gov, its headings in words, says of the area."""

_AREA: Final = re.compile(r"(?:860[0-9A-Z]{4}US|ZCTA5 )?([0-9]{5}|[0-9]{3})")
_PEOPLE: Final = re.compile(r"[0-9]+|[0-9]{1,3}(?:,[0-9]{3})+")


def zip_sql(raw: str) -> str:
    """SQL for the five digits of a ZIP or ZIP+4 code; null for whatever is neither."""
    return f"nullif(regexp_extract(trim({raw}), '^([0-9]{{5}})([- ]?[0-9]{{4}})?$', 1), '')"


def zip3_sql(raw: str, told: Sequence[str]) -> str:
    """SQL for a ZIP code's three digits where they are among those `told`, 000 for other ZIP codes.

    Null stays null, and so does what is no ZIP code: it has no first three digits.
    """
    listed = ", ".join(text(area) for area in (UNTOLD, *told))
    three = f"left({zip_sql(raw)}, 3)"
    return (
        f"CASE WHEN {three} IN ({listed}) THEN {three} "
        f"WHEN {three} IS NOT NULL THEN {text(UNTOLD)} END"
    )


def crowded_areas(file: Path) -> tuple[str, ...]:
    """The three digits that more than 20,000 people share, by a population file.

    The file is a table (comma, tab or bar) with one of the Census' headings or a plain one for both
    columns, or two columns without any. Raises `FhirloomError` (bad-input) that names the line, and
    never quotes it.
    """
    people: Counter[str] = Counter()
    seen: set[str] = set()
    for line, area, number in _rows(file):
        if area in seen:
            raise _refused("An area stands twice", "Give each area one line.", line)
        if seen and len(area) != len(next(iter(seen))):
            raise _refused(
                "Some areas are written with five digits and some with three",
                "Give areas of one kind; a spreadsheet may have cut leading zeros off.",
                line,
            )
        seen.add(area)
        people[area[:3]] += number
    told = sorted(area for area, number in people.items() if number > MOST_UNTOLD)
    if not told:
        raise _refused(
            f"In no three digits do more than {MOST_UNTOLD:,} people live: all would be 000",
            "Give the population of all ZIP code tabulation areas, or leave the option out.",
        )
    return tuple(area for area in told if area != UNTOLD)


def _rows(file: Path) -> Iterator[tuple[int, str, int]]:
    """Each row's line, area and population."""
    try:
        written = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError):
        raise _refused("It is gone, or no UTF-8", "Give its path, saved as CSV (UTF-8).") from None
    head = written.split("\n", 1)[0]
    table = csv.reader(written.splitlines(), delimiter=max(",\t|", key=head.count))
    try:
        rows = [(table.line_num, [cell.strip() for cell in cells]) for cells in table]
    except csv.Error:
        raise _refused("It is no table", "Save it as CSV.", table.line_num) from None
    area_at = people_at = -1
    for line, row in rows:
        if not any(row):
            continue
        if area_at < 0:
            area_at, people_at, headed = _columns(row, line)
            if headed:
                continue
        if len(row) <= max(area_at, people_at):
            raise _refused("A line has too few columns", "Give every line all of them.", line)
        if line == 2 and row[area_at].casefold() in CENSUS_HEADINGS:
            continue
        area, number = _AREA.fullmatch(row[area_at]), _PEOPLE.fullmatch(row[people_at])
        if area is None:
            raise _refused(
                "There is no ZIP code tabulation area of five digits, nor a ZIP3 of three",
                "Write areas with their leading zeros, and leave totals out.",
                line,
            )
        if number is None:
            raise _refused(
                "The population is not a whole number", "Write it in digits alone.", line
            )
        yield line, area[1], int(number[0].replace(",", ""))


def _columns(row: Sequence[str], line: int) -> tuple[int, int, bool]:
    """Where the area and the population stand, by the first row, and whether that is headings."""
    headings = [re.sub(r"[^A-Z0-9]", "", cell.upper()) for cell in row]
    area = next((headings.index(name) for name in AREA_COLUMNS if name in headings), None)
    people = next((headings.index(name) for name in PEOPLE_COLUMNS if name in headings), None)
    if area is not None and people is not None:
        return area, people, True
    if len(row) == 2 and _AREA.fullmatch(row[0]) and _PEOPLE.fullmatch(row[1]):
        return 0, 1, False
    raise _refused(
        "Its columns are not known",
        "Name them zcta (or zip3) and population, or give a Census table of P1 or B01003 as it is.",
        line,
    )


def _refused(what: str, fix: str, line: int = 0) -> FhirloomError:
    at = f", line {line}" if line else ""
    return FhirloomError("bad-input", what, where=f"--zip3-population{at}", fix=fix)
