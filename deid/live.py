"""One patient's research tables, now: the same views, domains and vocabulary as in batch.

The resources of a prefetch become the very rows that an export of them would have become, by the
same SQL, in memory. Surrogates and the zero point are this call's own: no feature depends on them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from deid.code_dates import dated_words
from deid.engine import bind, connect, fetch, memory_file
from deid.extract import extract_sql, quantity_table
from deid.identity.crosswalk import assign
from deid.identity.custody import ENCOUNTERS, PATIENTS
from deid.quarantine import readable
from deid.rules import ResearchView, Rules
from deid.tables import located_sql, windows, written_rows_sql
from deid.vocabulary import Vocabulary
from exports.errors import FhirloomError
from exports.increments.links import linked
from exports.landing.ndjson import load
from exports.references import key


@dataclass(frozen=True)
class LivePatient:
    """One patient's tables, and `time`: the moment asked about, in seconds from the zero point."""

    tables: Mapping[str, pa.Table]
    patient: int
    time: int


@dataclass(frozen=True)
class _Person:
    """A patient's id, and other ids that are the same person's."""

    id: str
    others: frozenset[str]

    @classmethod
    def of(cls, line: bytes) -> _Person:
        patient = load(line)
        said = linked(patient.get("active"), patient.get("link"))
        return cls(key(str(patient.get("id"))), said.replaces | said.replaced_by)

    def under_one_id(self, rows: pa.Table) -> pa.Table:
        """A view's rows, `patient_id` being the patient's wherever it is that person's."""
        if not self.others:
            return rows
        ids = rows["patient_id"]
        same = pc.is_in(ids, value_set=pa.array(sorted(self.others)))
        place = rows.schema.get_field_index("patient_id")
        return rows.set_column(place, "patient_id", pc.if_else(same, self.id, ids))


class LiveReader:
    """Reads resources of one patient into research tables; keeps its DuckDB connection."""

    def __init__(self, rules: Rules, vocabulary: Vocabulary) -> None:
        self.rules = rules
        self.connection = connect()
        bind(
            self.connection,
            {
                "quantities": quantity_table(rules),
                "vocabulary": dated_words(vocabulary, rules),
                "windows": windows(None, rules.policy),
                "known_patients": PATIENTS.empty_table(),
                "known_encounters": ENCOUNTERS.empty_table(),
            },
        )

    def read(self, resources: Iterable[Mapping[str, Any]], at: datetime) -> LivePatient:
        """The tables of the one patient in `resources` at facility wall clock time `at`.

        What is filed under an id that the patient replaces, or is replaced by, is the patient's.
        Raises `FhirloomError` (bad-input) where there is no patient, or more than one, or no dated
        record up to `at`.
        """
        lines: dict[str, list[bytes]] = defaultdict(list)
        for resource in resources:
            lines[str(resource.get("resourceType"))].append(orjson.dumps(resource) + b"\n")
        if len(lines["Patient"]) != 1:
            raise FhirloomError(
                "bad-input",
                f"There are {len(lines['Patient'])} Patient resources, and one is needed",
                where="the prefetch",
                fix="Send exactly one patient with the resources that the bundle's prefetch names.",
            )
        person = _Person.of(lines["Patient"][0])
        for view in self.rules.auxiliary:
            bind(self.connection, {view.name: self._extract(view, lines[view.view.resource])})
        for view in self.rules.views:
            rows = self._extract(view, lines[view.view.resource])
            bind(self.connection, {view.name: person.under_one_id(rows)})
        assign(self.connection, self.rules, at)
        timeline = fetch(
            self.connection,
            "SELECT surrogate, epoch($1::TIMESTAMP)::BIGINT - epoch(zero)::BIGINT AS time "
            "FROM patients WHERE begins <= $1 AND ends > $1",
            at,
        ).to_pylist()
        if not timeline:
            raise FhirloomError(
                "bad-input",
                "The patient has no dated record up to the time of the request",
                where="the prefetch",
                fix="Send the resources that the bundle's prefetch names, and the right time.",
            )
        tables = {
            view.name: fetch(self.connection, written_rows_sql(f"({located_sql(view)})"))
            for view in self.rules.views
        }
        return LivePatient(tables, timeline[0]["surrogate"], timeline[0]["time"])

    def _extract(self, view: ResearchView, lines: Sequence[bytes]) -> pa.Table:
        try:
            return self._read(view, lines)
        except duckdb.Error:
            return self._read(view, readable(self.connection, view, lines))

    def _read(self, view: ResearchView, lines: Sequence[bytes]) -> pa.Table:
        with memory_file(b"".join(lines)) as file:
            return fetch(self.connection, extract_sql(view, self.rules, [file]))
