"""Where the rows of each landed file went: read = out + dropped + set apart, file by file.

What is counted here is resources. One that stands in the landing zone more than once counts once
as what became of it, in the file that had the version which counts, and else as a duplicate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import duckdb

from deid.engine import fetch
from deid.quarantine import REASON
from deid.rules import Rules
from deid.sql_on_fhir.compiler import text
from exports.errors import FhirloomError
from exports.landing.zone import LandedFile, LandingZone

DUPLICATE: Final = "duplicate or superseded version"


def landed(landing: LandingZone, resource_type: str) -> list[LandedFile]:
    """The files that have resources of a type, in the order of `LandingZone.paths`."""
    return [file for file in landing.files if file.type == resource_type and file.rows]


def balance(
    connection: duckdb.DuckDBPyConnection,
    extracted: Path,
    files: Sequence[LandedFile],
    apart: Mapping[int, int],
) -> list[tuple[LandedFile, dict[str, Any]]]:
    """Each file that a view read: `rows`, `out`, `dropped` and `quarantined` (by reason).

    `apart` counts the lines that were set apart, by the file's place. Raises `FhirloomError`
    (incomplete) where more came out of a file than stands in it.
    """
    counted: dict[int, dict[str, int]] = {}
    for row in fetch(connection, _OUTCOMES.format(rows=text(str(extracted)))).to_pylist():
        counted.setdefault(row["file"], {})[row["outcome"]] = row["resources"]
    return [
        (file, _balanced(file, counted.get(place, {}), apart.get(place, 0)))
        for place, file in enumerate(files)
    ]


_OUTCOMES: Final = """
SELECT file, outcome, count(*) AS resources FROM (
    SELECT file, id, CASE WHEN bool_or(dropped IS NULL) THEN '' ELSE min(dropped) END AS outcome
    FROM read_parquet({rows}) GROUP BY file, id
) GROUP BY ALL ORDER BY ALL
"""


def _balanced(file: LandedFile, outcomes: Mapping[str, int], apart: int) -> dict[str, Any]:
    dropped = {reason: resources for reason, resources in outcomes.items() if reason}
    repeats = file.rows - apart - sum(outcomes.values())
    if repeats < 0:
        raise FhirloomError(
            "incomplete",
            "More resources came out of a landed file than stand in it",
            where=f"a file of {file.type}",
            fix="Land the export again: its files were changed after they had been counted.",
        )
    return {
        "rows": file.rows,
        "out": outcomes.get("", 0),
        "dropped": dropped | ({DUPLICATE: repeats} if repeats else {}),
        "quarantined": {REASON: apart} if apart else {},
    }


def unread(landing: LandingZone, rules: Rules) -> Iterator[tuple[LandedFile, dict[str, Any]]]:
    """The balance of the files that no view reads: landed, and dropped as a whole."""
    read = {view.view.resource for view in (*rules.views, *rules.auxiliary)}
    for file in landing.files:
        if file.rows and file.type not in read:
            yield file, _balanced(file, {f"no view of {file.type}": file.rows}, 0)


def totals(files: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The balance of several files together."""
    total: dict[str, Any] = {"rows": 0, "out": 0, "dropped": {}, "quarantined": {}}
    for file in files:
        total["rows"] += file["rows"]
        total["out"] += file["out"]
        for fate in ("dropped", "quarantined"):
            for reason, resources in file[fate].items():
                total[fate][reason] = total[fate].get(reason, 0) + resources
    return total
