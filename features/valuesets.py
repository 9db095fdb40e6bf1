"""Value sets: named groups of codes, one CSV each in `features/valuesets/`.

A file has the columns `system` and `code` (and may have `display`, for the reader alone). A code
that ends in `*` stands for all codes that begin so: `icd10cm,I50*`. Codes are compared in the form
of the research tables, `icd10cm:I50.9`. The shipped sets hold LOINC, RxNorm and ICD-10-CM codes.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from exports.errors import FhirloomError

FOLDER: Final = Path(__file__).parent / "valuesets"


@dataclass(frozen=True)
class ValueSet:
    """A named group of codes: `exact` ones, and all that begin with one of `prefixes`."""

    name: str
    exact: frozenset[str]
    prefixes: tuple[str, ...] = ()

    def __contains__(self, code: object) -> bool:
        return isinstance(code, str) and (code in self.exact or code.startswith(self.prefixes))

    @property
    def patterns(self) -> list[str]:
        """The codes in a fixed order, prefixes with their `*`: what `value_set` reads again."""
        return sorted(self.exact) + [f"{prefix}*" for prefix in self.prefixes]


def value_set(name: str, patterns: Iterable[str]) -> ValueSet:
    """A value set from codes such as `loinc:2160-0` and prefixes such as `icd10cm:I50*`."""
    listed = set(patterns)
    prefixes = sorted(pattern[:-1] for pattern in listed if pattern.endswith("*"))
    exact = frozenset(pattern for pattern in listed if not pattern.endswith("*"))
    return ValueSet(name, exact, tuple(prefixes))


def names() -> tuple[str, ...]:
    """The shipped value sets, in alphabetical order."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.csv")))


@cache
def load(name: str) -> ValueSet:
    """The shipped value set of that name.

    Raises `FhirloomError` (bad-input) where there is none, or where a row lacks system or code.
    """
    if name not in names():
        raise FhirloomError(
            "bad-input",
            f"There is no value set {name!r}",
            where=f"valuesets/{name}.csv",
            fix="Name one of the files in features/valuesets, or add one.",
        )
    with (FOLDER / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    if not rows or not all(row.get("system") and row.get("code", "").strip("*") for row in rows):
        raise FhirloomError(
            "bad-input",
            "A value set needs rows, each with a system and a code",
            where=f"valuesets/{name}.csv",
            fix="Write a header `system,code` and one row for each code.",
        )
    return value_set(name, (f"{row['system']}:{row['code']}" for row in rows))


def declared() -> frozenset[str]:
    """The codes and prefixes (`icd10cm:I50*`) of all shipped value sets: however rare, they may
    appear in the research tables.
    """
    return frozenset(pattern for name in names() for pattern in load(name).patterns)
