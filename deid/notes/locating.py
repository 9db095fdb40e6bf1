"""Whose a note is and when it was written: by the very rules of the research tables.

The rows of the views `note` and `diagnostic_report` are placed by `deid.tables.located_sql`, so
that a note has the surrogates, the time and the window that its row in the tables has, or is left
out as that row is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import duckdb

from deid.code_dates import dated_words
from deid.engine import bind, fetch
from deid.extract import RARE, version_sql
from deid.identity.custody import Crosswalk
from deid.identity.persons import ENCOUNTERS_IN_FORCE, bind_persons
from deid.notes.attachments import ELSEWHERE, NOTES
from deid.notes.dates import Timeline
from deid.notes.known import Known
from deid.rules import Rules
from deid.tables import BUCKETS, located_sql, windows
from deid.vocabulary import SHARED, Vocabulary
from exports.sealed import Sealed

NO_TEXT: Final = "no text"
UNPLACED: Final = "not in the research tables"


@dataclass(frozen=True)
class Note:
    """One note, still identified, with the surrogates and the place in time of its row."""

    resource_id: str
    patient: int
    encounter: int | None
    time: int
    known_at: int
    code: str | None
    text: str


@dataclass(frozen=True)
class Patient:
    """One timeline: its notes in the order of time, and what is known of whose it is."""

    id: str
    timeline: Timeline
    known: tuple[Known, ...]
    notes: tuple[Note, ...]


def place_notes(
    connection: duckdb.DuckDBPyConnection,
    folder: Path,
    extracted: Sealed,
    walk: Crosswalk,
    vocabulary: Vocabulary,
    rules: Rules,
) -> dict[str, int]:
    """Make the table `notes` of what `gather` put into `folder`; returns what was left out.

    Counts are attachments by reason: what is elsewhere, can't be read, is another form of the same
    note or an earlier version of it, and why its row is not in the research tables.
    """
    bind_persons(connection, extracted, rules, walk.read("links"), walk.read("removed"))
    bind(
        connection,
        {
            "patients": walk.read("patients"),
            "issued_encounters": walk.read("encounters"),
            "vocabulary": dated_words(vocabulary, rules),
            "windows": windows(walk.exported, rules.policy),
            **{name: folder / f"{name}.parquet" for name in ("texts", "binaries", "known")},
        },
    )
    connection.execute(f"CREATE TEMP TABLE encounters AS {ENCOUNTERS_IN_FORCE}")
    placed = []
    for view in rules.views:
        if view.view.resource in NOTES:
            located = f"located_{view.name}"
            connection.execute(f"CREATE TEMP TABLE {located} AS {located_sql(view)}")
            placed.append(
                f"SELECT '{view.view.resource}' AS resource, id, min(dropped) AS dropped, "
                "min(patient) AS patient, min(encounter) AS encounter, min(time) AS time, "
                f"min(known_at) AS known_at, coalesce(min(code) FILTER (code <> '{RARE}'), "
                f"min(code)) AS code FROM {located} GROUP BY id"
            )
    connection.execute(f"CREATE TEMP TABLE placed AS {' UNION ALL '.join(placed)}")
    connection.execute(_NOTES)
    left_out = fetch(
        connection,
        "SELECT why, count(*) AS attachments FROM judged WHERE why IS NOT NULL "
        "GROUP BY why ORDER BY why",
    )
    return {row["why"]: row["attachments"] for row in left_out.to_pylist()}


_NOTES: Final = f"""
CREATE TEMP TABLE judged AS
WITH versions AS (
    SELECT *, dense_rank() OVER (PARTITION BY resource, lower(id)
        ORDER BY {version_sql("written")} DESC, standing, hash) = 1 AS newest FROM texts
), filled AS (
    SELECT v.* REPLACE (coalesce(v.text, b.text) AS text,
        CASE WHEN b.binary_id IS NULL THEN v.unread ELSE b.unread END AS unread,
        coalesce(b.form, v.form) AS form)
    FROM versions AS v LEFT JOIN (SELECT binary_id, min(form) AS form, min(text) AS text,
        min(unread) AS unread FROM binaries GROUP BY binary_id) AS b
        ON v.binary_id = b.binary_id AND v.binary_id <> ''
), ranked AS (
    SELECT *, min(form) FILTER (text IS NOT NULL) OVER (PARTITION BY resource, id, hash) AS best
    FROM filled
)
SELECT r.*, p.patient, p.encounter, p.time, p.known_at, p.code, CASE
    WHEN NOT newest THEN 'another version'
    WHEN r.text IS NULL THEN coalesce(r.unread, '{ELSEWHERE}')
    WHEN r.form > r.best THEN 'another form of the same note'
    WHEN p.dropped IS NOT NULL THEN p.dropped
    WHEN p.patient IS NULL OR r.patient_id IS NULL OR NOT EXISTS (
        FROM patients AS o WHERE o.surrogate = p.patient AND o.patient_id = r.patient_id
    ) THEN '{UNPLACED}'
END AS why
FROM ranked AS r LEFT JOIN placed AS p ON r.resource = p.resource AND lower(r.id) = lower(p.id);
CREATE TEMP TABLE notes AS
SELECT * EXCLUDE (why) FROM judged WHERE why IS NULL
"""
"""Attachments by what becomes of them; a note's patient has to be the one of its placed row."""


def small_words(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """Words that the notes of as many patients write small as must share a code (`SHARED`)."""
    found = fetch(
        connection,
        "SELECT word FROM (SELECT patient, unnest(list_distinct(regexp_extract_all(text, "
        r"'\b[a-z]{3,}\b'))) AS word FROM notes) GROUP BY word "
        f"HAVING count(DISTINCT patient) >= {SHARED} ORDER BY word",
    )
    return [str(word) for word in found["word"].to_pylist()]


def everyones(connection: duckdb.DuckDBPyConnection) -> list[Known]:
    """What is known for the notes of all."""
    rows = fetch(
        connection,
        "SELECT DISTINCT entity, value FROM known WHERE patient_id = '' ORDER BY entity, value",
    )
    return [Known("", row["entity"], row["value"]) for row in rows.to_pylist()]


def patients(
    connection: duckdb.DuckDBPyConnection, bucket: int, exported: datetime
) -> Iterator[Patient]:
    """The patients of a bucket of the research tables who have notes."""
    people = {
        row["surrogate"]: row
        for row in fetch(
            connection,
            "SELECT DISTINCT surrogate, zero, begins, ends, birth, observed_until, "
            "coalesce(survivor, patient_id) AS person FROM patients JOIN windows USING "
            f"(anchor_year) LEFT JOIN links USING (patient_id) WHERE surrogate % {BUCKETS} = "
            f"{bucket} AND surrogate IN (SELECT patient FROM notes)",
        ).to_pylist()
    }
    known: dict[str, list[Known]] = {}
    for row in fetch(
        connection,
        "SELECT DISTINCT coalesce(survivor, patient_id) AS person, entity, value FROM known "
        "LEFT JOIN links USING (patient_id) WHERE person IN (SELECT coalesce(survivor, patient_id) "
        "FROM patients LEFT JOIN links USING (patient_id) "
        f"WHERE surrogate % {BUCKETS} = {bucket}) ORDER BY ALL",
    ).to_pylist():
        known.setdefault(row["person"], []).append(
            Known(row["person"], row["entity"], row["value"])
        )
    notes: dict[int, list[Note]] = {}
    for row in fetch(
        connection,
        "SELECT id, patient, encounter, time, known_at, code, text FROM notes "
        f"WHERE patient % {BUCKETS} = {bucket} "
        "ORDER BY patient, time, known_at, encounter, code, hash, place",
    ).to_pylist():
        notes.setdefault(row["patient"], []).append(_note(row))
    for surrogate, written in sorted(notes.items()):
        row = people[surrogate]
        timeline = Timeline(
            row["zero"],
            row["begins"],
            row["ends"],
            row["observed_until"],
            row["birth"],
            exported.date(),
        )
        yield Patient(row["person"], timeline, tuple(known.get(row["person"], ())), tuple(written))


def _note(row: dict[str, Any]) -> Note:
    return Note(
        row["id"],
        row["patient"],
        row["encounter"],
        row["time"],
        row["known_at"],
        row["code"],
        row["text"],
    )
