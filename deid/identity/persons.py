"""Patients who were merged: whose records are one person's.

An extract holds ids as they were delivered, a merged patient's records partly under the id that
was replaced (FHIR R4, Patient.link). Here ids become those of persons: the id that survives. All
later steps see persons alone: one row in `patient`, one timeline, one that counts.

A link is followed once the survivor's own record is there. Until then the records that it replaced
are one person among themselves, under the least of their ids: nobody counts twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from deid.engine import bind, fetch
from deid.rules import ResearchView, Rules
from deid.sql_on_fhir.compiler import text
from exports.sealed import Sealed

LINKS: Final = pa.schema({"patient_id": pa.string(), "survivor": pa.string()})
REPLACED: Final = "replaced by another record of the person"
"""Why a merged patient's former Patient resource is dropped: it would be a second row."""
REMOVED: Final = pa.schema({"patient_id": pa.string()})
GONE: Final = "removed patient"
"""Why a row is dropped that arrives of somebody who was removed."""


def followed(
    connection: duckdb.DuckDBPyConnection, extracted: Sealed, links: Mapping[str, str]
) -> pa.Table:
    """Of `links` (replaced id to surviving id) those to a record that was delivered.

    For a survivor that was not, one that it replaced stands in.
    """
    told = pa.table({"patient_id": list(links), "survivor": list(links.values())}, schema=LINKS)
    bind(connection, {"told": told, "delivered": extracted.path / "patient.parquet"})
    return fetch(
        connection,
        "WITH present AS (SELECT patient_id AS id FROM delivered WHERE dropped IS NULL), "
        "followed AS (SELECT patient_id, CASE WHEN survivor IN (FROM present) THEN survivor ELSE "
        "min(patient_id) FILTER (patient_id IN (FROM present)) OVER (PARTITION BY survivor) END "
        "AS survivor FROM told) "
        "FROM followed WHERE survivor <> patient_id ORDER BY ALL",
    )


def bind_persons(
    connection: duckdb.DuckDBPyConnection,
    extracted: Sealed,
    rules: Rules,
    links: pa.Table | Path,
    removed: pa.Table,
) -> None:
    """Make the extract's tables known by name, with persons' ids in `patient_id`; and `links`.

    Whatever is a `removed` person's is dropped as such.
    """
    bind(connection, {"links": links, "removed": removed})
    for view in rules.views:
        rows = f"read_parquet({text(str(extracted.path / f'{view.name}.parquet'))})"
        persons = f"FROM ({persons_sql(view, rows)})"
        if removed.num_rows:
            gone = f"patient_id IN (FROM removed) THEN {text(GONE)}"
            persons = f"SELECT * REPLACE (CASE WHEN {gone} ELSE dropped END AS dropped) {persons}"
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {view.name} AS {persons}")


def persons_sql(view: ResearchView, rows: str) -> str:
    """A view's rows with persons' ids in `patient_id`; expects `links`."""
    person = "coalesce(survivor, patient_id) AS patient_id"
    if view.view.resource == "Patient":
        person += f", CASE WHEN survivor IS NULL THEN dropped ELSE {text(REPLACED)} END AS dropped"
    return (
        f"SELECT * EXCLUDE (survivor) REPLACE ({person}) FROM {rows} "
        "LEFT JOIN links USING (patient_id)"
    )


TIMELINES_IN_FORCE: Final = """
SELECT i.* EXCLUDE (patient_id), coalesce(survivor, i.patient_id) AS patient_id
FROM issued AS i LEFT JOIN links AS l USING (patient_id)
LEFT JOIN served AS s
    ON s.patient_id = coalesce(survivor, i.patient_id) AND s.surrogate = i.surrogate
QUALIFY row_number() OVER (PARTITION BY coalesce(survivor, i.patient_id), i.old
    ORDER BY s.surrogate IS NULL, survivor IS NOT NULL, i.zero, i.surrogate) = 1
"""
"""Of the timelines that were issued to the ids of a person, the one that holds for all of them.

It is the one that held for the surviving id before, so that nothing released moves; else the
survivor's own; else the one with the earliest zero. Expects `issued`, `served` and `links`.
"""

ENCOUNTERS_IN_FORCE: Final = """
SELECT coalesce(survivor, patient_id) AS patient_id, encounter_id, surrogate
FROM issued_encounters LEFT JOIN links USING (patient_id)
QUALIFY row_number() OVER (PARTITION BY coalesce(survivor, patient_id), encounter_id
    ORDER BY survivor IS NOT NULL, surrogate) = 1
"""
"""Each encounter of a person, once, with the surrogate that it was given under whichever id.

Expects `issued_encounters` and `links`.
"""
