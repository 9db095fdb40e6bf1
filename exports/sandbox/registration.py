"""How patients are registered: most once, some twice until it is noticed, and some are no patients.

A patient who was registered twice has records under both ids; the registrations are merged, and
say so (FHIR R4, Patient.link). A patient made to try the system out is marked as test data
(HTEST). Some results are marked as sensitive, which leaves them where they are.
"""

from __future__ import annotations

from random import Random
from typing import Any, Final

from exports.sandbox.elements import TERMINOLOGY, Resource, new_id

TEST_PATIENTS: Final = 0.01
"""Of patients: made to try the system out."""
TWICE: Final = 0.012
"""Of patients: registered twice, and merged."""
ELSEWHERE: Final = 0.4
"""Of the encounters of a patient registered twice: those under the one that was given up."""
SENSITIVE: Final = 0.002
"""Of Observations: under a label of restricted confidentiality."""
HTEST: Final = {"system": TERMINOLOGY + "v3-ActReason", "code": "HTEST"}
RESTRICTED: Final = {"system": TERMINOLOGY + "v3-Confidentiality", "code": "R"}


def register(rng: Random, patient_id: str, resources: list[Resource]) -> str:
    """Register a patient, in place; the id of a registration that was given up, or ""."""
    for resource in resources:
        if resource["resourceType"] == "Observation" and rng.random() < SENSITIVE:
            _label(resource, RESTRICTED)
    fate = rng.random()
    if fate < TEST_PATIENTS:
        for patient in _patients(resources):
            _label(patient, HTEST)
    elif fate < TEST_PATIENTS + TWICE:
        return _merge(rng, patient_id, resources)
    return ""


def _merge(rng: Random, patient_id: str, resources: list[Resource]) -> str:
    given_up = new_id(rng)
    encounters = sorted({r["id"] for r in resources if r["resourceType"] == "Encounter"})
    elsewhere = {each for each in encounters if rng.random() < ELSEWHERE}
    for resource in resources:
        if _encounter_of(resource) in elsewhere:
            subject = resource["subject"]["reference"].replace(patient_id, given_up)
            resource["subject"] = {**resource["subject"], "reference": subject}
    newest = max(_patients(resources), key=lambda patient: str(patient["meta"]["lastUpdated"]))
    former = {
        **newest,
        "id": given_up,
        "active": False,
        "link": [_link("replaced-by", patient_id)],
    }
    for patient in _patients(resources):
        patient["link"] = [_link("replaces", given_up)]
    resources.insert(0, former)
    return given_up


def _encounter_of(resource: Resource) -> str:
    if resource["resourceType"] == "Encounter":
        return str(resource["id"])
    reference = resource.get("encounter", {}).get("reference", "")
    return str(reference).rsplit("/", 1)[-1]


def _patients(resources: list[Resource]) -> list[Resource]:
    return [resource for resource in resources if resource["resourceType"] == "Patient"]


def _link(kind: str, patient_id: str) -> dict[str, Any]:
    return {"other": {"reference": f"Patient/{patient_id}"}, "type": kind}


def _label(resource: Resource, label: Resource) -> None:
    resource["meta"] = {**resource["meta"], "security": [label]}
