"""The date-window proof: on how many days may each patient's zero lie, judged by the output alone?

The anchor year leaves a whole year. What else is released must not narrow it: the feasible window
stays 365 days or more.

    the export   nothing was known after it: the zero plus the latest offset is no later
    codes        a row was written when its code was in use (`deid.code_dates`), neither before its
                 first day nor after its last
    ages         calendar years have 365 or 366 days, and which ones are longer would tell where the
                 leap day lies; ages here count days (`whole_years`), so that one birth has to fit
                 them all, whatever the calendar (89 may be a capped one, and is left out)

Each run plants a patient for each of these, and two for the codes, whose window is narrower: these
must be found.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import duckdb
import pyarrow as pa

from deid.code_dates import dated_words
from deid.engine import bind, connect, fetch
from deid.identity.crosswalk import OLDEST_AGE
from deid.proofs.proof import Evidence, Verdict
from deid.rules import ResearchView
from deid.sql_on_fhir.compiler import name, text
from deid.tables import windows

Asked: TypeAlias = Callable[[ResearchView, str], list[str]]
"""What is asked of a view's table: queries over its source."""

LEAST: Final = 365
"""Days on which a zero has to be possible."""
DAY: Final = 86_400
EXPORT, CODE, AGES, RETIRED = -1, -2, -3, -4
"""The planted patients, by what narrows their window; they are anchored in 2020."""

LATEST: Final = f"""
CREATE TEMP TABLE latest AS
SELECT patient, max(known_at) AS latest FROM ({{events}}) GROUP BY patient
UNION ALL SELECT {EXPORT}, $exported - year_ends + 30 * {DAY} FROM windows WHERE anchor_year = 2020
"""
WINDOWS: Final = f"""
WITH anchors AS (
    SELECT DISTINCT * FROM ({{anchors}})
    UNION ALL SELECT unnest([{EXPORT}, {CODE}, {RETIRED}]), 2020
), coded AS (
    SELECT patient, in_use_from - moment AS earliest, in_use_until - moment AS latest FROM (
        SELECT patient, word, unnest([known_at, time]) AS moment, unnest([true, false]) AS written
        FROM ({{codes}})
    ) JOIN words USING (word) WHERE written OR own
    UNION ALL VALUES ({CODE}, epoch(TIMESTAMP '2020-04-01')::BIGINT, NULL),
        ({RETIRED}, NULL, epoch(TIMESTAMP '2020-10-01')::BIGINT)
), told AS (
    SELECT patient, max(earliest) FILTER (earliest > year_begins AND earliest < year_ends) AS since,
        min(coded.latest) FILTER (coded.latest > year_begins AND coded.latest < year_ends) AS till,
        count(*) FILTER (earliest >= year_ends) AS mapped
    FROM coded JOIN anchors USING (patient) JOIN windows USING (anchor_year) GROUP BY patient
)
SELECT patient, coalesce(mapped, 0) AS mapped, ceil((
    least(year_ends, till, $exported - coalesce(latest, 0)) - coalesce(since, year_begins)
) / {DAY})::BIGINT AS days
FROM anchors JOIN windows USING (anchor_year)
LEFT JOIN told USING (patient) LEFT JOIN latest USING (patient)
"""
DATED_BY_AGE: Final = f"""
WITH aged AS (
    SELECT DISTINCT patient, time, age::INTEGER AS age FROM ({{ages}})
    WHERE time IS NOT NULL AND age < {OLDEST_AGE - 1}
    UNION ALL VALUES ({AGES}, 0, 40), ({AGES}, 366 * {DAY}, 40)
), clocks AS (
    SELECT patient, ({DAY} - time % {DAY}) % {DAY} AS clock FROM aged
    UNION SELECT patient, 0 FROM aged
), days AS (
    SELECT patient, clock, age, floor((time + clock) / {DAY}) AS day
    FROM aged JOIN clocks USING (patient)
), births AS (
    SELECT patient, max(day + 0.75 - 365.25 * (age + 1)) AS after,
        floor(min(day + 0.75 - 365.25 * age)) AS until
    FROM days GROUP BY patient, clock
)
SELECT patient FROM births GROUP BY patient HAVING NOT bool_or(until > after)
"""
"""Patients for whom no birth fits all ages. On which day an event lies, counted from the zero's,
depends on the zero's time of day; it is tried at each time at which one of them changes its day."""


def verdict(evidence: Evidence) -> Verdict:
    """The proof over tables that are not released yet; it needs neither crosswalk nor landing."""
    evidence.spill.mkdir(mode=0o700, parents=True, exist_ok=True)
    with connect(evidence.spill) as connection:
        found = _windows(connection, evidence).to_pylist()
        ages = fetch(connection, DATED_BY_AGE.format(ages=_all(evidence, _ages)))
    controls = {EXPORT, CODE, RETIRED, AGES}
    narrowed = {row["patient"] for row in found if row["days"] < LEAST}
    narrowed |= set(ages["patient"].to_pylist())
    real = [row for row in found if row["patient"] not in controls]
    patients = narrowed - controls
    failure = "The date-window proof did not find its own negative controls"
    if patients:
        failure = f"What was to be released narrows the dates of {len(patients)} patients"
    return Verdict(
        "date window",
        controls <= narrowed and not patients,
        {
            "patients": len(real),
            "fewest_feasible_days": min((row["days"] for row in real), default=0),
            f"patients_below_{LEAST}_days": len(patients),
            "codes_mapped_onto_older_records": sum(row["mapped"] for row in real),
            "negative_controls_planted": len(controls),
            "negative_controls_found": len(controls & narrowed),
        },
        failure,
        tuple(f"surrogate {patient}" for patient in sorted(patients)),
    )


def _windows(connection: duckdb.DuckDBPyConnection, evidence: Evidence) -> pa.Table:
    exported = evidence.crosswalk.exported
    bind(
        connection,
        {
            "words": dated_words(evidence.vocabulary, evidence.rules),
            "windows": windows(exported),
        },
    )
    seconds = f"epoch(TIMESTAMP '{exported.isoformat(sep=' ')}')::BIGINT"
    latest = LATEST.format(events=_all(evidence, _events))
    connection.execute(latest.replace("$exported", seconds))
    asked = WINDOWS.format(anchors=_all(evidence, _anchors), codes=_all(evidence, _codes))
    return fetch(connection, asked.replace("$exported", seconds))


def _all(evidence: Evidence, asked: Asked) -> str:
    """One query over every table of which something is asked; some always is, of the patients."""
    parts = []
    for view in evidence.rules.views:
        files = sorted((evidence.folder / view.name).glob("*.parquet"))
        listed = ", ".join(text(str(path)) for path in files)
        parts += asked(view, f"read_parquet([{listed}], hive_partitioning = false)")
    return " UNION ALL ".join(parts)


def _anchors(view: ResearchView, source: str) -> list[str]:
    return [] if view.timed else [f"SELECT patient, anchor_year FROM {source}"]


def _events(view: ResearchView, source: str) -> list[str]:
    return [f"SELECT patient, known_at FROM {source}"] if view.timed else []


def _codes(view: ResearchView, source: str) -> list[str]:
    columns = [name(column.name) for column in view.of("code")] if view.timed else []
    return [f"SELECT patient, known_at, time, {column} AS word FROM {source}" for column in columns]


def _ages(view: ResearchView, source: str) -> list[str]:
    columns = [name(column.name) for column in view.of("age")] if view.timed else []
    return [f"SELECT patient, time, {column} AS age FROM {source}" for column in columns]
