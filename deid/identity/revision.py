"""The crosswalk without some patients, and the crosswalk with new surrogates.

A surrogate that is no longer in force is retired, and never given again. One that was rotated away
keeps its ids in `retired`, so that it can still be looked up; of a removed patient's the bare
number is kept, which leads to nobody.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deid.engine import bind, connect, fetch
from deid.identity.persons import REMOVED

RETIRED: Final = pa.schema(
    {
        "surrogate": pa.int64(),
        "patient_id": pa.string(),
        "encounter_id": pa.string(),
        "zero": pa.timestamp("us"),
    }
)

REMAINING: Final = (
    "FROM links ANTI JOIN gone USING (patient_id) "
    "ANTI JOIN gone AS other ON survivor = other.patient_id"
)
"""Links, but for those that name somebody who is gone."""

Tables = Mapping[str, pa.Table]
NONE: Final[NDArray[np.int64]] = np.empty(0, np.int64)


def without(tables: Tables, ids: Collection[str]) -> dict[str, pa.Table]:
    """The tables without these patients, by logical id; who they are stands in `removed` alone."""
    if not ids:
        return {**tables, "removed": REMOVED.empty_table()}
    with connect() as connection:
        gone = pa.table({"patient_id": sorted(ids)}, schema=REMOVED)
        bind(connection, {**tables, "gone": gone})
        connection.execute(
            "CREATE TEMP TABLE nameless AS "
            "SELECT surrogate FROM issued SEMI JOIN gone USING (patient_id) UNION "
            "SELECT surrogate FROM patients SEMI JOIN gone USING (patient_id) UNION "
            "SELECT surrogate FROM encounters SEMI JOIN gone USING (patient_id) UNION "
            "SELECT surrogate FROM retired SEMI JOIN gone USING (patient_id)"
        )
        kept = "ANTI JOIN gone USING (patient_id) ANTI JOIN nameless USING (surrogate)"
        rows = {
            **{name: f"FROM {name} {kept}" for name in ("patients", "issued", "encounters")},
            "links": REMAINING,
            "retired": "FROM retired ANTI JOIN nameless USING (surrogate) "
            "UNION ALL BY NAME FROM nameless",
        }
        found = {
            name: fetch(connection, f"FROM ({sql}) ORDER BY ALL") for name, sql in rows.items()
        }
        return {**tables, **found, "removed": gone}


def remaining(links: pa.Table, removed: pa.Table) -> pa.Table:
    """The links that name nobody who was removed."""
    with connect() as connection:
        bind(connection, {"links": links, "gone": removed})
        return fetch(connection, f"FROM ({REMAINING}) ORDER BY ALL")


def rotated(tables: Tables) -> dict[str, pa.Table]:
    """The tables with a new surrogate for each old one; zeros and anchor years stay."""
    with connect() as connection:
        bind(connection, dict(tables))
        everyone = "SELECT surrogate FROM issued UNION SELECT surrogate FROM patients"
        named = fetch(connection, f"{everyone} UNION SELECT surrogate FROM encounters")["surrogate"]
        given = given_surrogates(tables)
        renewed = pa.table({"surrogate": named, "new": draw_surrogates(len(named), given)})
        bind(connection, {"renewed": renewed})
        swapped = {
            name: f"SELECT o.* REPLACE (new AS surrogate) FROM {name} AS o "
            "JOIN renewed USING (surrogate)"
            for name in ("patients", "issued", "encounters")
        }
        swapped["retired"] = (
            "FROM retired UNION ALL BY NAME SELECT surrogate, patient_id, zero FROM issued "
            "UNION ALL BY NAME SELECT surrogate, patient_id, encounter_id FROM encounters"
        )
        found = {
            name: fetch(connection, f"FROM ({sql}) ORDER BY ALL").cast(tables[name].schema)
            for name, sql in swapped.items()
        }
        return {**tables, **found}


def given_surrogates(tables: Tables) -> NDArray[np.int64]:
    """Every number that was ever given to anybody or to any encounter."""
    numbers = [
        tables[name]["surrogate"].to_numpy()
        for name in ("issued", "patients", "encounters", "retired")
    ]
    found: NDArray[np.int64] = np.unique(np.concatenate(numbers))
    return found


def draw_surrogates(count: int, taken: NDArray[np.int64]) -> NDArray[np.int64]:
    """`count` distinct random numbers of 62 bits that are not in `taken`."""
    drawn: NDArray[np.int64] = np.empty(0, np.int64)
    while len(drawn) < count:
        more = np.frombuffer(os.urandom(8 * (count - len(drawn))), np.int64) & (2**62 - 1)
        drawn = np.concatenate([drawn, np.setdiff1d(more, np.concatenate([taken, drawn]))])
    return np.random.default_rng(int.from_bytes(os.urandom(8))).permutation(drawn)
