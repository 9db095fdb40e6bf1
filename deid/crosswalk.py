"""Step 1: who becomes which random surrogate, and where each patient's time begins.

The only random step: surrogates are drawn from the operating system, never derived from the
original (45 CFR 164.514(c)). It is sealed first, kept in `phi/crosswalk`, and an input of every
later digest. A later export extends it; no surrogate and no zero ever moves.

    patients.parquet     patient_id, birth, surrogate, zero, anchor_year, begins, ends
    encounters.parquet   patient_id, encounter_id, surrogate

A patient has one timeline, or two: the first ends at the 90th birthday, and the second begins
there, with a surrogate and a zero of its own and the age of 90 (45 CFR 164.514(b)(2)(i)(C)).
`begins` and `ends` bound a timeline.
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
        "begins": pa.timestamp("us"),
        "ends": pa.timestamp("us"),
    }
)
ENCOUNTERS: Final = pa.schema(
    {"patient_id": pa.string(), "encounter_id": pa.string(), "surrogate": pa.int64()}
)

TIMELINES: Final = f"""
SELECT patient_id, birth, unnest([
    {{begins: {EARLIEST}, ends: coalesce(birth + INTERVAL {OLDEST_AGE} YEAR, {LATEST})}},
    {{begins: birth + INTERVAL {OLDEST_AGE} YEAR, ends: {LATEST}}}
], recursive := true)
FROM (SELECT patient_id, min(birth) AS birth FROM patient WHERE dropped IS NULL GROUP BY patient_id)
"""
"""Every timeline that a patient can have: one, and the years from 90 where the birth is known."""


def _exported(
    connection: duckdb.DuckDBPyConnection, landing: LandingZone, rules: Rules
) -> datetime:
    if landing.transaction_time is not None:
        # The instant's day may lie ahead of the facility's by one: the midnight before is safe.
        day = landing.transaction_time.replace(tzinfo=None, hour=0, minute=0, second=0)
        return day.replace(microsecond=0) - timedelta(days=1)
    latest = fetch(
        connection,
        "SELECT max(time) AS latest FROM ("
        + " UNION ALL ".join(
            f"SELECT time FROM {view.name} WHERE dropped IS NULL AND time < '2100-01-01'"
            for view in rules.views
            if view.timed
        )
        + ")",
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
    its first plausible record: after birth, not after the export.
    """
    records = " UNION ALL ".join(
        f"SELECT patient_id, time FROM {view.name} WHERE dropped IS NULL AND time IS NOT NULL"
        for view in rules.views
        if view.timed
    )
    patients = _extended(
        fetch(connection, "FROM known_patients"),
        fetch(
            connection,
            f"WITH timelines AS ({TIMELINES}), records AS ({records}) "
            "SELECT patient_id, birth, 0::BIGINT AS surrogate, min(time) AS zero, "
            "year(min(time))::SMALLINT AS anchor_year, begins, ends "
            "FROM timelines JOIN records USING (patient_id) WHERE time >= begins AND time < ends "
            "AND time <= $1 AND (birth IS NULL OR time >= birth) "
            "AND NOT EXISTS (FROM known_patients AS k "
            "WHERE k.patient_id = timelines.patient_id AND k.begins = timelines.begins) "
            "GROUP BY ALL ORDER BY patient_id, begins",
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
