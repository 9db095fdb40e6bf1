"""Some patients of a landing zone with their resources, for the metamorphic proof."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from deid.proofs.examples import Resource, referred
from deid.proofs.landing_sample import sampled
from deid.proofs.rewriting import moments
from deid.proofs.shifts import settled
from deid.rules import Rules
from exports.increments.links import PATIENT, linked
from exports.increments.versions import instant
from exports.landing.zone import LandingZone

PATIENTS: Final = 40
RESOURCES: Final = 40
"""Resources of one type that are taken of one patient."""
LINES: Final = 5000
BYTES: Final = 3 << 20
"""Of each type; bytes as they are unpacked."""
STILL: Final = 4
"""One patient in so many keeps its dates, and the dates that can't be moved with them."""


@dataclass
class Patients:
    """Resources by patient; `still` are those whose dates don't move.

    `shared` are resources of no patient, to which others refer. `left_out` counts resources with a
    date that can't be moved by days, and versions between which chance would decide.
    """

    resources: dict[str, list[Resource]] = field(default_factory=dict)
    shared: list[Resource] = field(default_factory=list)
    still: set[str] = field(default_factory=set)
    left_out: int = 0


def whole_patients(landing: LandingZone, rules: Rules, seed: str) -> Patients:
    """Up to `PATIENTS` of those with the most kinds of resources; among equals the seed decides.

    Merged patients are passed over: their dates would have to move together.
    """
    found = Patients()
    kinds = sorted({view.view.resource for view in rules.views})
    lines = {kind: _read(landing, kind) for kind in kinds}
    owned = _owned(lines, frozenset(k for k, v in referred(rules).items() if v == "Patient"))
    rank = {
        patient: (-len({item["resourceType"] for item in items}), _order(seed, patient))
        for patient, items in owned.items()
    }
    for place, patient in enumerate(sorted(rank, key=lambda key: rank[key])[:PATIENTS]):
        moving = place % STILL > 0 and not rules.policy.dated
        kept = _kept(owned[patient], moving=moving)
        found.resources[patient] = kept
        found.left_out += len(owned[patient]) - len(kept)
        if not moving:
            found.still.add(patient)
    for view in rules.auxiliary:
        found.shared += _kept(_read(landing, view.view.resource), moving=False)
    return found


def _read(landing: LandingZone, kind: str) -> list[Resource]:
    return sampled(landing, kind, most_lines=LINES, most_bytes=BYTES)


def _order(seed: str, patient: str) -> str:
    return hashlib.sha256(f"{seed}\0{patient}".encode()).hexdigest()


def _owned(
    lines: Mapping[str, Sequence[Resource]], names: frozenset[str]
) -> dict[str, list[Resource]]:
    """The resources of each patient who is there and was not merged, so many of each type."""
    merged: set[str] = set()
    owned: dict[str, list[Resource]] = {}
    for patient in lines.get("Patient", ()):
        said = linked(patient.get("active"), patient.get("link"))
        if others := said.replaces | said.replaced_by:
            merged |= others | {patient["id"]}
        owned.setdefault(patient["id"], []).append(patient)
    for kind, resources in lines.items():
        taken: defaultdict[str, int] = defaultdict(int)
        for resource in resources if kind != "Patient" else ():
            whose = _subject(resource, names)
            taken[whose] += 1
            if whose in owned and taken[whose] <= RESOURCES:
                owned[whose].append(resource)
    return {patient: items for patient, items in owned.items() if patient not in merged}


def _subject(resource: Resource, names: frozenset[str]) -> str:
    for name in names:
        value: Any = resource.get(name)
        reference = value.get("reference") if isinstance(value, dict) else None
        if isinstance(reference, str):
            if reference.startswith("urn:uuid:"):
                return reference.removeprefix("urn:uuid:")
            if pointed := PATIENT.search(reference):
                return pointed[1]
    return ""


def _kept(resources: Sequence[Resource], *, moving: bool) -> list[Resource]:
    """Those that a rewriting may keep, each version of one instant once."""
    versions: dict[tuple[str, str, str], Resource] = {}
    kept: list[Resource] = []
    for resource in resources:
        kind = resource["resourceType"]
        meta = resource.get("meta")
        written = meta.get("lastUpdated") if isinstance(meta, dict) else None
        when = instant(written) if isinstance(written, str) else ""
        standing = versions.setdefault((kind, resource["id"], when), resource)
        if standing == resource and (not moving or all(map(settled, moments(kind, resource)))):
            kept.append(resource)
    return kept
