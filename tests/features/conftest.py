"""Small research tables, written the way de-identification writes them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deid.policy import SAFE_HARBOR
from deid.research import ResearchTables
from exports.sealed import Stage, hash_json, sealing

Row = Mapping[str, Any]
TablesOf = Callable[[Mapping[str, Iterable[Row]]], dict[str, pa.Table]]
WriteResearch = Callable[[Path, Mapping[str, pa.Table], int], ResearchTables]

_TYPES = {
    **dict.fromkeys(("patient", "time", "known_at", "encounter"), pa.int64()),
    **dict.fromkeys(("observed_until", "death"), pa.int64()),
    **dict.fromkeys(("anchor_year", "age"), pa.int16()),
    "value": pa.float64(),
}
_EVENT = ("patient", "time", "known_at", "encounter")
_COLUMNS = {
    "patient": (
        *("patient", "anchor_year", "observed_until"),
        *("sex", "race", "ethnicity", "state", "death"),
    ),
    "admission": (*_EVENT, "class", "age", "admit_source", "priority"),
    "discharge": (*_EVENT, "class", "disposition"),
    "condition": (*_EVENT, "code", "clinical_status", "category"),
    "observation": (*_EVENT, "code", "value", "unit", "comparator"),
    "medication": (*_EVENT, "code", "status", "intent"),
    "procedure": (*_EVENT, "code"),
    "note": (*_EVENT, "code"),
}


@pytest.fixture(scope="session")
def tables_of() -> TablesOf:
    """Rows given as mappings, as Arrow tables of every view; what a row leaves out is null."""

    def make(rows: Mapping[str, Iterable[Row]]) -> dict[str, pa.Table]:
        return {
            view: pa.Table.from_pylist(
                list(rows.get(view, ())),
                pa.schema([(name, _TYPES.get(name, pa.string())) for name in columns]),
            )
            for view, columns in _COLUMNS.items()
        }

    return make


@pytest.fixture
def write_research() -> WriteResearch:
    """Seal tables below a research folder, patients dealt out to buckets by their number."""

    def write(research: Path, tables: Mapping[str, pa.Table], buckets: int) -> ResearchTables:
        content = {view: str(table.to_pylist()) for view, table in tables.items()}
        stage = Stage("tables", 1, {}, spec=hash_json([content, buckets]))
        with sealing(research / "tables", stage) as draft:
            for view, table in tables.items():
                (draft.path / view).mkdir()
                bucket_of = [patient % buckets for patient in table["patient"].to_pylist()]
                for bucket in range(buckets):
                    mask = pa.array([b == bucket for b in bucket_of], pa.bool_())
                    pq.write_table(
                        table.filter(mask), draft.path / view / f"bucket-{bucket:03d}.parquet"
                    )
            draft.facts |= {
                "policy": SAFE_HARBOR.facts(),
                "buckets": buckets,
                "tables": sorted(tables),
            }
        return ResearchTables(draft.result)

    return write
