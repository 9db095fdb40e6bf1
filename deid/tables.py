"""Step 3: the research tables: surrogates for ids, offsets for times, the vocabulary for codes.

Times are whole seconds from the patient's zero. Of each patient only what lies within the observed
window is kept: up to the export's moment minus the end of the anchor year. So `observed_until` is
one constant for an anchor year, and the dates that are possible for a patient stay a whole year.
Patients who are anchored in the export's own year wait for a later export.

In a limited data set every patient's zero is the start of 1970: times are dates, all that the
export holds is kept, and nobody waits (`deid.policy`).
"""

from __future__ import annotations

import calendar
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from deid.code_dates import dated_words, tells_the_date
from deid.engine import bind, connect, fetch
from deid.extract import RARE
from deid.identity.crosswalk import MOST_YEARS, OLDEST_AGE
from deid.identity.custody import Crosswalk
from deid.identity.persons import ENCOUNTERS_IN_FORCE, bind_persons
from deid.policy import SAFE_HARBOR, Policy
from deid.rules import PACKAGED, UNCAPPED, WRITTEN, DomainColumn, ResearchView, Rules
from deid.sql_on_fhir.compiler import name, text
from deid.vocabulary import Vocabulary
from exports.progress import Progress, silent
from exports.sealed import Sealed, Stage, hash_file, hash_json

VERSION: Final = 4
BUCKETS: Final = 16
"""Patient buckets of each table: what is read, sorted and held in memory at once."""

PROOF_LISTS: Final = ("identifiers.json", "exceptions.json")
LOCATED: Final = WRITTEN | {"encounter", "own encounter"}
"""Kinds of columns that a table has besides patient, time and known_at."""


def tables_stage(
    extracted: Sealed, crosswalk: Crosswalk, vocabulary: Vocabulary, rules: Rules
) -> Stage:
    """What determines the research tables."""
    inputs = {
        "extract": extracted.digest,
        "crosswalk": crosswalk.sealed.digest,
        "vocabulary": vocabulary.digest,
        "proofs": hash_json([hash_file(PACKAGED / "proofs" / name) for name in PROOF_LISTS]),
    }
    if rules.policy.population:
        inputs["zip3-population"] = rules.policy.population
    return Stage("tables", VERSION, inputs, rules.hash)


def write_tables(
    folder: Path,
    extracted: Sealed,
    crosswalk: Crosswalk,
    vocabulary: Vocabulary,
    rules: Rules,
    *,
    spill: Path,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write every table by bucket below `folder`; returns the facts of the manifest.

    `spill` is a folder in the PHI zone. Facts: `buckets`, `tables` (rows), and `outcomes`: for each
    view how many resources were kept, and how many dropped for which reason.
    """
    # What a killed run staged is no part of this one, and a database of it would be in the way.
    shutil.rmtree(spill, ignore_errors=True)
    spill.mkdir(mode=0o700, parents=True)
    connection = connect(spill)
    connection.execute(f"ATTACH {text(str(spill / 'staged.duckdb'))} AS staged")
    bind_persons(connection, extracted, rules, crosswalk.read("links"), crosswalk.read("removed"))
    bind(
        connection,
        {
            "patients": crosswalk.read("patients"),
            "issued_encounters": crosswalk.read("encounters"),
            "vocabulary": dated_words(vocabulary, rules),
            "windows": windows(crosswalk.exported, rules.policy),
        },
    )
    connection.execute(f"CREATE TEMP TABLE encounters AS {ENCOUNTERS_IN_FORCE}")
    rows: dict[str, int] = {}
    outcomes: dict[str, dict[str, int]] = {}
    for done, view in enumerate(rules.views):
        progress(done, len(rules.views), "tables")
        connection.execute(f"CREATE TABLE staged.rows AS {located_sql(view)}")
        outcomes[view.name] = _outcomes(connection)
        rows[view.name] = 0
        (folder / view.name).mkdir()
        for bucket in range(BUCKETS):
            table = fetch(
                connection, written_rows_sql("staged.rows", f"patient % {BUCKETS} = {bucket}")
            )
            rows[view.name] += table.num_rows
            path = folder / view.name / f"bucket-{bucket:03d}.parquet"
            pq.write_table(table, path, compression="zstd")
        connection.execute("DROP TABLE staged.rows")
    connection.close()
    shutil.rmtree(spill)
    progress(len(rules.views), len(rules.views), "tables")
    return {"buckets": BUCKETS, "tables": rows, "outcomes": outcomes}


def windows(exported: datetime | None, policy: Policy = SAFE_HARBOR) -> pa.Table:
    """For every `anchor_year`: `observed_until` (seconds from zero; without an export, no bound),
    and the first and last moment that the zero may be, `year_begins` and `year_ends` (seconds from
    1970): those of the year, or where dates are told the zero itself.
    """
    years = [1970] if policy.dated else range(1900, 2200)
    begins = [calendar.timegm((year, 1, 1, 0, 0, 0)) for year in years]
    ends = [calendar.timegm((year + (not policy.dated), 1, 1, 0, 0, 0)) for year in years]
    moment = None if exported is None else calendar.timegm(exported.timetuple())
    return pa.table(
        {
            "anchor_year": pa.array(years, pa.int16()),
            "observed_until": pa.array(
                [2**62 if moment is None else moment - end for end in ends], pa.int64()
            ),
            "year_begins": pa.array(begins, pa.int64()),
            "year_ends": pa.array(ends, pa.int64()),
        }
    )


def located_sql(view: ResearchView) -> str:
    """Rows of a view with surrogates and offsets, and in `dropped` why a row is not kept.

    Expects the extract's tables by person, `patients`, `encounters`, `vocabulary` and `windows`.
    """
    timed, own = view.timed, bool(view.of("own encounter"))
    late = any(column.argument == "encounter_end" for column in view.of("known_at"))
    known = "coalesce(r.known, span.ends)" if late else "r.known"
    moment = "coalesce(r.time, r.known, span.begins)"
    within = f"AND {moment} >= p.begins AND {moment} < p.ends" if timed else ""
    time, known_at = _offset("r.time"), f"greatest({_offset(known)}, {_offset('r.time')})"
    cases = ["WHEN r.dropped IS NOT NULL THEN r.dropped"]
    if timed:
        # An encounter's start or end is a moment, or it is nothing; other rows may have none.
        needed = "r.time" if own else moment
        cases += [
            f"WHEN {needed} IS NULL OR {moment} < p.birth THEN 'no plausible time'",
            f"WHEN {known} IS NULL THEN 'no time at which it was known'",
            f"WHEN {known} > p.ends THEN 'known after its timeline'",
        ]
    if view.anchors:
        # Such a record sets no zero: that it precedes one would tell how far the zero is from the
        # first of January. (The zero of a limited data set is one, and everybody's.)
        before = "r.time < p.zero AND bare_new_year(r.time) AND NOT bare_new_year(p.zero)"
        cases.append(f"WHEN {before} THEN 'bare year before the zero'")
    cases += [
        "WHEN p.surrogate IS NULL AND EXISTS (FROM patient AS own WHERE own.dropped IS NULL "
        "AND own.patient_id = r.patient_id) THEN 'patient without a dated contact'",
        "WHEN p.surrogate IS NULL THEN 'unknown patient'",
        "WHEN w.observed_until < 0 THEN 'anchored in the year of the export'",
    ]
    if timed:
        cases.append(f"WHEN {known_at} > w.observed_until THEN 'after the observed window'")
    if own:
        cases += [
            "WHEN span.begins IS NULL THEN 'encounter without a start'",
            "WHEN e.surrogate IS NULL THEN 'encounter spans a birthday from the 90th on'",
        ]
    picked = ["r.id", f"CASE {' '.join(cases)} END AS dropped", "p.surrogate AS patient"]
    if timed:
        picked += [f"{time} AS time", f"{known_at} AS known_at"]
    else:
        picked += ["p.anchor_year", "w.observed_until"]
    picked += [
        _column(column, *((known_at, time) if timed else ("NULL", "NULL")))
        for column in view.columns
        if column.kind in LOCATED
    ]
    words = (
        f"LEFT JOIN vocabulary AS v_{column.name} ON r.{column.name} = v_{column.name}.word"
        for column in view.of("code")
    )
    return (
        f"SELECT {_measured(view)} FROM (SELECT DISTINCT {', '.join(picked)} FROM {view.name} AS r "
        f"LEFT JOIN ({SPANS}) AS span "
        "ON r.patient_id = span.patient_id AND r.encounter_id = span.encounter_id "
        f"LEFT JOIN patients AS p ON r.patient_id = p.patient_id {within} "
        "LEFT JOIN windows AS w USING (anchor_year) "
        "LEFT JOIN encounters AS e ON r.patient_id = e.patient_id "
        "AND r.encounter_id = e.encounter_id AND span.begins >= p.begins AND span.begins < p.ends "
        f"{' '.join(words)})"
    )


SPANS: Final = (
    "SELECT patient_id, encounter_id, min(time) FILTER (NOT over) AS begins, "
    "max(known) FILTER (over) AS ends FROM ("
    "SELECT patient_id, encounter_id, time, known, false AS over FROM admission "
    "WHERE dropped IS NULL UNION ALL "
    "SELECT patient_id, encounter_id, time, known, true AS over FROM discharge "
    "WHERE dropped IS NULL) GROUP BY ALL"
)
"""Each encounter's start, and when its end was known; its timeline is that of its start."""


def written_rows_sql(rows: str, condition: str = "true") -> str:
    """The rows that `located_sql` kept, each once, in the order that makes equal files equal."""
    return (
        f"SELECT DISTINCT * EXCLUDE (id, dropped) FROM {rows} "
        f"WHERE dropped IS NULL AND {condition} ORDER BY ALL"
    )


def _column(column: DomainColumn, known_at: str, time: str) -> str:
    raw, output = f"r.{name(column.name)}", name(column.name)
    match column.kind:
        case "encounter" | "own encounter":
            return "e.surrogate AS encounter"
        case "code":
            entry = f"v_{column.name}"
            dated = tells_the_date(entry, known_at, time)
            word = f"CASE WHEN {dated} THEN NULL ELSE {entry}.word END"
            return f"CASE WHEN {raw} IS NOT NULL THEN coalesce({word}, '{RARE}') END AS {output}"
        case "offset":
            kept = (
                f"{raw} >= p.begins AND {raw} < p.ends AND {_offset(raw)} <= w.observed_until "
                f"AND (p.birth IS NULL OR {raw} >= p.birth)"
            )
            return f"CASE WHEN {kept} THEN {_offset(raw)} END AS {output}"
        case "age":
            years = f"whole_years(p.birth, {raw})"
            young = f"CASE WHEN {years} < {OLDEST_AGE} THEN {years} ELSE {OLDEST_AGE - 1} END"
            known = f"p.birth IS NOT NULL AND {raw} IS NOT NULL"
            if column.argument == UNCAPPED:
                age = f"CASE WHEN {years} BETWEEN 0 AND {MOST_YEARS} THEN {years} END"
                return f"({age})::SMALLINT AS {output}"
            age = (
                f"CASE WHEN {known} THEN CASE WHEN p.old > 0 THEN {OLDEST_AGE} ELSE {young} END END"
            )
            return f"({age})::SMALLINT AS {output}"
        case _:
            return f"{raw} AS {output}"


def _measured(view: ResearchView) -> str:
    """All columns; what was measured goes with its code: under RARE it is not there either."""
    measured = [column for column in view.columns if column.measured]
    if not measured:
        return "*"
    code = name(view.code.name)
    kept = (
        f"CASE WHEN {code} <> '{RARE}' THEN {name(column.name)} END AS {name(column.name)}"
        for column in measured
    )
    return f"* REPLACE ({', '.join(kept)})"


def _offset(moment: str) -> str:
    return f"(epoch({moment})::BIGINT - epoch(p.zero)::BIGINT)"


def _outcomes(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Resources by what became of them; one that yields a kept row is kept."""
    table = fetch(
        connection,
        "SELECT outcome, count(*) AS resources FROM (SELECT id, CASE WHEN bool_or(dropped IS NULL) "
        "THEN 'kept' ELSE min(dropped) END AS outcome FROM staged.rows GROUP BY id) "
        "GROUP BY outcome ORDER BY outcome",
    )
    return {row["outcome"]: row["resources"] for row in table.to_pylist()}
