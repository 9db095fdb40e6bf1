"""Which sealed folders still hold rows of removed patients, and taking those folders away.

A released table never changes: whoever is removed is left out of what is made from now on. What was
made before is found by the surrogates that the crosswalk keeps as nobody's: in every Parquet file,
in columns of whole numbers; and in extracts by the id. Other forms (graphs, reports, MLflow) hold
no row of a patient. What was made from such a folder is named by the chain of digests.
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from deid.engine import bind, connect
from deid.identity.custody import ids_in, present_crosswalks
from deid.identity.orders import read_orders
from deid.identity.persons import REMOVED
from deid.sql_on_fhir.compiler import name, text
from exports.sealed import CURRENT, MANIFEST

ZONES: Final = ("research", "phi/limited", "phi/extract")
LEFT: Final = ("phi/unproven", "phi/spill")
"""What a de-identification that was killed may have left behind."""
HIDDEN: Final = (".building-*", ".removing-*")


@dataclass(frozen=True)
class Holders:
    """Sealed folders, relative to the work folder: with rows of removed patients, and made from
    these without such rows."""

    holding: tuple[str, ...]
    made_from: tuple[str, ...]


def find_holders(work: Path) -> Holders:
    """Look through all sealed folders for whoever was removed so far."""
    folders = {path: manifest for zone in ZONES for path, manifest in _sealed(work / zone)}
    with connect() as connection:
        bind(connection, _removed(work / "phi"))
        holding = {folder for folder in folders if _holds(connection, folder)}
    touched = {folders[folder]["digest"] for folder in holding}
    derived: set[Path] = set()
    # Each round goes one stage further down; the chain of digests has no circle.
    while found := {
        folder
        for folder, manifest in folders.items()
        if folder not in holding | derived and touched & set(_inputs(manifest))
    }:
        derived |= found
        touched |= {folders[folder]["digest"] for folder in found}
    return Holders(*(tuple(sorted(_told(work, each))) for each in (holding, derived)))


def purge(work: Path, holding: Iterable[str]) -> None:
    """Remove sealed folders, each in one step; and whatever a killed run has left half-made.

    Only for who holds the work folder: no stage may be at work in it.
    """
    for folder in (work / each for each in holding):
        aside = folder.with_name(f".removing-{folder.name}")
        folder.rename(aside)
        shutil.rmtree(aside)
        link = folder.parent / CURRENT
        if link.is_symlink() and not link.exists():
            link.unlink()
    for zone in ZONES:
        for pattern in HIDDEN:
            for left in [*(work / zone).glob(f"**/{pattern}")]:
                shutil.rmtree(left, ignore_errors=True)
    for place in LEFT:
        shutil.rmtree(work / place, ignore_errors=True)


def _removed(phi: Path) -> dict[str, pa.Table]:
    """`gone`: surrogates that are nobody's by now; `removed`: the ids of whoever had them."""
    walks = present_crosswalks(phi)
    ids = sorted(ids_in(walks, "removed") | read_orders(phi).removed)
    numbers = []
    for walk in walks:
        retired = walk.read("retired", ["surrogate", "patient_id"])
        numbers.append(retired.filter(retired["patient_id"].is_null()).select(["surrogate"]))
    empty = pa.schema({"surrogate": pa.int64()}).empty_table()
    return {
        "gone": pa.concat_tables([empty, *numbers]),
        "removed": pa.table({"patient_id": ids}, schema=REMOVED),
    }


def _sealed(zone: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    for path in sorted(zone.glob(f"**/{MANIFEST}")):
        folder = path.parent
        if any(part.is_symlink() or part.name.startswith(".") for part in (folder, folder.parent)):
            continue
        manifest = json.loads(path.read_text())
        if isinstance(manifest, dict) and "digest" in manifest:
            yield folder, manifest


def _inputs(manifest: Mapping[str, Any]) -> Iterable[str]:
    inputs = manifest.get("inputs")
    return inputs.values() if isinstance(inputs, dict) else ()


def _holds(connection: duckdb.DuckDBPyConnection, folder: Path) -> bool:
    """Whether one of the folder's Parquet files has a row of somebody who was removed."""
    alike: defaultdict[tuple[tuple[str, str], ...], list[Path]] = defaultdict(list)
    for path in sorted(folder.rglob("*.parquet")):
        schema = pq.read_schema(path)
        columns = [
            (field.name, "gone" if pa.types.is_integer(field.type) else "removed")
            for field in schema
            if field.type == pa.int64() or field.name == "patient_id"
        ]
        alike[tuple(columns)].append(path)
    return any(
        _among(connection, paths, column, whom)
        for columns, paths in alike.items()
        for column, whom in columns
    )


def _among(
    connection: duckdb.DuckDBPyConnection, paths: list[Path], column: str, whom: str
) -> bool:
    files = f"read_parquet([{', '.join(text(str(path)) for path in paths)}])"
    query = f"SELECT 1 FROM {files} WHERE {name(column)} IN (FROM {whom}) LIMIT 1"
    return connection.execute(query).fetchone() is not None


def _told(work: Path, folders: Iterable[Path]) -> Iterator[str]:
    return (folder.relative_to(work).as_posix() for folder in folders)
