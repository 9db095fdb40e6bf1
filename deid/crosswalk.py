"""Step 1: who becomes which random surrogate, and where each patient's time begins.

The only random step: surrogates are drawn from the operating system, never derived from the
original (45 CFR 164.514(c)). It is sealed first, kept in `phi/crosswalk`, and an input of every
later digest. A later export extends it; no surrogate and no zero ever moves.

    patients.parquet     patient_id, birth, surrogate, zero, anchor_year, old, begins, ends
    encounters.parquet   patient_id, encounter_id, surrogate

A patient has one timeline, or two: the first ends at the 90th birthday, and the second begins
there, with a surrogate and a zero of its own and the age of 90 (45 CFR 164.514(b)(2)(i)(C)).
That one is `old`; `begins` and `ends` bound a timeline, by the newest birth date.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from deid.engine import bind, connect, fetch
from deid.rules import Rules
from exports.errors import FhirloomError
from exports.landing import LandingZone
from exports.sealed import CURRENT, Sealed, Stage, open_sealed, sealing

VERSION: Final = 1
OLDEST_AGE: Final = 90
"""Whole years; ages above 89 are one category (45 CFR 164.514(b)(2)(i)(C))."""
AGREEING: Final = 11
"""Patients who must have a record that late before a folder without a time of export is taken to
reach that far: one mistyped year must not move everyone's observed window."""
EARLIEST: Final = "TIMESTAMP '0001-01-01'"
LATEST: Final = "TIMESTAMP '9999-01-01'"


@dataclass(frozen=True)
class Crosswalk:
    """The sealed crosswalk, and the moment (wall clock) up to which the export is whole."""

    sealed: Sealed
    exported: datetime

    @property
    def patients(self) -> Path:
        """`patients.parquet`."""
        return self.sealed.path / "patients.parquet"

    @property
    def encounters(self) -> Path:
        """`encounters.parquet`."""
        return self.sealed.path / "encounters.parquet"


def crosswalk(extracted: Sealed, landing: LandingZone, phi: Path, rules: Rules) -> Crosswalk:
    """The crosswalk that covers an extract: the present one, or the present one extended.

    Raises `FhirloomError` (bad-input) where no record has a plausible date.
    """
    root = phi / "crosswalk"
    present = open_sealed(root / CURRENT)
    if present is not None and present.inputs["extract"] == extracted.digest:
        return Crosswalk(present, datetime.fromisoformat(present.facts["exported"]))
    connection = connect()
    bind(connection, {view.name: extracted.path / f"{view.name}.parquet" for view in rules.views})
    exported = _exported(connection, landing, rules)
    bind(
        connection,
        {
            "known_patients": _present(present, "patients", PATIENTS),
            "known_encounters": _present(present, "encounters", ENCOUNTERS),
        },
    )
    stage = Stage(
        "crosswalk",
        VERSION,
        {"extract": extracted.digest, "previous": "" if present is None else present.digest},
    )
    with sealing(root, stage, mode=0o700) as draft:
        patients, encounters = assign(connection, rules, exported)
        pq.write_table(patients, draft.path / "patients.parquet")
        pq.write_table(encounters, draft.path / "encounters.parquet")
        draft.facts |= {"exported": exported.isoformat(), "patients": patients.num_rows}
    connection.close()
    return Crosswalk(draft.result, exported)


PATIENTS: Final = pa.schema(
    {
        "patient_id": pa.string(),
        "birth": pa.date32(),
        "surrogate": pa.int64(),
        "zero": pa.timestamp("us"),
        "anchor_year": pa.int16(),
        "old": pa.bool_(),
        "begins": pa.timestamp("us"),
        "ends": pa.timestamp("us"),
    }
)
ENCOUNTERS: Final = pa.schema(
    {"patient_id": pa.string(), "encounter_id": pa.string(), "surrogate": pa.int64()}
)

TIMELINES: Final = f"""
SELECT patient_id, born AS birth, unnest([
    {{old: false, begins: {EARLIEST}, ends: coalesce(ninety, {LATEST})}},
    {{old: true, begins: ninety, ends: {LATEST}}}
], recursive := true)
FROM (
    SELECT patient_id, coalesce(min(p.birth), min(k.birth)) AS born,
    born + INTERVAL {OLDEST_AGE} YEAR AS ninety
    FROM (FROM patient WHERE dropped IS NULL) AS p
    FULL JOIN known_patients AS k USING (patient_id) GROUP BY patient_id
)
"""
"""Every timeline that a patient can have: one, and the years from 90 where the birth is known.

They follow the newest birth date, so that one's end is always the other's beginning.
"""


def _exported(
    connection: duckdb.DuckDBPyConnection, landing: LandingZone, rules: Rules
) -> datetime:
    if landing.transaction_time is not None:
        # The instant's day may lie ahead of the facility's by one: the midnight before is safe.
        day = landing.transaction_time.replace(tzinfo=None, hour=0, minute=0, second=0)
        return day.replace(microsecond=0) - timedelta(days=1)
    latest = fetch(
        connection,
        "SELECT min(latest) AS latest FROM (SELECT max(time) AS latest FROM ("
        + " UNION ALL ".join(
            f"SELECT patient_id, time FROM {view.name} WHERE dropped IS NULL AND time IS NOT NULL"
            for view in rules.views
            if view.anchors
        )
        + f") GROUP BY patient_id ORDER BY latest DESC LIMIT {AGREEING})",
    )["latest"][0].as_py()
    if latest is None:
        raise FhirloomError(
            "bad-input",
            "No record has a plausible date",
            where="phi/landing",
            fix="Check that the export holds clinical resources of its patients.",
        )
    return datetime.combine(latest.date(), datetime.min.time())


def assign(
    connection: duckdb.DuckDBPyConnection, rules: Rules, exported: datetime
) -> tuple[pa.Table, pa.Table]:
    """Known timelines and encounters as they are, then new ones with fresh surrogates.

    Expects the extract's tables, `known_patients` and `known_encounters`. A new timeline's zero is
    its first plausible record that was made when it happened: after birth, not after the export.
    """
    anchors = " UNION ALL ".join(
        f"SELECT patient_id, time FROM {view.name} WHERE dropped IS NULL AND time IS NOT NULL"
        for view in rules.views
        if view.anchors
    )
    connection.execute(f"CREATE OR REPLACE TEMP TABLE timelines AS {TIMELINES}")
    patients = _extended(
        fetch(
            connection,
            "SELECT patient_id, t.birth, k.surrogate, k.zero, k.anchor_year, old, t.begins, t.ends "
            "FROM known_patients AS k JOIN timelines AS t USING (patient_id, old) "
            "ORDER BY patient_id, old",
        ),
        fetch(
            connection,
            "SELECT patient_id, birth, 0::BIGINT AS surrogate, min(time) AS zero, "
            "year(min(time))::SMALLINT AS anchor_year, old, begins, ends "
            f"FROM timelines ANTI JOIN known_patients USING (patient_id, old) "
            f"JOIN ({anchors}) USING (patient_id) WHERE time >= begins AND time < ends "
            "AND time <= $1 AND (birth IS NULL OR time >= birth) "
            # A bare first of January is how a bare year is often written.
            "AND NOT (dayofyear(time) = 1 AND time = date_trunc('day', time)) "
            "GROUP BY ALL ORDER BY patient_id, old",
            exported,
        ).cast(PATIENTS),
    )
    bind(connection, {"patients": patients})
    encounters = _extended(
        fetch(connection, "FROM known_encounters"),
        fetch(
            connection,
            "SELECT DISTINCT patient_id, encounter_id, 0::BIGINT AS surrogate FROM ("
            "FROM admission SELECT patient_id, encounter_id WHERE dropped IS NULL UNION ALL "
            "FROM discharge SELECT patient_id, encounter_id WHERE dropped IS NULL) "
            "ANTI JOIN known_encounters USING (patient_id, encounter_id) "
            "SEMI JOIN patients USING (patient_id) ORDER BY ALL",
        ).cast(ENCOUNTERS),
    )
    bind(connection, {"encounters": encounters})
    return patients, encounters


def _extended(known: pa.Table, fresh: pa.Table) -> pa.Table:
    numbers = draw_surrogates(len(fresh), taken=known["surrogate"].to_numpy())
    column = fresh.schema.get_field_index("surrogate")
    numbered = fresh.set_column(column, "surrogate", [numbers])
    return pa.concat_tables([known.cast(fresh.schema), numbered])


def draw_surrogates(count: int, taken: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """`count` distinct random numbers of 62 bits that are not in `taken`."""
    drawn: NDArray[np.int64] = np.empty(0, np.int64)
    while len(drawn) < count:
        more = np.frombuffer(os.urandom(8 * (count - len(drawn))), np.int64) & (2**62 - 1)
        drawn = np.concatenate([drawn, np.setdiff1d(more, np.concatenate([taken, drawn]))])
    return np.random.default_rng(int.from_bytes(os.urandom(8))).permutation(drawn)


def _present(sealed: Sealed | None, name: str, schema: pa.Schema) -> pa.Table:
    if sealed is None:
        return schema.empty_table()
    return pq.read_table(sealed.path / f"{name}.parquet", schema=schema)
