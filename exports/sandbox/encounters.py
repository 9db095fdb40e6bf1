"""Encounters: what the hospital books for each visit, one resource or, for a transfer, two."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from exports.sandbox.clock import local
from exports.sandbox.course import Setting, Visit
from exports.sandbox.elements import (
    BASE,
    ICD_10_CM,
    LOCAL,
    TERMINOLOGY,
    Resource,
    coding,
    concept,
    new_id,
    reference,
)
from exports.sandbox.people import Person
from exports.sandbox.staff import Member, Staff
from exports.sandbox.truth import Letter, PlantedIdentifier

CLASSES: Final[dict[Setting, tuple[str, str]]] = {
    "ambulatory": ("AMB", "ambulatory"),
    "emergency": ("EMER", "emergency"),
    "observation": ("OBSENC", "observation encounter"),
    "unplanned": ("IMP", "inpatient encounter"),
    "planned": ("IMP", "inpatient encounter"),
}
TYPES: Final[dict[Setting, str]] = {
    "ambulatory": "office-visit",
    "emergency": "emergency-visit",
    "observation": "observation-stay",
    "unplanned": "hospital-stay",
    "planned": "hospital-stay",
}
DISPOSITIONS: Final = {
    "home": "Home",
    "snf": "Skilled nursing facility",
    "rehab": "Rehabilitation",
    "hosp": "Hospice",
    "exp": "Expired",
    "aadvice": "Left against advice",
    "other-hcf": "Other healthcare facility",
}


@dataclass(frozen=True)
class Booking:
    """One Encounter to be: where, from when, to when (None: still going on), and by whom."""

    id: str
    visit_number: str
    start: int
    end: int | None
    admit_source: str
    disposition: str
    organization: Member
    attending: Member


def book(rng: Random, visit: Visit, staff: Staff, until: int) -> list[Booking]:
    """The Encounters of a visit that have begun by `until`, in order of time."""
    clinic = visit.setting == "ambulatory"
    parts = [(visit.start, visit.end, _admit_source(visit), visit.disposition)]
    if visit.transfer is not None:
        leaves, arrives = visit.transfer
        parts = [
            (visit.start, leaves, _admit_source(visit), "other-hcf"),
            (arrives, visit.end, "hosp-trans", visit.disposition),
        ]
    if visit.setting in ("emergency", "observation"):
        parts = [(visit.start, visit.end, "", "home")]
    return [
        Booking(
            new_id(rng),
            str(rng.randrange(3 * 10**11, 9 * 10**11)),
            start,
            end if end <= until else None,
            source,
            disposition if end <= until else "",
            staff.organizations[2 if clinic else min(number, 1)],
            rng.choice(staff.practitioners),
        )
        for number, (start, end, source, disposition) in enumerate(parts)
        if start <= until
    ]


def encounter(person: Person, visit: Visit, booking: Booking, priority: str) -> Resource:
    """The US Core Encounter of a booking, without `meta`."""
    code, display = CLASSES[visit.setting]
    period = {"start": local(booking.start)}
    if booking.end is not None:
        period["end"] = local(booking.end)
    resource: Resource = {
        "resourceType": "Encounter",
        "id": booking.id,
        "identifier": [
            {"use": "official", "system": f"{BASE}/sid/visit", "value": booking.visit_number}
        ],
        "status": "in-progress" if booking.end is None else "finished",
        "class": coding(TERMINOLOGY + "v3-ActCode", code, display),
        "type": [concept(LOCAL, TYPES[visit.setting])],
        "priority": concept(TERMINOLOGY + "v3-ActPriority", priority),
        "subject": reference("Patient", person.id, person.name),
        "participant": [
            {
                "type": [concept(TERMINOLOGY + "v3-ParticipationType", "ATND", "attender")],
                "individual": reference(
                    "Practitioner", booking.attending.id, booking.attending.name
                ),
            }
        ],
        "period": period,
        "reasonCode": [concept(ICD_10_CM, visit.reason.icd, visit.reason.display)],
        "serviceProvider": reference(
            "Organization", booking.organization.id, booking.organization.name
        ),
    }
    hospitalization: Resource = {}
    if booking.admit_source:
        hospitalization["admitSource"] = concept(TERMINOLOGY + "admit-source", booking.admit_source)
    if booking.disposition:
        hospitalization["dischargeDisposition"] = concept(
            TERMINOLOGY + "discharge-disposition",
            booking.disposition,
            DISPOSITIONS[booking.disposition],
        )
    if hospitalization:
        resource["hospitalization"] = hospitalization
    return resource


def encounter_identifiers(person: Person, resource: Resource) -> list[PlantedIdentifier]:
    """Where a resource of `encounter` holds which identifier."""
    planted: list[tuple[Letter, str, str]] = [
        ("R", "id", resource["id"]),
        ("A", "subject.display", person.name),
    ]
    planted += [("C", f"period.{edge}", time) for edge, time in resource["period"].items()]
    if "identifier" in resource:
        planted.append(("J", "identifier[0].value", resource["identifier"][0]["value"]))
    return [
        PlantedIdentifier(person.id, letter, f"Encounter.{path}", value, resource["id"])
        for letter, path, value in planted
    ]


def choose_priority(rng: Random, setting: Setting) -> str:
    """The v3-ActPriority of a visit: only `EL` inpatient stays are planned."""
    if setting == "unplanned":
        return "EM" if rng.random() < 0.75 else "UR"
    return {"ambulatory": "R", "emergency": "EM", "observation": "UR", "planned": "EL"}[setting]


def _admit_source(visit: Visit) -> str:
    return {"unplanned": "emd", "planned": "outp"}.get(visit.setting, "")
