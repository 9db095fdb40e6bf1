"""Discharge summaries: free text, full of the patient's identifiers, as real ones are."""

from __future__ import annotations

from base64 import b64encode
from random import Random
from typing import Final

from exports.sandbox.clock import YEAR, local_date
from exports.sandbox.course import Visit
from exports.sandbox.elements import LOINC, TERMINOLOGY, Resource, concept, new_id
from exports.sandbox.encounters import DISPOSITIONS, Booking
from exports.sandbox.people import Person
from exports.sandbox.truth import Letter, PlantedIdentifier

WHERE: Final = "DocumentReference.content[0].attachment.data"

TEXT: Final = """{hospital}
DISCHARGE SUMMARY

Patient: {family}, {given} {middle}    MRN: {mrn}    Visit: {visit}
DOB: {birth_date}    Age: {age}    SSN: {ssn}
Address: {line}, {city}, {state} {zip}
Phone: {phone}    E-mail: {email}

Admitted {admitted}, discharged {discharged} ({disposition}).
Attending: {attending}

{title} {family} is a {age}-year-old {sex} admitted for {reason}. {history}
The hospital course was discussed with {relative} ({relative_phone}), next of kin.
Medications at discharge: {drugs}.

Follow-up in one week. Patient portal: {portal} (last signed in from {address}).
"""


def discharge_summary(
    rng: Random, person: Person, visit: Visit, booking: Booking
) -> tuple[Resource, list[PlantedIdentifier]]:
    """The DocumentReference of a finished stay, without `meta`, and what its text gives away."""
    relative, relative_family = person.relative.split(" ", 1)
    planted: dict[str, tuple[Letter, str]] = {
        "given": ("A", person.given),
        "middle": ("A", person.middle),
        "family": ("A", person.family),
        "relative": ("A", f"{relative} {relative_family}"),
        "line": ("B", person.line),
        "city": ("B", person.city),
        "zip": ("B", person.zip),
        "birth_date": ("C", person.birth_date),
        "admitted": ("C", local_date(visit.start)),
        "discharged": ("C", local_date(visit.end)),
        "phone": ("D", person.phone),
        "relative_phone": ("D", person.relative_phone),
        "email": ("F", person.email),
        "ssn": ("G", person.ssn),
        "mrn": ("H", person.mrn),
        "visit": ("J", booking.visit_number),
        "portal": ("N", f"https://portal.example.org/u/{rng.getrandbits(40):010x}"),
        "address": ("O", f"198.51.{rng.randrange(100, 256)}.{rng.randrange(1, 255)}"),
    }
    history = ", ".join(disease.display for disease in visit.present)
    text = TEXT.format(
        **{name: value for name, (_, value) in planted.items()},
        hospital=booking.organization.name,
        state=person.state,
        age=int((visit.start - person.born) / YEAR),
        disposition=DISPOSITIONS[visit.disposition].lower(),
        attending=booking.attending.name,
        title="Mr." if person.male else "Ms.",
        sex="man" if person.male else "woman",
        reason=visit.reason.display,
        history=f"History of {history}." if history else "No relevant history.",
        drugs="; ".join(drug.display for drug in visit.prescriptions) or "none",
    )
    resource: Resource = {
        "resourceType": "DocumentReference",
        "id": new_id(rng),
        "status": "current",
        "type": concept(LOINC, "18842-5", "Discharge summary"),
        "category": [concept(TERMINOLOGY + "us-core-documentreference-category", "clinical-note")],
        "author": [{"display": booking.attending.name}],
        "content": [
            {
                "attachment": {
                    "contentType": "text/plain; charset=utf-8",
                    "data": b64encode(text.encode()).decode(),
                }
            }
        ],
    }
    return resource, [
        PlantedIdentifier(person.id, letter, WHERE, value, resource["id"])
        for letter, value in planted.values()
    ]
