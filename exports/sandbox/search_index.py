"""The resources of the prepared files by type, id and patient, for FHIR search.

An SQLite file made at the first search; of several versions of a resource it holds the newest.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import orjson

from exports.landing.delivery import file_chunks
from exports.landing.ndjson import BLANKS, read_lines, unpack
from exports.sandbox.cohort import patient_of
from exports.sandbox.prepared import PreparedFiles

SCHEMA: Final = """
create table resource (
    type text, id text, patient text, updated text, line blob, primary key (type, id)
);
create index by_patient on resource (type, patient);
"""
NEWEST: Final = """
insert into resource values (?, ?, ?, ?, ?)
on conflict (type, id) do update set patient = excluded.patient, updated = excluded.updated,
line = excluded.line where excluded.updated >= resource.updated
"""


class SearchIndex:
    """An index in the file at `path`, complete when present."""

    def __init__(self, prepared: PreparedFiles, path: Path) -> None:
        self._prepared = prepared
        self._path = path
        self._lock = threading.Lock()

    def read(self, resource_type: str, resource_id: str) -> bytes | None:
        """One resource as JSON, or None."""
        found = self._query("type = ? and id = ?", (resource_type, resource_id))
        return next((line for _, line in found), None)

    def patients(self) -> list[str]:
        """The ids of all patients."""
        with closing(self._connect()) as connection:
            rows = connection.execute("select id from resource where type = 'Patient' order by id")
            return [row[0] for row in rows]

    def count(self, resource_type: str, patients: tuple[str, ...]) -> int:
        """How many resources of a type there are, of those patients or (empty) of anybody."""
        where, values = _where(resource_type, patients)
        with closing(self._connect()) as connection:
            statement = f"select count(*) from resource where {where}"  # noqa: S608 - own words
            return int(connection.execute(statement, values).fetchone()[0])

    def lines(
        self, resource_type: str, patients: tuple[str, ...], after: int = 0
    ) -> Iterator[tuple[int, bytes]]:
        """(place, JSON) of each resource of a type, in a fixed order, those behind `after`."""
        where, values = _where(resource_type, patients)
        return self._query(f"{where} and rowid > ?", (*values, after))

    def _query(self, where: str, values: tuple[object, ...]) -> Iterator[tuple[int, bytes]]:
        statement = f"select rowid, line from resource where {where} order by rowid"  # noqa: S608
        with closing(self._connect()) as connection:
            yield from connection.execute(statement, values)

    def _connect(self) -> sqlite3.Connection:
        with self._lock:
            if not self._path.is_file():
                self._build()
        return sqlite3.connect(self._path)

    def _build(self) -> None:
        files = self._prepared.wait()
        building = self._path.with_name(f".{self._path.name}.building")
        building.unlink(missing_ok=True)
        with closing(sqlite3.connect(building)) as connection:
            connection.executescript(SCHEMA)
            connection.execute("pragma synchronous = off")
            for file in files:
                connection.executemany(NEWEST, _rows(self._prepared.path(file.name)))
            connection.commit()
        building.rename(self._path)


def _where(resource_type: str, patients: tuple[str, ...]) -> tuple[str, tuple[object, ...]]:
    if not patients:
        return "type = ?", (resource_type,)
    marks = ", ".join("?" for _ in patients)
    return f"type = ? and patient in ({marks})", (resource_type, *patients)


def _rows(path: Path) -> Iterator[tuple[str, str, str, str, bytes]]:
    for _, _, line in read_lines(unpack(file_chunks(path))):
        if line.strip(BLANKS):
            resource = orjson.loads(line)
            updated = resource.get("meta", {}).get("lastUpdated", "")
            yield resource["resourceType"], resource["id"], patient_of(resource), updated, line
