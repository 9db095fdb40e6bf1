"""Patients who were merged: who is found under whose id by now.

Source: FHIR R4, Patient.link. `replaced-by` stands in the record that is used no longer,
`replaces` in the one that survives; servers write either or both. Only the newest version of a
patient speaks, so a merge that was undone is gone as soon as its link is.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from exports.increments.versions import Version, good_lines, place
from exports.landing.ndjson import decoded
from exports.landing.zone import LandingZone
from exports.references import key, pattern, referenced

PATIENT: Final = re.compile(pattern("Patient"))
"""A reference to a patient: relative, absolute, of one version, or by its UUID alone."""


@dataclass(frozen=True)
class Linked:
    """What one version of a patient says of merges: ids of patients; `active` None if not told."""

    active: bool | None = None
    replaced_by: frozenset[str] = frozenset()
    replaces: frozenset[str] = frozenset()


class _Patient(msgspec.Struct):
    id: str
    active: Any = None
    link: Any = None


_read_patient: Final = msgspec.json.Decoder(_Patient)


def patient_links(zone: LandingZone) -> dict[str, str]:
    """For each patient who was merged into another, the id that survives.

    Chains are followed to their end, so no value is a key; who survives need not be in the zone.
    Memory grows with the patients who take part in a merge, not with all.
    """
    involved: set[str] = set()
    for patient_id, said, _ in _versions(zone):
        if named := said.replaced_by | said.replaces:
            involved |= named | {patient_id}
    if not involved:
        return {}
    newest: dict[str, tuple[Version, Linked]] = {}
    for patient_id, said, line in _versions(zone):
        if patient_id in involved:
            version = place(line)[2]
            if patient_id not in newest or newest[patient_id][0] < version:
                newest[patient_id] = version, said
    return survivors({patient_id: said for patient_id, (_, said) in newest.items()})


def survivors(patients: Mapping[str, Linked]) -> dict[str, str]:
    """Who survives, by who does not, from what the newest version of each patient says.

    The word of the record that is used no longer goes first; a record that calls itself active is
    not replaced because another says so. Where several would survive, or the links run in a
    circle, it is one that isn't called inactive, and of these the one with the least id.
    """
    replacing: defaultdict[str, set[str]] = defaultdict(set)
    for patient_id, said in patients.items():
        for replaced in said.replaces:
            if patients.get(replaced, Linked()).active is not True:
                replacing[replaced].add(patient_id)
    for patient_id, said in patients.items():
        if said.replaced_by:
            replacing[patient_id] = set(said.replaced_by)

    def preference(patient_id: str) -> tuple[bool, str]:
        return patients.get(patient_id, Linked()).active is False, patient_id

    successor = {
        patient_id: min(others, key=preference)
        for patient_id, named in replacing.items()
        if (others := named - {patient_id})
    }
    ends = {patient_id: _end(patient_id, successor, preference) for patient_id in successor}
    return {patient_id: end for patient_id, end in sorted(ends.items()) if patient_id != end}


def linked(active: object, link: object) -> Linked:
    """What a patient's elements `active` and `link`, whatever they hold, say of merges."""
    links = link if isinstance(link, list) else []
    return Linked(
        active if isinstance(active, bool) else None,
        _named(links, "replaced-by"),
        _named(links, "replaces"),
    )


def _end(
    patient_id: str,
    successor: Mapping[str, str],
    preference: Callable[[str], tuple[bool, str]],
) -> str:
    passed = [patient_id]
    while (following := successor.get(passed[-1])) is not None:
        if following in passed:
            circle = passed[passed.index(following) :]
            return min(circle, key=preference)
        passed.append(following)
    return passed[-1]


def _versions(zone: LandingZone) -> Iterator[tuple[str, Linked, bytes]]:
    for path in zone.paths("Patient"):
        for _, _, line in good_lines(path):
            read = decoded(_read_patient, line)
            yield key(read.id), linked(read.active, read.link), line


def _named(links: Collection[Any], how: str) -> frozenset[str]:
    """The ids of patients to whom links of one type point, in whatever form the reference is."""
    pointed = [
        link.get("other") for link in links if isinstance(link, dict) and link.get("type") == how
    ]
    references = [other.get("reference") for other in pointed if isinstance(other, dict)]
    return frozenset(filter(None, (referenced(written, "Patient") for written in references)))
