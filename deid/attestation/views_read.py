"""Which element paths the research views read, column by column, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

import duckdb

from deid.rules import Rules
from deid.sql_on_fhir.compiler import compile_view
from deid.sql_on_fhir.view import Select, View

BECOMES: Final = {
    "patient": "a random surrogate",
    "encounter": "a random surrogate",
    "own encounter": "a random surrogate",
    "time": "seconds from the patient's zero",
    "known_at": "seconds from the patient's zero",
    "offset": "seconds from the patient's zero",
    "age": "whole years, 90 and above as one",
    "number": "a number of its code's range",
    "unit": "the one unit of its code",
    "code": "a code of the vocabulary, or RARE",
    "enum": "a word of a closed list",
    "zip3": "three digits of a ZIP code, or 000",
    "zip": "a ZIP code",
    "date": "a day",
}
"""What stands in the tables for what a column of that kind reads; of others nothing does."""


@dataclass(frozen=True)
class Reading:
    """A column of a view, one element path that it reads, and the domain that it goes into."""

    view: str
    column: str
    domain: str
    kind: str
    resource: str
    path: str

    def reads(self, resource: str, path: str) -> bool:
        """Whether the value at a delivered path is among what the column reads."""
        return resource == self.resource and f"{path}.".startswith(f"{self.path}.")

    def facts(self) -> dict[str, Any]:
        """The column and its domain, as the attestation tells them."""
        return {
            "view": self.view,
            "column": self.column,
            "domain": self.domain,
            "becomes": BECOMES.get(self.kind, "read, never written"),
        }


def readings(rules: Rules) -> list[Reading]:
    """All that the views read: for each column the paths of the query compiled for it alone."""
    found = []
    for view in (*rules.auxiliary, *rules.views):
        kinds = {column.name: column.kind for column in view.columns}
        for column in view.columns:
            domain = f"{column.kind}: {column.argument}" if column.argument else column.kind
            # What stands in for another column goes where that one does.
            kind = kinds[column.argument] if column.kind == "else" else column.kind
            alone = _alone(view.view, column.name)
            found += [
                Reading(view.name, column.name, domain, kind, view.view.resource, path)
                for path in sorted(set(_compiled_paths(alone)))
            ]
    return found


def _alone(view: View, column: str) -> View:
    """The view with that one column."""
    return replace(view, select=_pruned(view.select, column) or Select())


def _pruned(select: Select, column: str) -> Select | None:
    columns = tuple(each for each in select.columns if each.name == column)
    selects = tuple(filter(None, (_pruned(each, column) for each in select.selects)))
    union = tuple(filter(None, (_pruned(each, column) for each in select.union_all)))
    if not (columns or selects or union):
        return None
    return replace(select, columns=columns, selects=selects, union_all=union)


def _compiled_paths(view: View) -> Iterator[str]:
    for name, written in compile_view(view).columns.items():
        yield from _type_paths(name, duckdb.dtype(written))


def _type_paths(path: str, kind: Any) -> Iterator[str]:
    """The leaves of a DuckDB type; a leaf of type JSON is read with all that is below it."""
    match kind.id:
        case "list":
            yield from _type_paths(path, kind.children[0][1])
        case "struct":
            for name, child in kind.children:
                yield from _type_paths(f"{path}.{name}", child)
        case _:
            yield path
