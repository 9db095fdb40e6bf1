"""A ViewDefinition, checked and parsed for evaluation.

Spec: sql-on-fhir.org, StructureDefinition ViewDefinition. Whatever no resource could mend is
refused here: names, expressions, constants, unions of different columns.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from deid.sql_on_fhir.evaluator.expression import Expression, check
from deid.sql_on_fhir.evaluator.grammar import parse
from deid.sql_on_fhir.evaluator.items import CHOICES, PRIMITIVES, Item
from exports.errors import FhirloomError

NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
"""What columns and constants may be called (the specification's constraint `sql-name`)."""
DEEPEST: Final = 40
"""Levels of nested selects."""
_REPEATING: Final = ("forEach", "forEachOrNull", "repeat")


@dataclass(frozen=True)
class Column:
    """An output column; `collection` columns hold a list."""

    name: str
    path: Expression
    collection: bool
    type: str


@dataclass(frozen=True)
class Selection:
    """A select. `kind` is how it repeats, over `paths`: forEach, forEachOrNull, repeat or ""."""

    columns: tuple[Column, ...]
    selects: tuple[Selection, ...]
    union_all: tuple[Selection, ...]
    kind: str
    paths: tuple[Expression, ...]

    def all_columns(self) -> Iterator[Column]:
        """Every column in output order; the branches of a union are one set of columns."""
        yield from self.columns
        for nested in self.selects:
            yield from nested.all_columns()
        if self.union_all:
            yield from self.union_all[0].all_columns()


@dataclass(frozen=True)
class Definition:
    """A view that can be evaluated."""

    resource: str
    select: Selection
    where: tuple[Expression, ...]
    constants: Mapping[str, Item]

    @property
    def columns(self) -> tuple[Column, ...]:
        """Every column in output order."""
        return tuple(self.select.all_columns())


def read_definition(view: Mapping[str, Any]) -> Definition:
    """Check and parse a ViewDefinition's JSON.

    Raises `FhirloomError` (bad-input) for one that is invalid.
    """
    resource = _text(view, "resource")
    if not NAME.fullmatch(resource):
        raise invalid("resource", "no name of a resource type")
    constants = dict(_constant(item) for item in _objects(view, "constant"))
    selects = tuple(_select(item, constants, 1) for item in _objects(view, "select"))
    if not selects:
        raise invalid("select", "nothing is selected")
    where = tuple(_path(item, "path", constants) for item in _objects(view, "where"))
    whole = Selection((), selects, (), "", ())
    names = [column.name for column in whole.all_columns()]
    if len(set(names)) < len(names):
        raise invalid("column", "two columns have one name")
    return Definition(resource, whole, where, constants)


def _select(source: Mapping[str, Any], constants: Mapping[str, Item], depth: int) -> Selection:
    if depth > DEEPEST:
        raise invalid("select", "selects are nested too deeply")
    kinds = [kind for kind in _REPEATING if kind in source]
    if len(kinds) > 1:
        raise invalid("select", f"only one of {', '.join(_REPEATING)} may be given")
    kind = kinds[0] if kinds else ""
    found = Selection(
        tuple(_column(item, constants) for item in _objects(source, "column")),
        tuple(_select(item, constants, depth + 1) for item in _objects(source, "select")),
        tuple(_select(item, constants, depth + 1) for item in _objects(source, "unionAll")),
        kind,
        _paths(source, kind, constants),
    )
    shapes = [[column.name for column in branch.all_columns()] for branch in found.union_all]
    if any(shape != shapes[0] for shape in shapes):
        raise invalid("unionAll", "its branches have different columns, or another order of them")
    return found


def _paths(
    source: Mapping[str, Any], kind: str, constants: Mapping[str, Item]
) -> tuple[Expression, ...]:
    if kind != "repeat":
        return (_path(source, kind, constants),) if kind else ()
    paths = source[kind]
    if not isinstance(paths, list) or not paths:
        raise invalid(kind, "no list of paths")
    return tuple(_path({kind: path}, kind, constants) for path in paths)


def _column(source: Mapping[str, Any], constants: Mapping[str, Item]) -> Column:
    name = _text(source, "name")
    if not NAME.fullmatch(name):
        raise invalid("column", "a name has other characters than letters, digits and _")
    collection, kind = source.get("collection", False), source.get("type", "")
    if not isinstance(collection, bool) or not isinstance(kind, str):
        raise invalid(f"column {name}", "its collection is no boolean, or its type no text")
    return Column(name, _path(source, "path", constants), collection, kind)


def _constant(source: Mapping[str, Any]) -> tuple[str, Item]:
    name = _text(source, "name")
    values = [key for key in source if key.startswith("value")]
    kind = CHOICES.get(values[0].removeprefix("value"), "") if len(values) == 1 else ""
    if not NAME.fullmatch(name) or kind not in PRIMITIVES:
        raise invalid("constant", "a constant has a name and one value[x] of a primitive type")
    value = source[values[0]]
    if not isinstance(value, str | int | float):
        raise invalid(f"constant {name}", "its value is of no primitive type")
    return name, Item(value, kind)


def _path(source: Mapping[str, Any], key: str, constants: Mapping[str, Item]) -> Expression:
    text = _text(source, key)
    expression = Expression(text, parse(text))
    check(expression, constants)
    return expression


def _text(source: Mapping[str, Any], key: str) -> str:
    value = source.get(key)
    if not isinstance(value, str) or not value.strip():
        raise invalid(key, "it is missing, or no text")
    return value


def _objects(source: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = source.get(key, [])
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise invalid(key, "no list of objects")
    return found


def invalid(where: str, why: str) -> FhirloomError:
    """The error for a view that is none."""
    return FhirloomError(
        "bad-input",
        f"Not a ViewDefinition: {why}",
        where=f"the view's {where}",
        fix="See the ViewDefinition structure of SQL on FHIR v2.",
    )
