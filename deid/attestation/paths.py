"""Every element path that was delivered: how many resources had it, and which view reads it.

A path leads to a value: `name.given`, whichever element of a repeating one. It is counted from the
landing zone's bytes, by an engine that knows nothing of the views. Members that FHIR R4 does not
have are counted under one name for all of them: their own names may be anything, even a person's.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import duckdb

from deid.attestation.views_read import readings
from deid.engine import connect, fetch
from deid.rules import Rules
from deid.sql_on_fhir.compiler import LONGEST_LINE, text
from exports.landing.delivery import file_chunks
from exports.landing.ndjson import load, read_lines, unpack
from exports.landing.zone import LandingZone
from exports.progress import Progress, silent

UNKNOWN: Final = "(not an element of FHIR R4)"
DEEPER: Final = "(deeper)"
DEEPEST: Final = 12
"""Names on a path; FHIR's own lie far above, and contained resources and extensions may nest."""
ELEMENTS: Final = Path(__file__).parent / "element_names.json"


def path_facts(
    landing: LandingZone, rules: Rules, *, spill: Path, progress: Progress = silent
) -> list[dict[str, Any]]:
    """For each type and path: `resources` that had it, and `read_by`, empty where it was dropped.

    `spill` is a folder of the PHI zone. Every version of a resource counts, as it was landed.
    """
    read = readings(rules)
    spill.mkdir(mode=0o700, parents=True, exist_ok=True)
    kinds = sorted(landing.rows())
    facts = []
    with connect(spill) as connection:
        for done, kind in enumerate(kinds):
            progress(done, len(kinds), "types")
            for path, resources in sorted(_counted(connection, landing, kind).items()):
                by = [each.facts() for each in read if each.reads(kind, path)]
                facts.append({"type": kind, "path": path, "resources": resources, "read_by": by})
    shutil.rmtree(spill)
    progress(len(kinds), len(kinds), "types")
    return facts


def _counted(
    connection: duckdb.DuckDBPyConnection, landing: LandingZone, kind: str
) -> Counter[str]:
    """Resources of a type by path."""
    listed = ", ".join(text(str(path)) for path in landing.paths(kind))
    counted: Counter[str] = Counter()
    if not listed:
        return counted
    try:
        shapes = fetch(
            connection,
            "SELECT json_structure(json)::VARCHAR AS shape, count(*) AS resources FROM "
            f"read_ndjson_objects([{listed}], maximum_object_size = {LONGEST_LINE}) GROUP BY ALL",
        )
    except duckdb.Error:  # a line that nests more deeply than DuckDB follows
        for file in landing.paths(kind):
            for _, _, line in read_lines(unpack(file_chunks(file))):
                counted.update(set(_leaves(load(line))) if line.strip() else ())
        return counted
    for batch in shapes.to_batches():
        for row in batch.to_pylist():
            for path in set(_leaves(json.loads(row["shape"]))):
                counted[path] += row["resources"]
    return counted


def _leaves(shape: Any, names: tuple[str, ...] = ()) -> Iterator[str]:
    """The paths to values in a resource, or in what `json_structure` makes of one."""
    match shape:
        case "NULL" | None:
            return
        case list():
            waiting = [shape]
            while waiting:  # lists may nest without end, and without a name
                for item in waiting.pop():
                    if isinstance(item, list):
                        waiting.append(item)
                    else:
                        yield from _leaves(item, names)
        case Mapping() if names and (names[-1] == UNKNOWN or len(names) == DEEPEST):
            yield ".".join((*names, DEEPER)) if names[-1] != UNKNOWN else ".".join(names)
        case Mapping():
            for member, below in shape.items():
                if member != "resourceType":
                    yield from _leaves(below, (*names, _named(member)))
        case _:
            yield ".".join(names)


def _named(member: str) -> str:
    """The member's name, where FHIR R4 has it; `_birthDate` is what stands beside `birthDate`."""
    return member if member.removeprefix("_") in _elements() else UNKNOWN


@cache
def _elements() -> frozenset[str]:
    return frozenset(json.loads(ELEMENTS.read_text())["names"])
