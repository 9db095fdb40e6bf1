"""The texts of what stages left behind: reports, models, metadata, stores, of any format."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Set
from contextlib import closing
from pathlib import Path
from typing import Final

from deid.proofs.released import file_strings

PASSED_OVER: Final = frozenset({"tables", ".matplotlib"})
"""Folders right below the root: tables, which the leak scan held before they were released, and a
list of the machine's fonts."""
REVIEWED: Final = "notes"
"""The folder of free text: the names that stand there now are made up, and may be anybody's. Its
Parquet is held against each patient's own identifiers as it is made, and needs review."""
SQLITE_MAGIC: Final = b"SQLite format 3\x00"
PARQUET_MAGIC: Final = b"PAR1"
MADE_UP: Final = frozenset({("flow_run", "name"), ("task_run", "name")})
"""Columns of names that the orchestrator draws from a list of animals."""
BESIDE: Final = ("-wal", "-shm", "-journal")
"""Ends of the files beside a store, which are read with it."""

_RUN: Final = re.compile(rb"[\x20-\x7e]{4,}")
_MARKUP: Final = re.compile(r"<style\b.*?</style>|<[^<>]*>", re.DOTALL)


def artifact_texts(root: Path, shipped: Set[bytes]) -> Iterator[tuple[str, str]]:
    """Each text below `root` with the file in which it stands, as a path below `root`.

    A copy of a shipped file, byte for byte, was there before any patient: it is passed over.

    Raises whatever reading a file raises: what can't be read does not pass.
    """
    for path in sorted(root.rglob("*")):
        place = path.relative_to(root)
        if place.parts[0] in PASSED_OVER or path.is_symlink() or not path.is_file():
            continue
        if path.name.endswith(BESIDE):
            continue
        if place.parts[0] == REVIEWED and path.suffix == ".parquet":
            continue
        yield place.parts[0], str(place)
        for text in _texts(path, shipped):
            yield place.as_posix(), text


def _texts(path: Path, shipped: Set[bytes]) -> Iterator[str]:
    with path.open("rb") as file:
        head = file.read(len(SQLITE_MAGIC))
    if head == SQLITE_MAGIC:
        yield from _cells(path)
    elif head.startswith(PARQUET_MAGIC):
        yield from file_strings(path)
    else:
        content = path.read_bytes()
        if content in shipped:
            return
        try:
            text = content.decode()
        except UnicodeDecodeError:
            text = "\x00"
        if "\x00" in text:
            yield from (run.decode() for run in _RUN.findall(content))
        elif path.suffix == ".html":
            yield _MARKUP.sub(" ", text)
        else:
            yield text


def _cells(path: Path) -> Iterator[str]:
    """Every text of a SQLite store, the newest ones in its log included."""
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as store:
        store.text_factory = lambda cell: cell.decode(errors="replace")
        tables = store.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for (table,) in tables:
            quoted = '"' + table.replace('"', '""') + '"'
            rows = store.execute(f"SELECT * FROM {quoted}")
            columns = [described[0] for described in rows.description]
            kept = [at for at, name in enumerate(columns) if (table, name) not in MADE_UP]
            for row in rows:
                for cell in (row[at] for at in kept):
                    if isinstance(cell, bytes):
                        yield from (run.decode() for run in _RUN.findall(cell))
                    elif isinstance(cell, str):
                        yield cell
                    elif isinstance(cell, int):
                        yield str(cell)
