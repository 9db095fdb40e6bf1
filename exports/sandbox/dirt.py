"""What makes the chart as dirty as real data: one table of rates, one function for each kind.

The true risks stay right: the Encounters of real stays are neither dropped, moved nor voided.
Voided (entered-in-error) resources are extra ones that never happened.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random
from typing import Any, Final, cast

import orjson

from exports.sandbox.catalog import catalog
from exports.sandbox.clock import HOUR, instant
from exports.sandbox.elements import BASE, TERMINOLOGY, Resource, concept, new_id
from exports.sandbox.encounters import encounter_identifiers
from exports.sandbox.people import Person
from exports.sandbox.truth import PlantedIdentifier

RATES: Final = {
    "other unit": 0.08,  # of Observations whose measure is also reported in another unit
    "entered in error": 0.008,  # extra Observations, Conditions and Encounters, voided
    "repeated": 0.005,  # of resources: the same bytes again, in the same file
    "repeated late": 0.004,  # the same bytes again, in a later file
    "older version": 0.005,  # of resources: an earlier state of the same id as well
    "absolute reference": 0.02,  # of resources: patient and encounter by URL
    "partial onset": 0.10,  # of Conditions with a full onset: the month or the year is left
    "date-only record": 0.05,  # of Conditions: the day they were recorded, without the time
    "unrecorded": 0.01,  # of Conditions: no recordedDate at all
    "verbal note": 0.01,  # of Observations, Conditions, Patients: an extension that names someone
}
NOTED: Final = frozenset({"Observation", "Condition", "Patient"})
VOIDED: Final = frozenset({"Observation", "Condition", "Encounter"})
REFERRING: Final = frozenset({"subject", "encounter", "patient", "context", "beneficiary"})
RELATIVE: Final = re.compile(r"[A-Z][A-Za-z]+/")
VERBAL_NOTE: Final = "https://ehr.example.org/fhir/StructureDefinition/verbal-note"


@dataclass
class Soiled:
    """The dirty chart: `late` copies go into a later file of their type."""

    resources: list[Resource] = field(default_factory=list)
    late: list[Resource] = field(default_factory=list)
    identifiers: list[PlantedIdentifier] = field(default_factory=list)


def soil(rng: Random, person: Person, chart: list[Resource]) -> Soiled:
    """Soil a clean chart, in place where a resource itself is changed."""
    soiled = Soiled()

    def happens(kind: str) -> bool:
        return rng.random() < RATES[kind]

    for resource in chart:
        kind = resource["resourceType"]
        if kind == "Observation" and happens("other unit"):
            _change_unit(resource)
        if kind == "Condition":
            _blur_dates(rng, resource, happens)
        if kind in NOTED and happens("verbal note"):
            soiled.identifiers.append(_note(person, resource))
        if happens("absolute reference"):
            _make_absolute(resource)
        if happens("older version"):
            soiled.resources.append(_earlier(resource))
        soiled.resources.append(resource)
        if happens("repeated"):
            soiled.resources.append(resource)
        if happens("repeated late"):
            soiled.late.append(resource)
        if kind in VOIDED and happens("entered in error"):
            wrong = _voided(rng, resource)
            soiled.resources.append(wrong)
            if kind == "Encounter":
                soiled.identifiers += encounter_identifiers(person, wrong)
    return soiled


def _change_unit(observation: Resource) -> None:
    measure = catalog().measures.get(observation["code"]["coding"][0]["code"])
    result = observation.get("valueQuantity", {})
    if measure is None or not measure.other_unit or result.get("code") != measure.unit:
        return
    value = round(result["value"] * measure.factor + measure.offset, 1)
    result.update(value=value, unit=measure.other_unit, code=measure.other_unit)


def _make_absolute(resource: Resource) -> None:
    for name in REFERRING & resource.keys():
        told = resource[name].get("reference", "")
        if RELATIVE.match(told):
            resource[name] = {**resource[name], "reference": f"{BASE}/{told}"}


def _blur_dates(rng: Random, condition: Resource, happens: Callable[[str], bool]) -> None:
    onset = condition.get("onsetDateTime", "")
    if len(onset) > len("2019-03") and happens("partial onset"):
        condition["onsetDateTime"] = onset[: rng.choice([4, 7])]
    if happens("date-only record"):
        condition["recordedDate"] = condition["recordedDate"][:10]
    if happens("unrecorded"):
        del condition["recordedDate"]


def _note(person: Person, resource: Resource) -> PlantedIdentifier:
    extensions = resource.setdefault("extension", [])
    extensions.append({"url": VERBAL_NOTE, "valueString": f"as told by {person.relative}"})
    where = f"{resource['resourceType']}.extension[{len(extensions) - 1}].valueString"
    return PlantedIdentifier(person.id, "A", where, person.relative, resource["id"])


def _earlier(resource: Resource) -> Resource:
    """What the resource was some hours before its last update."""
    older = _copy(resource)
    updated = datetime.fromisoformat(older["meta"]["lastUpdated"]) - timedelta(hours=5)
    older["meta"]["lastUpdated"] = instant(int(updated.timestamp()))
    match older["resourceType"]:
        case "Observation":
            older["status"] = "preliminary"
            if "valueQuantity" in older:
                older["valueQuantity"]["value"] = round(older["valueQuantity"]["value"] * 1.07, 2)
        case "Encounter":
            older["status"] = "in-progress"
            older["period"].pop("end", None)
            older.get("hospitalization", {}).pop("dischargeDisposition", None)
        case "Condition":
            older["verificationStatus"] = _verification("provisional")
        case "MedicationRequest":
            older["status"] = "draft"
        case "MedicationAdministration":
            older["status"] = "in-progress"
        case "DiagnosticReport":
            older["status"] = "preliminary"
    return older


def _voided(rng: Random, resource: Resource) -> Resource:
    """Another resource like it that was entered in error."""
    wrong = _copy(resource)
    wrong["id"] = new_id(rng)
    match wrong["resourceType"]:
        case "Observation":
            wrong["status"] = "entered-in-error"
            if "valueQuantity" in wrong:
                wrong["valueQuantity"]["value"] = round(wrong["valueQuantity"]["value"] * 10, 1)
        case "Encounter":
            wrong["status"] = "entered-in-error"
            late = timedelta(seconds=rng.randrange(30 * HOUR, 400 * HOUR))
            # A visit that never was, some days earlier than the real one.
            for edge, time in wrong["period"].items():
                wrong["period"][edge] = (datetime.fromisoformat(time) - late).isoformat()
            del wrong["identifier"]
        case "Condition":
            del wrong["clinicalStatus"]  # con-5: a voided Condition has none
            wrong["verificationStatus"] = _verification("entered-in-error")
            disease = rng.choice(catalog().diseases)
            wrong["code"] = concept(
                wrong["code"]["coding"][0]["system"], disease.icd, disease.display
            )
    return wrong


def _verification(code: str) -> Resource:
    return concept(TERMINOLOGY + "condition-ver-status", code)


def _copy(resource: Resource) -> Resource:
    return cast("dict[str, Any]", orjson.loads(orjson.dumps(resource)))
