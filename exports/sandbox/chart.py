"""A patient's chart: the FHIR resources of a person and their course, still clean.

Nothing that happens, is issued or is updated after `until` is in it; a stay that goes on then is
`in-progress`, without an end.
"""

from __future__ import annotations

from random import Random
from typing import Final

from exports.sandbox.catalog import Disease, catalog
from exports.sandbox.clock import DAY, HOUR, instant, local, local_date
from exports.sandbox.course import Course, Setting, Visit
from exports.sandbox.disease import Ailment
from exports.sandbox.elements import (
    ICD_10_CM,
    ICD_10_PCS,
    LOCAL,
    RXNORM,
    TERMINOLOGY,
    Resource,
    coding,
    concept,
    new_id,
    reference,
)
from exports.sandbox.encounters import (
    Booking,
    book,
    choose_priority,
    encounter,
    encounter_identifiers,
)
from exports.sandbox.filing import Contact
from exports.sandbox.notes import discharge_summary
from exports.sandbox.observations import observations
from exports.sandbox.people import Person, patient_identifiers, patient_resource
from exports.sandbox.staff import Staff
from exports.sandbox.truth import PlantedIdentifier, TrueRisk

DIAGNOSED: Final[dict[Setting, float]] = {"ambulatory": 0.5}
REQUESTED: Final[dict[Setting, str]] = {
    "unplanned": "discharge",
    "planned": "discharge",
    "ambulatory": "community",
}


class Chart:
    """Collects the resources, planted identifiers, true risks and contacts of one patient."""

    def __init__(self, rng: Random, person: Person, staff: Staff, until: int) -> None:
        self.resources: list[Resource] = []
        self.identifiers: list[PlantedIdentifier] = []
        self.risks: list[TrueRisk] = []
        self.contacts: list[Contact] = []
        self._rng, self._person, self._staff, self._until = rng, person, staff, until
        self._height = round(rng.gauss(176 if person.male else 163, 7), 1)
        self._subject = reference("Patient", person.id)

    def write(self, course: Course, ailments: tuple[Ailment, ...]) -> None:
        """Write the whole chart."""
        first, last = course.visits[0].start, course.death or course.visits[-1].end
        updated = min(self._until, last + 2 * DAY)
        self.resources.append(patient_resource(self._person, death=course.death, updated=updated))
        self.identifiers += patient_identifiers(self._person, course.death)
        for ailment in ailments:
            if course.death is None or ailment.since < course.death - HOUR:
                self._problem(ailment, first)
        for number, visit in enumerate(course.visits):
            self._visit(visit, measure_height=number == 0)

    def _visit(self, visit: Visit, *, measure_height: bool) -> None:
        rng, begun = self._rng, len(self.resources)
        bookings = book(rng, visit, self._staff, self._until)
        priority = choose_priority(rng, visit.setting)
        for booking in bookings:
            self._encounter(visit, booking, priority)
        if not bookings:
            return
        arrival, departure = bookings[0], bookings[-1]
        if rng.random() < DIAGNOSED.get(visit.setting, 1):
            self._diagnosis(visit, arrival, visit.reason.icd, visit.reason.display)
        for disease in visit.present[:8]:
            if rng.random() < 0.35:
                self._diagnosis(visit, departure, disease.icd, disease.display, disease)
        height = self._height if measure_height or rng.random() < 0.02 else None
        for reading in visit.readings:
            booking = arrival if reading.at < departure.start else departure
            for issued, resource in observations(rng, reading, height=height):
                self._add(resource, issued, booking)
        self._procedure(visit, arrival)
        for drug in visit.prescriptions:
            ordered = max(visit.start, visit.end - rng.randrange(10, 4 * HOUR))
            resource = self._request(visit, departure, ordered, drug.rxnorm, drug.display)
            self._add(resource, ordered, departure)
        if visit.inpatient and visit.end <= self._until:
            self._close(visit, departure)
        self.contacts.append(Contact(visit, tuple(bookings), tuple(self.resources[begun:])))

    def _close(self, visit: Visit, departure: Booking) -> None:
        resource, planted = discharge_summary(self._rng, self._person, visit, departure)
        written = visit.end + self._rng.randrange(-2 * HOUR, 2 * DAY)
        resource["date"] = local(written)
        resource["context"] = {"encounter": [reference("Encounter", departure.id)]}
        if self._add(resource, written, None):
            self.identifiers += planted
        if visit.risk is not None:
            self.risks.append(TrueRisk(departure.id, visit.risk))

    def _encounter(self, visit: Visit, booking: Booking, priority: str) -> None:
        resource = encounter(self._person, visit, booking, priority)
        self._stamp(resource, booking.start if booking.end is None else booking.end)
        self.resources.append(resource)
        self.identifiers += encounter_identifiers(self._person, resource)

    def _problem(self, ailment: Ailment, first: int) -> None:
        disease = ailment.disease
        recorded = max(first, ailment.since) + self._rng.randrange(5, 60)
        resource = self._condition(disease.icd, disease.display, disease, "problem-list-item")
        if ailment.since >= first:
            resource["onsetDateTime"] = local(ailment.since)
        elif self._rng.random() < 0.5:
            # What patients remember of years before: the month at best.
            resource["onsetDateTime"] = local_date(ailment.since)[: self._rng.choice([4, 7])]
        resource["recordedDate"] = local(recorded)
        self._add(resource, recorded, None)

    def _diagnosis(
        self, visit: Visit, booking: Booking, icd: str, display: str, disease: Disease | None = None
    ) -> None:
        resource = self._condition(icd, display, disease, "encounter-diagnosis")
        resource["onsetDateTime"] = local(visit.start)
        recorded = visit.start + self._rng.randrange(600, 1200)
        if self._rng.random() < 0.4 and visit.setting != "ambulatory":
            # Final coding comes after discharge.
            recorded = visit.end + self._rng.randrange(4 * HOUR, 3 * DAY)
        resource["recordedDate"] = local(recorded)
        self._add(resource, recorded, booking)

    def _condition(
        self, icd: str, display: str, disease: Disease | None, category: str
    ) -> Resource:
        code = concept(ICD_10_CM, icd, display)
        if disease is not None and disease.local and self._rng.random() < 0.3:
            code["coding"].append(coding(LOCAL, disease.local))
        return {
            "resourceType": "Condition",
            "id": new_id(self._rng),
            "clinicalStatus": concept(TERMINOLOGY + "condition-clinical", "active"),
            "verificationStatus": concept(TERMINOLOGY + "condition-ver-status", "confirmed"),
            "category": [concept(TERMINOLOGY + "condition-category", category)],
            "code": code,
        }

    def _request(
        self, visit: Visit, booking: Booking, ordered: int, rxnorm: str, display: str
    ) -> Resource:
        system = TERMINOLOGY + "medicationrequest-category"
        return {
            "resourceType": "MedicationRequest",
            "id": new_id(self._rng),
            "status": self._rng.choices(["active", "completed", "stopped"], [5, 4, 1])[0],
            "intent": "order",
            "category": [concept(system, REQUESTED.get(visit.setting, "outpatient"))],
            "medicationCodeableConcept": concept(RXNORM, rxnorm, display),
            "authoredOn": local(ordered),
            "requester": reference("Practitioner", booking.attending.id, booking.attending.name),
        }

    def _procedure(self, visit: Visit, booking: Booking) -> None:
        fitting = [each for each in catalog().procedures if visit.reason.icd in each.reasons]
        chance = {"planned": 0.95, "unplanned": 0.5}.get(visit.setting, 0)
        if not fitting or self._rng.random() >= chance:
            return
        done = self._rng.choice(fitting)
        begun = visit.start + int(self._rng.uniform(0.05, 0.25) * (visit.end - visit.start))
        ended = min(visit.end, begun + self._rng.randrange(HOUR // 3, 3 * HOUR))
        resource: Resource = {
            "resourceType": "Procedure",
            "id": new_id(self._rng),
            "status": "completed",
            "code": concept(ICD_10_PCS, done.icd10pcs, done.display),
        }
        if self._rng.random() < 0.5:
            resource["performedPeriod"] = {"start": local(begun), "end": local(ended)}
        else:
            resource["performedDateTime"] = local(begun)
        self._add(resource, ended, booking)

    def _add(self, resource: Resource, known: int, booking: Booking | None) -> bool:
        """File a resource, unless it became known after `until`; tells whether it was filed."""
        if known > self._until:
            return False
        resource["subject"] = self._subject
        if booking is not None:
            resource["encounter"] = reference("Encounter", booking.id)
        self._stamp(resource, known)
        self.resources.append(resource)
        return True

    def _stamp(self, resource: Resource, known: int) -> None:
        updated = min(self._until, known + self._rng.randrange(60, 2 * DAY))
        resource["meta"] = {"lastUpdated": instant(updated)}
