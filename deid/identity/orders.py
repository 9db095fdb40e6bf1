"""What was ordered of the crosswalk: who is removed, and how often all surrogates were renewed.

Orders are noted first, in ledgers below `phi/`, and then carried out: at once by the command, or,
where that was cut short, by the next de-identification. Both come to the same.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import orjson

from deid.identity.ledger import entries, note
from exports.increments.versions import good_lines
from exports.landing.screening import Exclusion, Screen, closed_over
from exports.landing.zone import LandingZone
from exports.sealed import hash_json

REMOVED: Final = Path("removed", "removed.ndjson")
ROTATED: Final = Path("removed", "rotated.ndjson")


@dataclass(frozen=True)
class Orders:
    """Ids of removed patients (logical, or `system|value`), and the number of rotations.

    All that is made by these orders depends on `digest`, in which is nobody's id, and on
    `left_out`: the hash of the list of those whom the landing leaves out, "" for none.
    """

    removed: frozenset[str] = field(repr=False)
    rotations: int
    digest: str
    left_out: str = ""

    def and_left_out(self, patients: frozenset[str]) -> Orders:
        """The orders, and those who are left out of the landing by now, for as long as they are."""
        if not patients:
            return self
        return replace(self, removed=self.removed | patients, left_out=hash_json(sorted(patients)))


def read_orders(phi: Path) -> Orders:
    """All that was ordered so far."""
    removals, rotations = entries(phi / REMOVED), entries(phi / ROTATED)
    return Orders(
        frozenset(listed for entry in removals for listed in entry["ids"]),
        len(rotations),
        hash_json([entry["entry"] for entry in (*removals, *rotations)]),
    )


def order_removal(phi: Path, ids: Collection[str], reason: str, *, at_landing: bool) -> bool:
    """Note that patients are removed; False where nothing of it is new.

    With `at_landing` they are to be left out of later landings too.
    """
    known, landed = read_orders(phi).removed, removed_at_landing(phi)
    if known.issuperset(ids) and (not at_landing or landed.issuperset(ids)):
        return False
    note(phi / REMOVED, reason, ids=sorted(ids), at_landing=at_landing)
    return True


def removed_at_landing(phi: Path) -> frozenset[str]:
    """The removed patients who are not even to be landed, as they were noted."""
    noted = entries(phi / REMOVED)
    return frozenset(listed for entry in noted if entry["at_landing"] for listed in entry["ids"])


def order_rotation(phi: Path, reason: str) -> None:
    """Note that all surrogates are to be renewed once more."""
    note(phi / ROTATED, reason)


def all_ids_of(
    patients: Collection[str], landings: Iterable[LandingZone], links: Mapping[str, str]
) -> frozenset[str]:
    """Every logical id that is the same person's as one of these: no one is half removed.

    They are found by identifier and by `Patient.link` as `exports.landing.screening` finds whom to
    leave out of a landing, and by `links`, replaced id to surviving id.
    """
    if not patients:
        return frozenset()
    screen = Screen(test_patients=False, opted_out=frozenset(patients))
    found: dict[str, Exclusion] = {}
    for landing in landings:
        found = screen.excluded_patients(_patients(landing), known=found)
    found |= {listed: "opted-out" for listed in patients if "|" not in listed}
    both_ways: defaultdict[str, set[str]] = defaultdict(set)
    for replaced, survivor in links.items():
        both_ways[replaced].add(survivor)
        both_ways[survivor].add(replaced)
    return frozenset(closed_over(found, both_ways))


def identifiers_found(patients: Collection[str], landings: Iterable[LandingZone]) -> set[str]:
    """Those among `system|value` identifiers that a landed Patient has."""
    wanted = {listed for listed in patients if "|" in listed}
    found: set[str] = set()
    for line in (line for landing in landings for line in _patients(landing) if wanted):
        told = orjson.loads(line).get("identifier")
        written = told if isinstance(told, list) else [told]
        found |= wanted & {
            f"{entry.get('system', '')}|{entry.get('value')}"
            for entry in written
            if isinstance(entry, dict)
        }
    return found


def _patients(landing: LandingZone) -> Iterator[bytes]:
    for path in landing.paths("Patient"):
        for _, _, line in good_lines(path):
            yield line
