"""Lines that are good JSON but break a view's typed schema: set apart, and never lost.

DuckDB's reader is strict, because its lenient mode turns what it cannot read into nulls, silently.
When a file fails, its lines are halved until the ones that fail stand alone.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

import duckdb

from deid.engine import connect, memory_file
from deid.rules import ResearchView
from deid.sql_on_fhir.compiler import Query, compile_view

REASON: Final = "breaks the view's types"
BATCH: Final = 4096
"""Lines tried at once."""


def set_apart(
    view: ResearchView, files: Sequence[str], folder: Path
) -> tuple[list[str], dict[int, int]]:
    """The files, with copies below `folder` of those that have lines which the view cannot read.

    Returns them, and how many lines were set apart by the file's place; those lines stand in
    `folder/<view>.bad.ndjson`.
    """
    query = compile_view(view.view)
    readable_files: list[str] = []
    apart: dict[int, int] = {}
    with connect() as connection, (folder / f"{view.name}.bad.ndjson").open("wb") as bad_lines:
        for place, file in enumerate(files):
            if _reads(connection, query, file):
                readable_files.append(file)
                continue
            readable_files.append(str(folder / f"{view.name}.{place:04d}.ndjson"))
            apart[place] = 0
            with Path(readable_files[-1]).open("wb") as good_lines:
                for lines in _batches(_lines(Path(file))):
                    for line, good in _judged(connection, query, lines):
                        (good_lines if good else bad_lines).write(line)
                        apart[place] += not good
    return readable_files, apart


def readable(
    connection: duckdb.DuckDBPyConnection, view: ResearchView, lines: Sequence[bytes]
) -> list[bytes]:
    """The lines that the view can read: the same ones that a batch would keep."""
    judged = _judged(connection, compile_view(view.view), lines)
    return [line for line, good in judged if good]


def _lines(path: Path) -> Iterator[bytes]:
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        for line in file:
            if line.strip():
                yield line.rstrip(b"\r\n") + b"\n"


def _batches(lines: Iterator[bytes]) -> Iterator[list[bytes]]:
    while batch := list(islice(lines, BATCH)):
        yield batch


def _judged(
    connection: duckdb.DuckDBPyConnection, query: Query, lines: Sequence[bytes]
) -> Iterator[tuple[bytes, bool]]:
    if not lines or _reads_lines(connection, query, lines):
        yield from ((line, True) for line in lines)
    elif len(lines) == 1:
        yield lines[0], False
    else:
        half = len(lines) // 2
        yield from _judged(connection, query, lines[:half])
        yield from _judged(connection, query, lines[half:])


def _reads_lines(
    connection: duckdb.DuckDBPyConnection, query: Query, lines: Sequence[bytes]
) -> bool:
    with memory_file(b"".join(lines)) as file:
        return _reads(connection, query, file)


def _reads(connection: duckdb.DuckDBPyConnection, query: Query, file: str) -> bool:
    """Whether every value of every row can be read; none is kept."""
    try:
        connection.execute(f"SELECT bit_xor(hash(one)) FROM ({query.over([file])}) AS one")
    except duckdb.Error:
        return False
    return True
