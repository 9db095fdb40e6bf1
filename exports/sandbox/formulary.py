"""The hospital's Medication resources, and orders that refer to one instead of naming the drug."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any, Final

from exports.sandbox.catalog import Medication, catalog
from exports.sandbox.clock import instant
from exports.sandbox.elements import RXNORM, US_CORE, Resource, concept, new_id
from exports.sandbox.filing import Filing
from exports.sandbox.staff import OPENED

REFERRED: Final = 0.08
"""Of what names a medication: by reference to a Medication resource."""
CONTAINED: Final = 0.04
"""Of the same: by reference to a Medication that is contained."""


@cache
def formulary(seed: int) -> dict[str, Resource]:
    """The Medication resources of the hospital that a seed makes, by RxNorm code."""
    rng = Random(f"{seed}:formulary")  # noqa: S311 - synthetic data, not secrets
    return {drug.rxnorm: _medication(rng, drug) for drug in catalog().drugs}


def name_medication(filing: Filing, shelf: dict[str, Resource], drug: Medication) -> Resource:
    """`medication[x]` of a drug, with what is contained for it."""
    draw = filing.rng.random()
    if draw < REFERRED:
        told = filing.refer("Medication", shelf[drug.rxnorm]["id"], drug.display)
        return {"medicationReference": told}
    if draw < REFERRED + CONTAINED:
        held = {"resourceType": "Medication", "id": "med1", "code": _code(drug)}
        return {"contained": [held], "medicationReference": {"reference": "#med1"}}
    return {"medicationCodeableConcept": _code(drug)}


def refer_orders(filing: Filing, shelf: dict[str, Resource], orders: list[Resource]) -> None:
    """Let some MedicationRequests, in place, refer to their medication."""
    for order in orders:
        coding = order["medicationCodeableConcept"]["coding"][0]
        named = name_medication(filing, shelf, Medication(coding["code"], coding["display"]))
        if "medicationReference" in named:
            del order["medicationCodeableConcept"]
            order.update(named)


def medication_of(order: Resource) -> dict[str, Any]:
    """What an order says of its medication, for whatever follows from it."""
    told = ("contained", "medicationReference", "medicationCodeableConcept")
    return {name: order[name] for name in told if name in order}


def _medication(rng: Random, drug: Medication) -> Resource:
    return {
        "resourceType": "Medication",
        "id": new_id(rng),
        "meta": {"lastUpdated": instant(OPENED), "profile": [US_CORE + "us-core-medication"]},
        "code": _code(drug),
        "status": "active",
    }


def _code(drug: Medication) -> Resource:
    return concept(RXNORM, drug.rxnorm, drug.display)
