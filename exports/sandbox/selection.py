"""Which resources an order asks for, and how much of each."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Final

from exports.sandbox.cohort import GROUPS, patient_of
from exports.sandbox.elements import Resource
from exports.sandbox.order import ExportOrder
from exports.sandbox.queries import Predicate, read_type_filter

SUBSETTED: Final = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "SUBSETTED",
}
ALWAYS: Final = frozenset({"resourceType", "id", "meta"})
MEDICATION: Final = ("contained", "medicationCodeableConcept", "medicationReference")
"""`medication[x]`, and the Medication that it may lead to inside the resource."""
MANDATORY: Final[Mapping[str, frozenset[str]]] = {
    "AllergyIntolerance": frozenset({"patient"}),
    "Condition": frozenset({"subject"}),
    "CarePlan": frozenset({"status", "intent", "subject"}),
    "Coverage": frozenset({"status", "beneficiary", "payor"}),
    "DiagnosticReport": frozenset({"status", "code"}),
    "DocumentReference": frozenset({"status", "content"}),
    "Encounter": frozenset({"status", "class"}),
    "Goal": frozenset({"lifecycleStatus", "description", "subject"}),
    "Immunization": frozenset({"status", "vaccineCode", "patient", "occurrenceDateTime"}),
    "MedicationAdministration": frozenset(
        {"status", "subject", "effectiveDateTime", "effectivePeriod", *MEDICATION}
    ),
    "MedicationDispense": frozenset({"status", *MEDICATION}),
    "MedicationRequest": frozenset({"status", "intent", "subject", *MEDICATION}),
    "MedicationStatement": frozenset({"status", "subject", *MEDICATION}),
    "Observation": frozenset({"status", "code"}),
    "Procedure": frozenset({"status", "subject"}),
    "RelatedPerson": frozenset({"patient"}),
    "ServiceRequest": frozenset({"status", "intent", "subject"}),
}
"""Elements that a resource can't be without (minimum cardinality 1)."""


class Selection:
    """What one order lets through.

    `_since` is exclusive and `_until` inclusive, so that windows which follow one another lose
    nothing; a resource whose time nobody tracks is in every window. Narrowed to patients, what
    belongs to none (Organization, Practitioner ...) still comes along.
    """

    def __init__(self, order: ExportOrder) -> None:
        self._order = order
        self._since, self._until = order.since_time, order.until_time
        self._member = GROUPS[order.group or "all"]
        self._filters: dict[str, list[Predicate]] = {}
        for text in order.filters:
            resource_type, predicate = read_type_filter(text)
            self._filters.setdefault(resource_type, []).append(predicate)
        self._elements: dict[str, set[str]] = {}
        for element in order.elements:
            before, _, name = element.rpartition(".")
            self._elements.setdefault(before, set()).add(name)

    @property
    def rewrites(self) -> bool:
        """Whether resources come out other than they went in."""
        return bool(self._elements)

    def of(self, resource: Resource) -> Resource | None:
        """What the client gets of a resource, or None."""
        kind = resource["resourceType"]
        if not self._order.wants(kind) or not self._in_time(resource):
            return None
        patient = patient_of(resource)
        if patient and not self._has_patient(patient):
            return None
        filters = self._filters.get(kind)
        if filters and not any(predicate(resource) for predicate in filters):
            return None
        return self._subset(resource) if self._elements else resource

    def _in_time(self, resource: Resource) -> bool:
        told = resource.get("meta", {}).get("lastUpdated")
        if told is None or (self._since is None and self._until is None):
            return True
        updated = datetime.fromisoformat(told)
        if self._since is not None and updated <= self._since:
            return False
        return self._until is None or updated <= self._until

    def _has_patient(self, patient: str) -> bool:
        named = self._order.patients
        return self._member(patient) and (not named or patient in named)

    def _subset(self, resource: Resource) -> Resource:
        kind = resource["resourceType"]
        own, everywhere = self._elements.get(kind), self._elements.get("", set())
        if own is None and not everywhere:
            return resource
        kept = ALWAYS | everywhere | (own or set()) | MANDATORY.get(kind, frozenset())
        subset = {name: value for name, value in resource.items() if name in kept}
        meta = resource.get("meta", {})
        return {**subset, "meta": {**meta, "tag": [*meta.get("tag", []), SUBSETTED]}}
