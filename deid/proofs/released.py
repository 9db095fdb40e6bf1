"""What is about to be released: every string that is not exempt, every number, with its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from deid.extract import RARE
from deid.policy import LIMITED_DATA_SET, Policy
from deid.rules import load_rules
from deid.tables import BUCKETS

EXCEPTIONS: Final = Path(__file__).parent / "exceptions.json"
TIME_COLUMNS: Final = ("patient", "time", "known_at", "anchor_year", "observed_until", "encounter")
LOCAL: Final = "local:"
"""What we write before a site's own code; it comes from no input."""
TYPES: Final = (pa.string(), pa.int16(), pa.int64(), pa.float64(), pa.bool_(), pa.date32())
ROWS: Final = 2**17
"""Rows of a Parquet file that are in memory at once."""


def released_strings(
    folder: Path,
    vocabulary: frozenset[str] = frozenset(),
    permitted: frozenset[str] = frozenset(),
) -> dict[str, str]:
    """Every string below `folder` that is not exempt, with the place where it stands.

    `vocabulary` is the set of exempt codes, `permitted` are the columns (`table.column`) in which
    the policy lets identifiers stay.
    """
    strings: dict[str, str] = {}
    for path in parquet_files(folder):
        table = path.parent.name
        strings |= {table: "table name", path.stem: "file name"}
        strings |= dict.fromkeys(_metadata_strings(path, permitted), f"metadata of {table}")
        for column, values in _text_values(path):
            place = f"{table}.{column}"
            if place not in permitted:
                strings |= dict.fromkeys(values, place)
    told = {
        text.removeprefix(LOCAL): place for text, place in strings.items() if text not in vocabulary
    }
    return {text: place for text, place in told.items() if text not in _allowed()}


def file_strings(path: Path) -> Iterator[str]:
    """Every string of one Parquet file, exempt or not."""
    yield from _metadata_strings(path, frozenset())
    for _, values in _text_values(path):
        yield from values


def parquet_files(folder: Path) -> list[Path]:
    """All tables' files below `folder`."""
    return sorted(folder.rglob("*.parquet"))


def unscannable(folder: Path, permitted: frozenset[str] = frozenset()) -> Iterator[str]:
    """Columns of a type that nothing here looks into: they do not pass."""
    scanned = (pa.types.is_string, pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
    for path in parquet_files(folder):
        for item in pq.read_schema(path):
            place = f"{path.parent.name}.{item.name}"
            if place not in permitted and not any(is_one(item.type) for is_one in scanned):
                yield f"{place} (type {item.type} cannot be scanned)"


def numeric_columns(file: Path) -> list[str]:
    """The columns of numbers."""
    return [
        item.name
        for item in pq.read_schema(file)
        if pa.types.is_integer(item.type) or pa.types.is_floating(item.type)
    ]


def most_numbers(folder: Path) -> int:
    """How many numbers there are at most."""
    metadata = map(pq.read_metadata, parquet_files(folder))
    return sum(told.num_rows * told.num_columns for told in metadata)


def released_numbers(folder: Path) -> Iterator[NDArray[np.int64]]:
    """The whole numbers of all tables, without their signs, in pieces."""
    for path in parquet_files(folder):
        columns = numeric_columns(path)
        for batch in pq.ParquetFile(path).iter_batches(ROWS, columns=columns):
            for column in batch.columns:
                yield _whole(column.drop_null().to_numpy(zero_copy_only=False))


def _whole(values: NDArray[Any]) -> NDArray[np.int64]:
    if values.dtype.kind == "f":
        values = values[(np.abs(values) < 1e18) & (values == np.round(values))]
    found: NDArray[np.int64] = np.abs(values.astype(np.int64))
    return found


def _text_values(path: Path) -> Iterator[tuple[str, list[str]]]:
    schema = pq.read_schema(path)
    columns = [item.name for item in schema if pa.types.is_string(item.type)]
    found: dict[str, set[str]] = {column: set() for column in columns}
    for batch in pq.ParquetFile(path).iter_batches(ROWS, columns=columns):
        for column in columns:
            found[column].update(value for value in pc.unique(batch[column]).to_pylist() if value)
    for column, values in found.items():
        yield column, sorted(values)


def _metadata_strings(path: Path, permitted: frozenset[str]) -> Iterator[str]:
    """Names, key-value metadata and statistics; the extremes of text columns are values too."""
    file = pq.ParquetFile(path)
    for name, kind in zip(file.schema_arrow.names, file.schema_arrow.types, strict=True):
        yield name
        yield str(kind)
    metadata = file.metadata
    yield metadata.created_by
    for key, value in (metadata.metadata or {}).items():
        if key != b"ARROW:schema":  # the serialized schema: its names are scanned above
            yield key.decode(errors="replace")
            yield value.decode(errors="replace")
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            told = f"{path.parent.name}.{chunk.path_in_schema}" in permitted
            if chunk.is_stats_set and chunk.statistics.has_min_max and not told:
                extremes = (chunk.statistics.min, chunk.statistics.max)
                yield from (text for text in extremes if isinstance(text, str))


@cache
def exceptions() -> dict[str, Any]:
    """`exceptions.json`."""
    read: dict[str, Any] = json.loads(EXCEPTIONS.read_text())
    return read


@cache
def _allowed() -> frozenset[str]:
    """The members of the lists that `exceptions.json` names, as the shipped rules hold them."""
    rules = load_rules()
    # Whichever the policy: a column that it adds has a name of ours too.
    each = (rules, load_rules(policy=Policy(zip3=())), load_rules(policy=LIMITED_DATA_SET))
    lists = {
        "labels": (label for labels in rules.enums.values() for label in labels.values()),
        "units": (declared["unit"] for declared in rules.quantities.values()),
        "names": chain(
            TIME_COLUMNS,
            (view.name for view in rules.views),
            (column.name for one in each for view in one.views for column in view.columns),
        ),
        "files": (f"bucket-{bucket:03d}" for bucket in range(BUCKETS)),
        "writer": (f"parquet-cpp-arrow version {pa.cpp_version}",),
        "types": map(str, TYPES),
    }
    named = chain.from_iterable(lists[item["list"]] for item in exceptions()["allowed"])
    return frozenset(chain((RARE, "other"), named, exceptions()["values"]))
