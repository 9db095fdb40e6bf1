"""What DuckDB is to read of NDJSON: typed columns, pruned to the paths in use.

Contained resources are read as JSON first, and typed one by one: what is inside may be of any type
and shape, and a strange one is no reason to lose the resource around it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from deid.sql_on_fhir import fhir_types

LONGEST_LINE: Final = 16 * 1024 * 1024
"""Bytes; the reader's buffer is sized by it. Landing quarantines longer lines."""


@dataclass
class Schema:
    """The part of a type that the view reads."""

    type: str
    many: bool
    children: dict[str, Schema] = field(default_factory=dict)

    def child(self, element: fhir_types.Element) -> Schema:
        """The part below an element, which is read from now on."""
        return self.children.setdefault(element.name, Schema(element.type, element.many))

    def sql(self) -> str:
        """The DuckDB type."""
        if self.children:
            inside = ", ".join(f"{name(key)} {item.sql()}" for key, item in self.children.items())
            one = f"STRUCT({inside})"
        else:
            one = self.leaf()
        return one + ("[]" if self.many else "")

    def structure(self) -> Any:
        """The same type as DuckDB's `from_json` has it told, but for whether it repeats itself."""
        inside = {
            key: [item.structure()] if item.many else item.structure()
            for key, item in self.children.items()
        }
        return inside or self.leaf()

    def leaf(self) -> str:
        """The DuckDB type of one value of which nothing inside is read by name."""
        if fhir_types.is_complex(self.type):
            return "JSON"
        return fhir_types.SQL_TYPES.get(self.type, "VARCHAR")


@dataclass(frozen=True)
class Query:
    """A compiled view: the columns that DuckDB is to read, what follows from them, and the select.

    `derived` holds columns made of those that were read; `file` names one with each row's file.
    """

    columns: Mapping[str, str]
    select: str
    derived: Mapping[str, str] = field(default_factory=dict)
    file: str = ""

    def over(self, files: Sequence[str]) -> str:
        """The query over NDJSON files (plain or gzip); reading is strict."""
        listed = ", ".join(text(file) for file in files)
        schema = ", ".join(f"{name(key)}: {text(value)}" for key, value in self.columns.items())
        told = f", filename = {text(self.file)}" if self.file else ""
        read = (
            f"SELECT * FROM read_json([{listed}], format = 'newline_delimited', "
            f"columns = {{{schema}}}, maximum_object_size = {LONGEST_LINE}{told})"
        )
        return f"WITH source AS ({self.derive(read)}) {self.select}"

    def derive(self, read: str) -> str:
        """A query of the columns as read, with the derived ones."""
        more = [f"{sql} AS {name(key)}" for key, sql in self.derived.items()]
        return f"SELECT {', '.join(['*', *more])} FROM ({read})" if more else read


def name(identifier: str) -> str:
    """An SQL identifier, quoted."""
    return '"' + identifier.replace('"', '""') + '"'


def text(value: str) -> str:
    """An SQL string literal."""
    return "'" + value.replace("'", "''") + "'"


def held_in(type_name: str) -> str:
    """The name of the derived column that holds the contained resources of a type."""
    return f"contained {type_name}"


def typed(type_name: str, schema: Schema) -> str:
    """SQL for the contained resources of a type, those elements of them that the view reads."""
    structure = text(json.dumps(schema.structure()))
    kept = f"lambda one: json_extract_string(one, '$.resourceType') = {text(type_name)}"
    return (
        f"list_transform(list_filter(contained, {kept}), lambda one: from_json(one, {structure}))"
    )
