"""Immunizations, and the allergies that are asked for at the first visit."""

from __future__ import annotations

from typing import Final

from exports.sandbox.catalog import listing
from exports.sandbox.clock import MINUTE, YEAR, instant, local, local_date, moment
from exports.sandbox.elements import LOCAL, RXNORM, TERMINOLOGY, Resource, concept, new_id
from exports.sandbox.filing import Contact, Filing
from exports.sandbox.particulars import Particulars
from exports.sandbox.truth import Letter

CVX: Final = "http://hl7.org/fhir/sid/cvx"
REMEMBERED: Final = 0.1
"""Of vaccinations: an earlier one elsewhere, of which the year or month is known."""
ALLERGIC: Final = 0.3
"""The chance of each further allergy of a person."""


def vaccinate(filing: Filing, contact: Contact) -> None:
    """Immunizations at an outpatient visit."""
    rng, visit = filing.rng, contact.visit
    for row in listing("vaccines"):
        wanted = 3 * float(row["share"]) if visit.reason.icd == "Z23" else float(row["share"])
        if rng.random() >= wanted or visit.start < moment(int(row["since"])):
            continue
        given = visit.start + rng.randrange(5, 12) * MINUTE
        elsewhere = rng.random() < REMEMBERED
        resource: Resource = {
            "resourceType": "Immunization",
            "id": new_id(rng),
            "status": rng.choices(["completed", "not-done", "entered-in-error"], [94, 4, 2])[0],
            "vaccineCode": concept(CVX, row["cvx"], row["display"]),
            "occurrenceDateTime": (instant if rng.random() < 0.1 else local)(given),
            "recorded": local(given + MINUTE),
            "primarySource": not elsewhere,
            "lotNumber": f"L{rng.randrange(1000, 9999)}",
            "doseQuantity": {"value": float(row["dose"]), "unit": "mL", "code": "mL"},
            "performer": [
                {
                    "actor": filing.refer(
                        "Practitioner",
                        contact.bookings[0].attending.id,
                        contact.bookings[0].attending.name,
                    )
                }
            ],
        }
        if elsewhere:
            earlier = local_date(given - int(rng.uniform(0.5, 8) * YEAR))
            resource["occurrenceDateTime"] = earlier[: rng.choice([4, 7])]
        filing.add(resource, given + MINUTE, happens=given, owner="patient", contact=contact)


def ask_allergies(filing: Filing, contact: Contact, particulars: Particulars) -> None:
    """AllergyIntolerances, as told at the first visit."""
    rng = filing.rng
    substances = list(listing("allergens"))
    while substances and rng.random() < ALLERGIC:
        row = substances.pop(rng.randrange(len(substances)))
        recorded = contact.visit.start + rng.randrange(5, 15) * MINUTE
        system, code = (RXNORM, row["rxnorm"]) if row["rxnorm"] else (LOCAL, row["local"])
        resource: Resource = {
            "resourceType": "AllergyIntolerance",
            "id": new_id(rng),
            "clinicalStatus": concept(TERMINOLOGY + "allergyintolerance-clinical", "active"),
            "verificationStatus": concept(
                TERMINOLOGY + "allergyintolerance-verification",
                rng.choices(["confirmed", "unconfirmed", "entered-in-error"], [80, 17, 3])[0],
            ),
            "type": "allergy",
            "category": [row["category"]],
            "criticality": rng.choice(["low", "high", "unable-to-assess"]),
            "code": {**concept(system, code, row["display"]), "text": row["display"]},
            "recordedDate": local(recorded),
            "reaction": [{"manifestation": [{"text": row["reaction"]}]}],
        }
        found: list[tuple[Letter, str, str]] = []
        if rng.random() < 0.4:
            onset = local_date(recorded - int(rng.uniform(1, 15) * YEAR))
            resource["onsetDateTime"] = onset[: rng.choice([4, 7])]
        if rng.random() < 0.3:
            relative = particulars.relatives[0]
            resource["asserter"] = {"display": f"{relative.name} ({relative.word})"}
            resource["note"] = [{"text": f"Per {relative.name}, tel. {relative.phone}."}]
            found = [
                ("A", "asserter.display", relative.name),
                ("A", "note[0].text", relative.name),
                ("D", "note[0].text", relative.phone),
            ]
        if resource["verificationStatus"]["coding"][0]["code"] == "entered-in-error":
            del resource["clinicalStatus"]  # ait-2: a voided allergy has none
        if filing.add(resource, recorded, happens=recorded, owner="patient", contact=contact):
            filing.plant(resource, found)
