"""Two engines for one view: DuckDB where it surely gives the evaluator's rows, else the evaluator.

What the compiler accepts is not all that it may answer: it does not read `repeat` and
`collection`, compares dates as text, and leaves it to DuckDB what a column of a complex type is.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import duckdb

from deid.engine import connect, fetch
from deid.sql_on_fhir import fhirpath
from deid.sql_on_fhir.compiler import Query, compile_view, name, text
from deid.sql_on_fhir.evaluator.definition import Definition, Selection, read_definition
from deid.sql_on_fhir.evaluator.items import plain
from deid.sql_on_fhir.evaluator.rows import Row, rows
from deid.sql_on_fhir.evaluator.temporal import TEMPORAL
from deid.sql_on_fhir.view import parse_view
from exports.errors import FhirloomError

_SCALARS: Final = ("BIGINT", "BOOLEAN", "DECIMAL", "DOUBLE", "INTEGER", "VARCHAR")
_COMPARISONS: Final = frozenset({"=", "!=", "<", ">", "<=", ">="})


def compiled(view: Mapping[str, Any]) -> Query | None:
    """The view as a query over NDJSON of whatever types, or None where the evaluator is to answer.

    Raises `FhirloomError` (bad-input) for an invalid view.
    """
    definition = read_definition(view)
    if not _suits(definition):
        return None
    named = {**view, "name": "view"}
    conditions = [{"name": f"w{n}", "path": path.text} for n, path in enumerate(definition.where)]
    try:
        query = compile_view(parse_view(named))
        types = _types(query)
        if conditions:
            filters = {**named, "select": [{"column": conditions}], "where": []}
            asked = compile_view(parse_view(filters))
            if set(_types(asked)) != {"BOOLEAN"}:
                return None
    except (FhirloomError, duckdb.Error):
        return None
    return query if all(kind.startswith(_SCALARS) and "[" not in kind for kind in types) else None


def query_over(query: Query, resource: str, files: Sequence[str]) -> str:
    """A compiled view's SQL over files that hold resources of other types as well."""
    typed = replace(
        query,
        columns={**query.columns, "resourceType": "VARCHAR"},
        select=f"SELECT * FROM source WHERE resourceType = {text(resource)}",
    )
    return f"WITH source AS ({typed.over(files)}) {query.select}"


def answer(query: Query, resource: str, files: Sequence[str]) -> list[Row] | None:
    """DuckDB's rows, or None where the data are not of the types that FHIR gives them."""
    try:
        with connect() as connection:
            found = fetch(connection, query_over(query, resource, files)).to_pylist()
    except duckdb.Error:
        return None
    return [{key: plain(value) for key, value in row.items()} for row in found]


def run(view: Mapping[str, Any], files: Sequence[Path]) -> tuple[list[Row], str]:
    """A view's rows over files of NDJSON, plain or gzip, and the engine that gave them.

    Raises `FhirloomError` (bad-input) for an invalid view, and for a line that is no resource.
    """
    query, definition = compiled(view), read_definition(view)
    if query is not None:
        found = answer(query, definition.resource, [str(file) for file in files])
        if found is not None:
            return found, "duckdb"
    return list(rows(definition, _resources(files))), "evaluator"


def ndjson_files(folder: Path) -> list[Path]:
    """The NDJSON below a folder, plain or gzip, in the order of names; hidden files are left out.

    Raises `FhirloomError` (bad-input) where there is none.
    """
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and path.name.endswith((".ndjson", ".ndjson.gz")) and path.name[0] != "."
    )
    if not found:
        raise FhirloomError(
            "bad-input",
            "There is no NDJSON",
            where=str(folder),
            fix="Give a folder of *.ndjson or *.ndjson.gz.",
        )
    return found


def _resources(files: Iterable[Path]) -> Iterator[dict[str, Any]]:
    """The resources of files, decimals exact as written; blank lines are passed over."""
    for place, file in enumerate(files, start=1):  # no names: a file may be named after a patient
        with gzip.open(file) if file.suffix == ".gz" else file.open("rb") as lines:
            number = 0
            try:
                for number, line in enumerate(lines, start=1):  # noqa: B007 - told where it fails
                    if line.strip():
                        yield _resource(line)
            except (ValueError, OSError, EOFError, RecursionError):
                raise FhirloomError(
                    "bad-input",
                    "Not NDJSON of FHIR resources",
                    where=f"file {place} of the folder, in the order of names, line {number}",
                    fix="Export it again, or take that line out.",
                ) from None


def _resource(line: bytes) -> dict[str, Any]:
    resource = json.loads(line.decode("utf-8-sig"), parse_float=Decimal)
    if not isinstance(resource, dict):
        raise ValueError("no object")
    return resource


def _types(query: Query) -> list[str]:
    """The DuckDB types of a query's columns, found without any data."""
    nulls = [f"NULL::{kind} AS {name(key)}" for key, kind in query.columns.items()]
    source = query.derive(f"SELECT {', '.join(nulls) or 'NULL'}")
    sql = f"DESCRIBE WITH source AS ({source}) {query.select}"
    with connect() as connection:
        return [str(row[1]) for row in connection.execute(sql).fetchall()]


def _suits(definition: Definition) -> bool:
    if any(constant.type in TEMPORAL for constant in definition.constants.values()):
        return False
    if any(select.kind == "repeat" for select in _all(definition.select)):
        return False
    if any(column.collection for column in definition.columns):
        return False
    paths = [column.path.text for each in _all(definition.select) for column in each.columns]
    paths += [path.text for each in _all(definition.select) for path in each.paths]
    paths += [path.text for path in definition.where]
    try:
        trees = [fhirpath.parse(path) for path in paths]
    except FhirloomError:
        return False
    return not any(_compares_elements(tree) for tree in trees)


def _all(select: Selection) -> Iterator[Selection]:
    yield select
    for nested in (*select.selects, *select.union_all):
        yield from _all(nested)


def _is_no_date(tree: fhirpath.Node) -> bool:
    """Whether an operand is compared as it is written: a literal, a constant, a text put together.

    Constants that are dates are not compiled at all.
    """
    match tree:
        case fhirpath.Literal():
            return True
        case fhirpath.Constant(constant):
            return constant != fhirpath.RESOURCE
        case fhirpath.Operation(operator):
            return operator == "&"
    return False


def _compares_elements(tree: fhirpath.Node) -> bool:
    """Whether two elements are compared somewhere: they may be dates, whose order is not text's."""
    match tree:
        case fhirpath.Operation(operator, left, right):
            if operator in _COMPARISONS and not any(map(_is_no_date, (left, right))):
                return True
            return _compares_elements(left) or _compares_elements(right)
        case fhirpath.Call(base, _, arguments):
            return any(map(_compares_elements, (base, *arguments)))
        case fhirpath.Member(base) | fhirpath.Index(base):
            return _compares_elements(base)
    return False
