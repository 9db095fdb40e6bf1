"""Removing patients: from all that is made from now on, and on request from what was made before.

The order is noted first; then the crosswalk forgets them, and their surrogates lead to nobody; then
sealed folders that still hold them are found, and removed where that was asked for. Cut short
anywhere, the same call goes on from there. What arrives of them later is dropped, and counted as
such (`deid.identity.persons`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from deid.identity.custody import carry_out, ids_in, present_crosswalks
from deid.identity.holders import find_holders, purge
from deid.identity.orders import all_ids_of, identifiers_found, order_removal
from exports.landing.zone import landed_zones


@dataclass(frozen=True)
class Removal:
    """What became of it; names of folders and counts, no patient's id.

    `ordered` are the ids of an order that is a new one, all of their persons' included; `unknown`
    counts those given that neither a crosswalk nor a landed Patient knows; `removed` are the ids of
    all that were ever removed. `holding` are sealed folders that hold rows of removed
    patients, `purged` says whether they were taken away; `made_from` were made from such folders,
    and stay.
    """

    ordered: int
    unknown: int
    removed: int
    holding: tuple[str, ...]
    made_from: tuple[str, ...]
    purged: bool


def remove_patients(
    work: Path,
    patients: Collection[str],
    reason: str,
    *,
    purged: bool = False,
    at_landing: bool = False,
) -> Removal:
    """Remove patients, given by any of their ids as delivered or as `system|value`.

    With `purged`, what still holds anybody who was ever removed is taken away; with `at_landing`,
    later landings leave these patients out. Raises `FhirloomError` (bad-input) for a crosswalk that
    does not open, and where no reason is given.
    """
    phi = work / "phi"
    walks = present_crosswalks(phi)
    known = ids_in(walks, "issued", "patients", "removed")
    merged = {
        link["patient_id"]: link["survivor"]
        for walk in walks
        for link in walk.read("links").to_pylist()
    }
    landings = landed_zones(phi)
    known |= identifiers_found(patients, landings)
    persons = all_ids_of(patients, landings, merged)
    ordered = order_removal(phi, persons | set(patients), reason, at_landing=at_landing)
    carry_out(phi)
    holders = find_holders(work)
    if purged:
        purge(work, holders.holding)
    return Removal(
        len(persons) if ordered else 0,
        len(set(patients) - known),
        len(ids_in(present_crosswalks(phi), "removed")),
        holders.holding,
        holders.made_from,
        purged,
    )
