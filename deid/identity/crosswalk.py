"""Step 1: who becomes which random surrogate, and where each patient's time begins.

The only random step: surrogates are drawn from the operating system, never derived from the
original (45 CFR 164.514(c)). It is sealed first, kept in `phi/crosswalk`, and an input of every
later digest. A later export extends it; no surrogate and no zero ever moves.

    patients.parquet     patient_id, birth, surrogate, zero, anchor_year, old, begins, ends
    issued.parquet       the same of every timeline ever issued, by the id that it was issued to
    encounters.parquet   patient_id, encounter_id, surrogate: every one ever issued
    links.parquet        patient_id, survivor
    retired.parquet      surrogates that are in force no longer (`deid.identity.revision`)
    removed.parquet      patient_id of whoever was removed, and is told of nowhere else

Each is encrypted (`deid.identity.vault`), and what was superseded is not kept.

A patient has one timeline up to the 90th birthday. From there on each year of life is one of its
own, with a surrogate and a zero of its own and the age of 90 (45 CFR 164.514(b)(2)(i)(C)): in a
longer one offsets would tell that somebody is, say, 95 at least. `old` counts them: 0 up to the
birthday, then 1, 2, 3. `begins` and `ends` bound a timeline, by the newest birth date.

Patients who were merged share a timeline: `patients` has it under each of their ids, by the birth
date of the record that survives. A new one begins with the earliest record of any of them. One
that was issued stays as it was issued: the survivor's, or where the survivor had none, a replaced
id's. Other timelines of the replaced ids are retired: out of `patients`, kept in `issued`. When a
merge is undone, each id has again what was issued to it, or a new one. So a recipient of two
releases may see the same events told from two zeros, and learn how far apart these are.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from deid.engine import bind, connect, fetch
from deid.identity import custody
from deid.identity.custody import (
    ENCOUNTERS,
    PATIENTS,
    Crosswalk,
    forget_former,
    open_crosswalk,
    revised,
    seal_crosswalk,
)
from deid.identity.orders import read_orders
from deid.identity.persons import (
    ENCOUNTERS_IN_FORCE,
    REPLACED,
    TIMELINES_IN_FORCE,
    bind_persons,
    followed,
)
from deid.identity.revision import NONE, draw_surrogates, remaining
from deid.rules import Rules
from exports.errors import FhirloomError
from exports.increments.links import patient_links
from exports.landing.zone import LandingZone, landed_zones
from exports.sealed import Sealed

VERSION: Final = custody.VERSION
OLDEST_AGE: Final = 90
"""Whole years; ages above 89 are one category (45 CFR 164.514(b)(2)(i)(C))."""
MOST_YEARS: Final = 150
"""Whole years; a higher age is an error in the birth date, and no age."""
AGREEING: Final = 11
"""Patients who must have a record that late before a folder without a time of export is taken to
reach that far: one mistyped year must not move everyone's observed window."""
EARLIEST: Final = "TIMESTAMP '0001-01-01'"
LATEST: Final = "TIMESTAMP '9999-01-01'"


def crosswalk(
    extracted: Sealed,
    landing: LandingZone,
    phi: Path,
    rules: Rules,
    *,
    left_out: frozenset[str] = frozenset(),
) -> Crosswalk:
    """The crosswalk that covers an extract: the present one, or the present one extended.

    In it is no longer whoever was removed, nor whom the landing leaves out by now (`left_out`, as
    an operator lists them). Raises `FhirloomError` (bad-input) where no record has a plausible
    date, and for a key that is missing or another one.
    """
    root, orders = phi / rules.policy.crosswalk, read_orders(phi).and_left_out(left_out)
    present = open_crosswalk(root)
    if (
        present is not None
        and present.obeys(orders)
        and present.sealed.inputs["extract"] == extracted.digest
    ):
        forget_former(root)
        return present
    # Who is left out by identifier is known by what was landed before.
    earlier = landed_zones(phi) if any("|" in listed for listed in orders.removed) else []
    before = revised(present, orders, [landing, *earlier])
    with connect() as connection:
        links = remaining(
            followed(connection, extracted, patient_links(landing)), before["removed"]
        )
        bind_persons(connection, extracted, rules, links, before["removed"])
        exported = _exported(connection, landing, rules)
        bind(
            connection,
            {
                "served": before["patients"],
                "issued": before["issued"],
                "issued_encounters": before["encounters"],
                "retired": before["retired"],
            },
        )
        tables = {**before, **extend(connection, rules, exported), "links": links}
    return seal_crosswalk(root, tables, exported, extracted.digest, present, orders)


def extend(
    connection: duckdb.DuckDBPyConnection, rules: Rules, exported: datetime
) -> dict[str, pa.Table]:
    """The crosswalk's tables; expects those of `bind_persons`, `served`, all that was issued and
    `retired`.
    """
    bind(
        connection,
        {
            "known_patients": fetch(connection, TIMELINES_IN_FORCE),
            "known_encounters": fetch(connection, ENCOUNTERS_IN_FORCE),
        },
    )
    taken = fetch(
        connection,
        "SELECT surrogate FROM issued UNION ALL SELECT surrogate FROM issued_encounters "
        "UNION ALL SELECT surrogate FROM retired",
    )
    assign(connection, rules, exported, taken["surrogate"].to_numpy())
    tables = {
        "patients": "FROM patients UNION ALL BY NAME "
        "SELECT p.* REPLACE (l.patient_id AS patient_id) FROM patients AS p "
        "JOIN links AS l ON p.patient_id = l.survivor",
        "issued": "SELECT p.* REPLACE (coalesce(i.patient_id, p.patient_id) AS patient_id) "
        "FROM patients AS p LEFT JOIN issued AS i USING (surrogate) "
        "UNION ALL BY NAME FROM issued ANTI JOIN patients USING (surrogate)",
        "encounters": "FROM issued_encounters "
        "UNION ALL BY NAME FROM encounters ANTI JOIN issued_encounters USING (surrogate)",
    }
    return {name: fetch(connection, f"FROM ({rows}) ORDER BY ALL") for name, rows in tables.items()}


TIMELINES: Final = f"""
SELECT patient_id, born AS birth, old,
    CASE WHEN old = 0 THEN {EARLIEST} ELSE born + to_years({OLDEST_AGE - 1} + old) END AS begins,
    coalesce(born + to_years({OLDEST_AGE} + old), {LATEST}) AS ends
FROM (
    SELECT patient_id,
    coalesce(min(p.birth) FILTER (p.dropped IS NULL), min(p.birth), min(k.birth)) AS born,
    least($1 - year(born) - {OLDEST_AGE - 2}, {MOST_YEARS - OLDEST_AGE}) AS many,
    unnest(range(greatest(coalesce(many, 1), 1)))::SMALLINT AS old
    FROM (FROM patient WHERE dropped IS NULL OR dropped = '{REPLACED}') AS p
    FULL JOIN known_patients AS k USING (patient_id) GROUP BY patient_id
)
"""
"""Every timeline that a patient can have: one, and the years from 90 on where the birth is known.

They go on to the one that begins in the year $1, of the export. They follow the newest birth date,
so that one's end is always the next one's beginning. Where the record that survives a merge has
none, a replaced one's does.
"""
UNPARTED: Final = f"SELECT * REPLACE ({LATEST} AS ends) FROM ({TIMELINES}) WHERE old = 0"
"""The timelines of a limited data set, which tells ages as they are: one for each patient."""


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
    # The observed window tells this day: it must not be that of somebody's record.
    return datetime.combine(latest.date().replace(day=1), datetime.min.time())


def assign(
    connection: duckdb.DuckDBPyConnection,
    rules: Rules,
    exported: datetime,
    taken: NDArray[np.int64] = NONE,
) -> None:
    """Make `patients` and `encounters`: known ones as they are, new ones with fresh surrogates.

    Expects the extract's tables, `known_patients` and `known_encounters`. A new timeline's zero is
    its first plausible record that was made when it happened: after birth, not after the export.
    New surrogates are none of `taken`.
    """
    anchors = " UNION ALL ".join(
        f"SELECT patient_id, time FROM {view.name} WHERE dropped IS NULL AND time IS NOT NULL"
        for view in rules.views
        if view.anchors
    )
    dated = rules.policy.dated
    timelines = UNPARTED if dated else TIMELINES
    zero = "TIMESTAMP '1970-01-01'" if dated else "min(time)"
    asked = timelines.replace("$1", str(exported.year))
    connection.execute(f"CREATE OR REPLACE TEMP TABLE timelines AS {asked}")
    patients = _extended(
        fetch(
            connection,
            "SELECT patient_id, t.birth, k.surrogate, k.zero, k.anchor_year, old, t.begins, t.ends "
            "FROM known_patients AS k JOIN timelines AS t USING (patient_id, old) "
            "ORDER BY patient_id, old",
        ),
        fetch(
            connection,
            f"SELECT patient_id, birth, 0::BIGINT AS surrogate, {zero} AS zero, "
            f"year({zero})::SMALLINT AS anchor_year, old, begins, ends "
            f"FROM timelines ANTI JOIN known_patients USING (patient_id, old) "
            f"JOIN ({anchors}) USING (patient_id) WHERE time >= begins AND time < ends "
            "AND time <= $1 AND (birth IS NULL OR time >= birth) "
            # A bare first of January is how a bare year is often written.
            "AND NOT (dayofyear(time) = 1 AND time = date_trunc('day', time)) "
            "GROUP BY ALL ORDER BY patient_id, old",
            exported,
        ).cast(PATIENTS),
        taken,
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
        taken,
    )
    bind(connection, {"encounters": encounters})


def _extended(known: pa.Table, fresh: pa.Table, taken: NDArray[np.int64]) -> pa.Table:
    numbers = draw_surrogates(len(fresh), taken)
    column = fresh.schema.get_field_index("surrogate")
    numbered = fresh.set_column(column, "surrogate", [numbers])
    return pa.concat_tables([known.cast(fresh.schema), numbered])
