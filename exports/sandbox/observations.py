"""Observations: vital signs and laboratory results, as devices and laboratories file them."""

from __future__ import annotations

from random import Random
from typing import Final

from exports.sandbox.catalog import Measure, catalog
from exports.sandbox.clock import MINUTE, local
from exports.sandbox.course import Reading
from exports.sandbox.disease import DIASTOLIC, SYSTOLIC
from exports.sandbox.elements import LOINC, TERMINOLOGY, Resource, concept, new_id, quantity

WEIGHT: Final = "29463-7"
CATEGORIES: Final = {
    name: [concept(TERMINOLOGY + "observation-category", name)]
    for name in ("vital-signs", "laboratory")
}


def observations(
    rng: Random, reading: Reading, *, height: float | None
) -> list[tuple[int, Resource]]:
    """The Observations of one reading, each with the moment it was issued.

    With a `height` in cm, height and body mass index (from the weight) are filed too. The
    resources lack `meta`, `subject` and `encounter`.
    """
    filed = []
    for loinc, value in reading.values.items():
        if loinc == DIASTOLIC:
            continue
        measure = catalog().measures[loinc]
        if loinc == SYSTOLIC:
            filed.append(_file(rng, reading.at, _blood_pressure(value, reading.values[DIASTOLIC])))
        else:
            filed.append(_file(rng, reading.at, _single(measure, value)))
    if height is not None and WEIGHT in reading.values:
        index = round(reading.values[WEIGHT] / (height / 100) ** 2, 1)
        filed.append(_file(rng, reading.at, _vital("8302-2", "Body height", height, "cm")))
        filed.append(_file(rng, reading.at, _vital("39156-5", "Body mass index", index, "kg/m2")))
    return filed


def _file(rng: Random, at: int, content: Resource) -> tuple[int, Resource]:
    laboratory = content["category"] is CATEGORIES["laboratory"]
    effective = at + rng.randrange(0, 10) * MINUTE
    issued = effective + rng.randrange(*((25, 170) if laboratory else (0, 6))) * MINUTE
    resource = {
        "resourceType": "Observation",
        "id": new_id(rng),
        "status": "final",
        **content,
        "effectiveDateTime": local(effective),
        "issued": local(issued),
    }
    return issued, resource


def _single(measure: Measure, value: float) -> Resource:
    result = quantity(value, measure.unit)
    if measure.floor is not None and value < measure.floor:
        result = {**quantity(measure.floor, measure.unit), "comparator": "<"}
    return {
        "category": CATEGORIES[measure.category],
        "code": concept(LOINC, measure.loinc, measure.display),
        "valueQuantity": result,
    }


def _vital(loinc: str, display: str, value: float, unit: str) -> Resource:
    return {
        "category": CATEGORIES["vital-signs"],
        "code": concept(LOINC, loinc, display),
        "valueQuantity": quantity(value, unit),
    }


def _blood_pressure(systolic: float, diastolic: float) -> Resource:
    measures = catalog().measures
    return {
        "category": CATEGORIES["vital-signs"],
        "code": concept(LOINC, "85354-9", "Blood pressure panel with all children optional"),
        "component": [
            {
                "code": concept(LOINC, loinc, measures[loinc].display),
                "valueQuantity": quantity(value, measures[loinc].unit),
            }
            for loinc, value in ((SYSTOLIC, systolic), (DIASTOLIC, diastolic))
        ],
    }
