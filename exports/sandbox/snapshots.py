"""The hospital as it was at an earlier moment, so that it can be exported at one time and another.

What is updated by that moment is there, as it is at the end; the rest is not there yet. Only a
Patient is there from the first record on: as registered, before any later update. So what a later
snapshot has with `meta.lastUpdated` after an earlier one's moment is exactly what changed between
the two, and both differ in nothing else. (To simulate the hospital with an earlier `as_of` is
another thing: a problem that is first noted in between gives all ids of its patient's chart anew.)
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from exports.sandbox.clock import instant
from exports.sandbox.elements import Resource
from exports.sandbox.population import PatientRecord
from exports.sandbox.truth import Truth

LATER = ("deceasedDateTime", "deceasedBoolean")


def as_it_was(record: PatientRecord, at: datetime) -> PatientRecord:
    """The patient's record at that moment; without anything, where there was none yet."""
    resources = [resource for resource in record.resources if _updated(resource) <= at]
    if not resources:
        return PatientRecord([], [], Truth((), ()))
    first = min(map(_updated, record.resources))
    if all(resource["resourceType"] != "Patient" for resource in resources):
        patient = next(r for r in record.resources if r["resourceType"] == "Patient")
        resources.insert(0, _as_registered(patient, first))
    stays = {resource["id"] for resource in resources if resource["resourceType"] == "Encounter"}
    risks = tuple(risk for risk in record.truth.risks if risk.encounter_id in stays)
    late = [resource for resource in record.late if _updated(resource) <= at]
    return PatientRecord(resources, late, replace(record.truth, risks=risks))


def _updated(resource: Resource) -> datetime:
    return datetime.fromisoformat(resource["meta"]["lastUpdated"])


def _as_registered(patient: Resource, at: datetime) -> Resource:
    kept = {name: value for name, value in patient.items() if name not in LATER}
    updated = {"lastUpdated": instant(int(at.timestamp()))}
    return {**kept, "meta": {**patient["meta"], **updated}}
