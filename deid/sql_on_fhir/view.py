"""ViewDefinitions of SQL on FHIR v2, read into frozen dataclasses.

Spec: sql-on-fhir.org, StructureDefinition ViewDefinition. A column may carry tags; the tag named
`fhirloom/domain` makes a view a research view (see `deid.rules`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, Final

from exports.errors import FhirloomError

DOMAIN_TAG: Final = "fhirloom/domain"


@dataclass(frozen=True)
class Column:
    """One output column: a FHIRPath, a name, and its domain tag (empty: none)."""

    name: str
    path: str
    domain: str = ""


@dataclass(frozen=True)
class Select:
    """A select: columns, nested selects, and how it repeats."""

    columns: tuple[Column, ...] = ()
    selects: tuple[Select, ...] = ()
    union_all: tuple[Select, ...] = ()
    for_each: str = ""
    or_null: bool = False

    def all_columns(self) -> Iterator[Column]:
        """Every column in output order; the branches of a union are one set of columns."""
        yield from self.columns
        for nested in self.selects:
            yield from nested.all_columns()
        if self.union_all:
            yield from self.union_all[0].all_columns()


@dataclass(frozen=True)
class View:
    """A ViewDefinition."""

    name: str
    resource: str
    select: Select
    where: tuple[str, ...]
    constants: Mapping[str, str | int | float | bool]
    source: Mapping[str, Any]

    @property
    def columns(self) -> tuple[Column, ...]:
        """Every column in output order."""
        return tuple(self.select.all_columns())


def load_view(path: Path) -> View:
    """Read a ViewDefinition file.

    Raises `FhirloomError` (bad-input) where the file is not one.
    """
    try:
        return parse_view(json.loads(path.read_text()))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise FhirloomError(
            "bad-input",
            f"Not a ViewDefinition ({type(error).__name__}: {str(error)[:200]})",
            where=path.name,
            fix="See the ViewDefinition structure of SQL on FHIR v2.",
        ) from None


def parse_view(source: Mapping[str, Any]) -> View:
    """A ViewDefinition from its JSON.

    Raises `KeyError`, `TypeError`, `ValueError` or `AttributeError` for what is none.
    """
    return View(
        name=_text(source["name"]),
        resource=_text(source["resource"]),
        select=Select(selects=tuple(_select(part) for part in source["select"])),
        where=tuple(_text(item["path"]) for item in source.get("where", [])),
        constants={item["name"]: _constant(item) for item in source.get("constant", [])},
        source=source,
    )


def _select(source: Mapping[str, Any]) -> Select:
    or_null = "forEachOrNull" in source
    return Select(
        columns=tuple(_column(item) for item in source.get("column", [])),
        selects=tuple(_select(item) for item in source.get("select", [])),
        union_all=tuple(_select(item) for item in source.get("unionAll", [])),
        for_each=_text(source["forEachOrNull"] if or_null else source.get("forEach", "")),
        or_null=or_null,
    )


def _column(source: Mapping[str, Any]) -> Column:
    tags = {tag["name"]: tag["value"] for tag in source.get("tag", [])}
    return Column(_text(source["name"]), _text(source["path"]), _text(tags.get(DOMAIN_TAG, "")))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("a text was expected")
    return value


def _constant(source: Mapping[str, Any]) -> str | int | float | bool:
    value = next((value for key, value in source.items() if key.startswith("value")), None)
    if isinstance(value, float) and not isfinite(value):
        raise ValueError("a constant is a finite number")
    if not isinstance(value, str | int | float):
        raise TypeError("a constant is a text, a number or a boolean")
    return value
