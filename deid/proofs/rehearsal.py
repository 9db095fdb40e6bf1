"""A rehearsal: resources become research tables in memory, by the very SQL of the run.

What a run would make of resources is made of them here, with the rules and the vocabulary that are
given: true ones, or ones that a proof has broken. Nothing touches a disk, and the surrogates are
thrown away with the tables.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import duckdb
import pyarrow as pa

from deid.code_dates import dated_words
from deid.engine import bind, connect, fetch, memory_file
from deid.extract import extract_sql, quantity_table
from deid.identity.crosswalk import assign
from deid.identity.custody import ENCOUNTERS, PATIENTS
from deid.identity.persons import LINKS, persons_sql
from deid.quarantine import readable
from deid.rules import ResearchView, Rules
from deid.tables import located_sql, windows, written_rows_sql
from deid.vocabulary import Vocabulary
from exports.increments.links import linked, survivors
from exports.landing.ndjson import load

Lines = Mapping[str, Sequence[bytes]]
"""NDJSON by resource type; every line is a good resource with an id, and ends in a line feed."""

NONE: Final[Lines] = {}
ALWAYS: Final = datetime(2199, 12, 31)
"""Later than any plausible record: whoever rehearses without an export's time sees every row."""


@dataclass(frozen=True)
class Rehearsed:
    """`tables` as they would be released; `rows` with each row's resource, and the dropped ones.

    `patients` holds the timelines, as the crosswalk does. `apart` counts by view the lines that
    break its types, which a run would have quarantined.
    """

    tables: Mapping[str, pa.Table]
    rows: Mapping[str, pa.Table]
    patients: pa.Table
    apart: Mapping[str, int]


def rehearse(
    lines: Lines,
    rules: Rules,
    vocabulary: Vocabulary,
    exported: datetime | None = None,
    *,
    doubtful: Lines = NONE,
) -> Rehearsed:
    """De-identify `lines` by `rules`, as of `exported`; without it, no row is too late.

    `doubtful` lines are tried before they join the others: so the search for those that break a
    view's types is short.
    """
    with connect() as connection:
        bind(
            connection,
            {
                "quantities": quantity_table(rules),
                "vocabulary": dated_words(vocabulary, rules),
                "windows": windows(exported, rules.policy),
                "links": _links(lines.get("Patient", ())),
                "known_patients": PATIENTS.empty_table(),
                "known_encounters": ENCOUNTERS.empty_table(),
            },
        )
        apart = {
            view.name: _bind_rows(connection, view, rules, lines, doubtful)
            for view in (*rules.auxiliary, *rules.views)
        }
        assign(connection, rules, exported or ALWAYS)
        tables, rows = {}, {}
        for view in rules.views:
            rows[view.name] = fetch(connection, located_sql(view))
            bind(connection, {"located": rows[view.name]})
            tables[view.name] = fetch(connection, written_rows_sql("located"))
        return Rehearsed(tables, rows, fetch(connection, "FROM patients"), apart)


def _bind_rows(
    connection: duckdb.DuckDBPyConnection,
    view: ResearchView,
    rules: Rules,
    lines: Lines,
    doubtful: Lines,
) -> int:
    """Make the view's rows, by person, known under its name; counts the lines it can't read."""
    resource = view.view.resource
    given = [*lines.get(resource, ()), *doubtful.get(resource, ())]
    good = [*lines.get(resource, ()), *readable(connection, view, doubtful.get(resource, ()))]
    try:
        rows = _extracted(connection, view, rules, good)
    except duckdb.Error:
        good = readable(connection, view, good)
        rows = _extracted(connection, view, rules, good)
    if not view.auxiliary:
        bind(connection, {"extracted": rows})
        rows = fetch(connection, persons_sql(view, "extracted"))
    bind(connection, {view.name: rows})
    return len(given) - len(good)


def _extracted(
    connection: duckdb.DuckDBPyConnection, view: ResearchView, rules: Rules, lines: Sequence[bytes]
) -> pa.Table:
    with memory_file(b"".join(lines)) as file:
        return fetch(connection, extract_sql(view, rules, [file]))


def _links(patients: Sequence[bytes]) -> pa.Table:
    """The replaced ids with those that survive, of the merges whose survivor is here."""
    said = {}
    for line in patients:
        if b'"link"' in line:
            patient = load(line)
            said[patient["id"]] = linked(patient.get("active"), patient["link"])
    here = {load(line)["id"] for line in patients} if said else set()
    followed = {old: new for old, new in survivors(said).items() if new in here}
    columns = {"patient_id": list(followed), "survivor": list(followed.values())}
    return pa.table(columns, schema=LINKS)
