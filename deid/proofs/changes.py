"""Changes that must be seen in the output: the metamorphic proof's negative controls.

Each is made to one resource of one patient, whose row holds what is changed. A value, its unit, a
code, a moment: one of each for every view that has them, as far as there are patients; and one
resource that is taken away.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa

from deid.extract import RARE
from deid.proofs.examples import Resource
from deid.proofs.leaves import places
from deid.proofs.rewriting import shifted
from deid.rules import ResearchView, Rules

KINDS: Final = ("resource", "value", "unit", "code", "moment")
UNKNOWN: Final = "{unknown}"
"""No code of any vocabulary, and no unit."""


@dataclass(frozen=True)
class Change:
    """What is changed: `resource` becomes `changed`, or where that is None goes."""

    kind: str
    patient: str
    resource: Resource
    changed: Resource | None


def changes(
    patients: Mapping[str, list[Resource]], rows: Mapping[str, pa.Table], rules: Rules
) -> list[Change]:
    """At most one for each patient; `rows` are those of a rehearsal, each with its resource."""
    owners: dict[tuple[str, str], list[tuple[str, Resource]]] = {}
    for patient, resources in patients.items():
        for resource in resources:
            key = (resource["resourceType"], resource["id"])
            versions = owners.setdefault(key, [])
            if (patient, resource) not in versions:
                versions.append((patient, resource))
    planted: dict[str, Change] = {}
    for kind in KINDS:
        for view in rules.views:
            for row in _candidates(kind, view, rows[view.name]):
                versions = owners.get((view.view.resource, row["id"]), [])
                if len(versions) != 1 or versions[0][0] in planted:
                    continue
                patient, resource = versions[0]
                changed = None if kind == "resource" else _changed(kind, resource, row, view)
                if kind == "resource" or changed != resource:
                    planted[patient] = Change(kind, patient, resource, changed)
                    break
    return list(planted.values())


def _candidates(kind: str, view: ResearchView, rows: pa.Table) -> Iterator[dict[str, Any]]:
    """Kept rows that hold what is to be changed, in the order of their resources."""
    kept = [row for row in rows.to_pylist() if row.pop("dropped") is None]
    alike = Counter(repr({**row, "id": ""}) for row in kept)
    for row in sorted(kept, key=lambda row: str(row["id"])):
        there = {
            "resource": view.timed,
            "value": _has(view, "number", row),
            "unit": _has(view, "unit", row),
            "code": _has(view, "code", row),
            # The earliest moment is the zero: it would take the others along.
            "moment": (row.get("time") or 0) > 0,
        }
        if there[kind] and alike[repr({**row, "id": ""})] == 1:
            yield row


def _has(view: ResearchView, kind: str, row: Mapping[str, Any]) -> bool:
    columns = view.of(kind)
    return bool(columns) and row[columns[0].name] not in (None, RARE)


def _changed(kind: str, resource: Resource, row: Mapping[str, Any], view: ResearchView) -> Resource:
    """A copy with that changed wherever it stands, so that no other coding tells it still."""
    made = copy.deepcopy(resource)
    for place in list(places(made)):
        item = place.value
        if not isinstance(item, dict) or place.steps[:1] == ("meta",):
            continue
        measure = isinstance(item.get("value"), int | float)
        match kind:
            case "value" if measure:
                item["value"] = item["value"] * 1.01 + 0.01
            case "unit" if measure:
                item |= {key: UNKNOWN for key in ("code", "unit") if key in item}
            case "code" if _same_code(item.get("code"), row[view.code.name]):
                item["code"] = UNKNOWN
            case "moment":
                item |= {
                    key: shifted(value, 1)
                    for key, value in item.items()
                    if isinstance(value, str) and shifted(value, 1) != value
                }
    return made


def _same_code(code: Any, word: str) -> bool:
    written = word.partition(":")[2].replace(".", "")
    return isinstance(code, str) and code.replace(".", "").upper() == written.upper()
