"""DuckDB, set up for the PHI zone: spills there and nowhere else, loads nothing from outside."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

import duckdb
import fsspec
import pyarrow as pa

from deid.sql_on_fhir.compiler import text

MACROS: Final = """
CREATE OR REPLACE TEMP MACRO moment(written) AS (
    CASE length(written)
        WHEN 4 THEN NULL
        WHEN 7 THEN NULL
        ELSE TRY_CAST(left(written, 19) AS TIMESTAMP)
    END
);
CREATE OR REPLACE TEMP MACRO interval_end(written) AS (
    CASE length(written)
        WHEN 4 THEN TRY_CAST(written || '-01-01' AS TIMESTAMP) + INTERVAL 1 YEAR
        WHEN 7 THEN TRY_CAST(written || '-01' AS TIMESTAMP) + INTERVAL 1 MONTH
        WHEN 10 THEN TRY_CAST(written AS TIMESTAMP) + INTERVAL 1 DAY
        ELSE TRY_CAST(left(written, 19) AS TIMESTAMP)
    END
);
CREATE OR REPLACE TEMP MACRO day_end(written) AS (
    CASE length(written) WHEN 4 THEN NULL WHEN 7 THEN NULL ELSE interval_end(written) END
);
CREATE OR REPLACE TEMP MACRO bare_new_year(moment) AS (
    dayofyear(moment) = 1 AND moment = date_trunc('day', moment)
);
CREATE OR REPLACE TEMP MACRO remembered(written) AS (
    CASE WHEN NOT bare_new_year(moment(written)) THEN moment(written) END
);
CREATE OR REPLACE TEMP MACRO plausible(moment) AS (
    CASE WHEN moment > TIMESTAMP '1900-01-02' AND moment < TIMESTAMP '2200-01-01'
         AND moment::DATE NOT IN (DATE '1901-01-01', DATE '1969-12-31', DATE '1970-01-01')
         THEN moment END
);
CREATE OR REPLACE TEMP MACRO whole_years(born, day) AS (
    floor((date_diff('day', born::DATE, day::DATE) + 0.75) / 365.25)::INTEGER
);
CREATE OR REPLACE TEMP MACRO dotted_icd(code) AS (
    CASE WHEN length(code) > 3 AND NOT contains(code, '.')
         THEN left(code, 3) || '.' || substr(code, 4) ELSE code END
);
"""
"""Times are facility-local wall clock: the offset that a FHIR dateTime carries is left off, so that
daylight saving does not show. `moment` is null for a date without a day (FHIR R4, dateTime);
`interval_end` is when a date of any precision is over, which is when it was surely known.
`day_end` is the same of whole dates, and null for partial ones: the ends of months and years are
days of the calendar, and an offset to one of them would tell where the zero lies.
`bare_new_year` is a first of January without a time, which is how a bare year is often written;
`remembered` takes what somebody reported for a date without a day then.
`whole_years` counts days, so that ages tell nothing of where the calendar's leap days lie: on a
birthday it is right, and at most one day before it the next age is told already.
`plausible` leaves out what stands for "unknown" in other systems: the zeros of their clocks."""

MEMORY: Final = "640MB"
"""What DuckDB may take where it can spill; with Python, Arrow and its own overhead below 1 GB."""
THREADS: Final = 8
"""At most: each one that reads NDJSON holds two buffers of the longest line's size."""

_memory = fsspec.filesystem("memory")
_numbers = count()


def connect(spill: Path | None = None) -> duckdb.DuckDBPyConnection:
    """A connection with the macros; `spill` is where it may write, memory alone by default."""
    connection = duckdb.connect(
        config={"autoinstall_known_extensions": False, "autoload_known_extensions": False}
    )
    if spill is not None:
        connection.execute(f"SET temp_directory = {text(str(spill))}")
        connection.execute(f"SET memory_limit = {text(MEMORY)}")
        connection.execute(f"SET threads = {min(THREADS, os.cpu_count() or 1)}")
    connection.execute("SET enable_progress_bar = false")
    connection.execute("SET TimeZone = 'UTC'")
    connection.register_filesystem(_memory)
    connection.execute(MACROS)
    return connection


@contextmanager
def memory_file(content: bytes) -> Iterator[str]:
    """A file in memory that DuckDB can read, while the block lasts: no PHI on a disk."""
    path = f"/fhirloom-{next(_numbers)}.ndjson"
    _memory.pipe_file(path, content)
    try:
        yield f"memory://{path}"
    finally:
        _memory.rm_file(path)


def copy_to(connection: duckdb.DuckDBPyConnection, query: str, path: Path) -> None:
    """Write a query's rows to a Parquet file."""
    connection.execute(f"COPY ({query}) TO {text(str(path))} (FORMAT parquet, COMPRESSION zstd)")


def bind(connection: duckdb.DuckDBPyConnection, tables: Mapping[str, pa.Table | Path]) -> None:
    """Make Arrow tables and Parquet files known to the connection by name."""
    for name, table in tables.items():
        if isinstance(table, Path):
            source = f"read_parquet({text(str(table))})"
            connection.execute(f"CREATE OR REPLACE TEMP VIEW {name} AS SELECT * FROM {source}")
        else:
            connection.register(name, table)


def fetch(connection: duckdb.DuckDBPyConnection, query: str, *values: Any) -> pa.Table:
    """A query's rows as one Arrow table."""
    # DuckDB warns that a relation would save a copy; it would also plan every query twice.
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        return connection.execute(query, list(values)).to_arrow_table()
