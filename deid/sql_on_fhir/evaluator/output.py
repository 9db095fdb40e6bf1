"""A view's rows as a file: Parquet or NDJSON, for its owner alone."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from deid.sql_on_fhir.evaluator.definition import Column
from deid.sql_on_fhir.evaluator.rows import Row

FORMATS: Final = (".parquet", ".ndjson")
_TYPES: Final = {bool: pa.bool_(), int: pa.int64(), float: pa.float64(), str: pa.string()}


def write_rows(found: Sequence[Row], columns: Sequence[Column], path: Path) -> None:
    """Write rows to a new file whose ending is one of `FORMATS`; it is there whole or not at all.

    In Parquet, a column of lists, of complex values or of several types holds JSON text.
    """
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    with open(os.open(part, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:  # noqa: PTH123
        if path.suffix == ".parquet":
            arrays = {each.name: _array([row[each.name] for row in found]) for each in columns}
            pq.write_table(pa.table(arrays), file, compression="zstd")
        else:
            for row in found:
                file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    part.replace(path)


def _array(values: list[Any]) -> pa.Array:
    kinds = {type(value) for value in values if value is not None}
    if kinds == {int, float}:
        kinds = {float}
    kind = kinds.pop() if len(kinds) == 1 else str if not kinds else list
    if kind in _TYPES:
        return pa.array(values, _TYPES[kind])
    texts = [None if value is None else json.dumps(value) for value in values]
    return pa.array(texts, pa.string())
