"""Re-identification: whom a surrogate stands for, inside `phi/` alone, for a reason that is noted.

Who asked, when, why and for which surrogates stands in `phi/logs/reidentify.ndjson` before anything
is looked up. A surrogate that was rotated away is found; that of a removed patient leads to nobody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import orjson

from deid.engine import bind, connect, fetch
from deid.identity.custody import TABLES, present_crosswalks
from deid.identity.ledger import note
from exports.durable import write_durably

LEDGER: Final = Path("logs", "reidentify.ndjson")
FOLDER: Final = "reidentified"

FOUND: Final = """
SELECT asked.surrogate, 'patient' AS kind, 'in force' AS state,
    list(DISTINCT patient_id ORDER BY patient_id) AS patient_ids, NULL AS encounter_id,
    any_value(zero) AS zero
FROM asked JOIN (FROM patients UNION ALL BY NAME FROM issued SEMI JOIN patients USING (surrogate))
USING (surrogate) GROUP BY asked.surrogate
UNION ALL BY NAME
SELECT surrogate, 'patient' AS kind, 'replaced by a merge' AS state, [patient_id] AS patient_ids,
    zero
FROM asked JOIN issued USING (surrogate) ANTI JOIN patients USING (surrogate)
UNION ALL BY NAME
SELECT surrogate, 'encounter' AS kind, 'in force' AS state, [patient_id] AS patient_ids,
    encounter_id
FROM asked JOIN encounters USING (surrogate)
UNION ALL BY NAME
SELECT surrogate, CASE WHEN encounter_id IS NULL THEN 'patient' ELSE 'encounter' END AS kind,
    'rotated away' AS state, [patient_id] AS patient_ids, encounter_id, zero
FROM asked JOIN retired USING (surrogate) WHERE patient_id IS NOT NULL
"""


@dataclass(frozen=True)
class Lookup:
    """Where the answer lies, and for how many of the surrogates there was one."""

    path: Path
    found: int
    unknown: int


def reidentify(
    phi: Path,
    surrogates: Sequence[int],
    reason: str,
    *,
    out: Path | None = None,
    time: int | None = None,
) -> Lookup:
    """Write whom these surrogates stand for, as JSON, to `out` or a new file of `phi/`.

    With `time`, seconds from a patient's zero, also the moment by the facility's clock. Raises
    `FhirloomError` (bad-input) without a reason, and where a crosswalk does not open.
    """
    walks = present_crosswalks(phi)
    asked = sorted(set(surrogates))
    note(phi / LEDGER, reason, surrogates=asked, count=len(asked), time=time)
    found: list[dict[str, Any]] = []
    for walk in walks:
        with connect() as connection:
            bind(connection, {name: walk.read(name) for name in TABLES})
            connection.execute("CREATE TEMP TABLE asked AS SELECT unnest($1) AS surrogate", [asked])
            found += fetch(connection, f"FROM ({FOUND}) ORDER BY ALL").to_pylist()
    for row in found:
        zero = row["zero"]
        row["moment"] = None if None in (zero, time) else zero + timedelta(seconds=time or 0)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S%f")
    path = out or phi / FOLDER / f"{stamp}.json"
    known = {row["surrogate"] for row in found}
    unknown = [each for each in asked if each not in known]
    told = {"reason": reason, "found": found, "unknown": unknown}
    write_durably(path, orjson.dumps(told, option=orjson.OPT_INDENT_2))
    return Lookup(path, len(known), len(unknown))
