"""How further resources of a patient are filed: whose, at which encounter, known since when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from exports.sandbox.clock import DAY, instant
from exports.sandbox.course import Visit
from exports.sandbox.elements import BASE, Resource, reference
from exports.sandbox.encounters import Booking
from exports.sandbox.people import Person
from exports.sandbox.truth import Letter, PlantedIdentifier

FORMS: Final = {"absolute": 0.03, "versioned": 0.03, "urn": 0.03}
"""Of references: by URL, to a version, as `urn:uuid:`; all others are relative."""


@dataclass(frozen=True)
class Contact:
    """A visit as it was booked, and the resources that the chart has of it: Encounters first."""

    visit: Visit
    bookings: tuple[Booking, ...]
    resources: tuple[Resource, ...]

    def of(self, kind: str) -> list[Resource]:
        """The resources of a type."""
        return [each for each in self.resources if each["resourceType"] == kind]

    def booked(self, at: int) -> tuple[Booking, Resource]:
        """The booking of a moment, and its Encounter."""
        pairs = list(zip(self.bookings, self.resources, strict=False))
        return next((pair for pair in reversed(pairs) if pair[0].start <= at), pairs[0])


class Filing:
    """Collects resources of one patient, and the identifiers planted in them.

    Nothing that happens after `last` (death, or the export) or is known after `until` is filed.
    """

    def __init__(self, rng: Random, person: Person, *, last: int, until: int) -> None:
        self.resources: list[Resource] = []
        self.identifiers: list[PlantedIdentifier] = []
        self.rng, self.person, self.last, self.until = rng, person, last, until

    def add(
        self,
        resource: Resource,
        known: int,
        *,
        happens: int,
        owner: str = "subject",
        contact: Contact | None = None,
        place: str = "encounter",
    ) -> bool:
        """File a resource of the patient that is known since a moment; tells whether it was.

        `owner` and `place` name the elements that tell the patient and the encounter; an empty
        `place` leaves the encounter out.
        """
        if known > self.until or happens > self.last:
            return False
        patient = self.person.id
        if contact is not None:
            booking, encounter = contact.booked(happens)
            # A patient who was registered twice has encounters under either id.
            patient = encounter["subject"]["reference"].rsplit("/", 1)[-1]
            if place:
                resource[place] = self.refer("Encounter", booking.id)
        resource[owner] = self.refer("Patient", patient)
        self.stamp(resource, known)
        self.resources.append(resource)
        return True

    def stamp(self, resource: Resource, known: int) -> None:
        """Say when the server last changed a resource that is known since a moment."""
        updated = min(self.until, known + self.rng.randrange(60, 2 * DAY))
        resource["meta"] = {**resource.get("meta", {}), "lastUpdated": instant(updated)}

    def refer(self, kind: str, identity: str, display: str = "") -> dict[str, str]:
        """A Reference in one of the forms that servers use; patients are never a bare `urn:`."""
        told = reference(kind, identity, display)
        draw = self.rng.random()
        for form, share in FORMS.items():
            draw -= share
            if draw < 0:
                return {**told, "reference": _written(form, kind, identity)}
        return told

    def plant(self, resource: Resource, found: Sequence[tuple[Letter, str, str]]) -> None:
        """Record identifiers (class, path, value) of a resource."""
        self.identifiers += planted(self.person, resource, found)


def planted(
    person: Person, resource: Resource, found: Sequence[tuple[Letter, str, str]]
) -> list[PlantedIdentifier]:
    """Identifiers (class, path, value) that stand in a resource of a person."""
    kind, identity = resource["resourceType"], resource["id"]
    return [
        PlantedIdentifier(person.id, letter, f"{kind}.{path}", value, identity)
        for letter, path, value in found
    ]


def _written(form: str, kind: str, identity: str) -> str:
    match form:
        case "absolute":
            return f"{BASE}/{kind}/{identity}"
        case "versioned":
            return f"{kind}/{identity}/_history/1"
        case _:
            return f"{kind}/{identity}" if kind == "Patient" else f"urn:uuid:{identity}"
