"""Who pays, and who stands by: Coverage and RelatedPerson."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from exports.sandbox.catalog import listing
from exports.sandbox.clock import MINUTE, YEAR, local_date
from exports.sandbox.elements import TERMINOLOGY, Resource, coding, concept, new_id
from exports.sandbox.filing import Contact, Filing
from exports.sandbox.particulars import Particulars, Relative, household_line
from exports.sandbox.people import typed_identifier
from exports.sandbox.truth import Letter

SOPT: Final = "https://nahdo.org/sopt"
SECOND: Final = 0.25
"""Of patients: a second coverage."""
RELATED: Final = 0.35
"""Of relatives: a record of their own."""
OTHERS: Final = 0.3
"""Of coverages: those that a relative holds."""


def register_relatives(filing: Filing, contact: Contact, particulars: Particulars) -> None:
    """RelatedPersons, as they are registered at the first visit."""
    rng, person = filing.rng, filing.person
    for relative in particulars.relatives:
        if rng.random() >= RELATED:
            continue
        known = contact.visit.start + rng.randrange(1, 20) * MINUTE
        line = household_line(person)
        resource: Resource = {
            "resourceType": "RelatedPerson",
            "id": new_id(rng),
            "active": True,
            "relationship": [concept(TERMINOLOGY + "v3-RoleCode", relative.relation)],
            "name": [{"family": relative.family, "given": [relative.given]}],
            "telecom": [{"system": "phone", "value": relative.phone, "use": "mobile"}],
            "gender": "male" if relative.male else "female",
            "birthDate": relative.birth_date,
            "address": [{"text": line}],
        }
        found: list[tuple[Letter, str, str]] = [
            ("R", "id", resource["id"]),
            ("A", "name[0].family", relative.family),
            ("A", "name[0].given[0]", relative.given),
            ("D", "telecom[0].value", relative.phone),
            ("C", "birthDate", relative.birth_date),
            ("B", "address[0].text", person.line),
            ("B", "address[0].text", person.zip),
        ]
        if filing.add(resource, known, happens=known, owner="patient"):
            filing.plant(resource, found)


def insure(filing: Filing, contact: Contact, particulars: Particulars) -> None:
    """Coverages, as they are registered at the first visit."""
    rng = filing.rng
    payers = listing("payers")
    for _ in range(1 + (rng.random() < SECOND)):
        payer = rng.choices(payers, [float(row["weight"]) for row in payers])[0]
        holder = particulars.relatives[0] if rng.random() < OTHERS else None
        _insure(filing, contact, particulars, payer, holder)


def _insure(
    filing: Filing,
    contact: Contact,
    particulars: Particulars,
    payer: Mapping[str, str],
    holder: Relative | None,
) -> None:
    rng, person = filing.rng, filing.person
    known = contact.visit.start + rng.randrange(1, 30) * MINUTE
    subscriber = person.member if holder is None else f"W{rng.randrange(4 * 10**10, 10**11)}"
    begun = local_date(known - int(rng.uniform(0.1, 6) * YEAR))
    resource: Resource = {
        "resourceType": "Coverage",
        "id": new_id(rng),
        "identifier": [typed_identifier("MB", "https://payer.example.org/member", person.member)],
        "status": rng.choices(["active", "cancelled", "entered-in-error"], [93, 5, 2])[0],
        "type": {
            "coding": [
                coding(SOPT, payer["sopt"]),
                coding(TERMINOLOGY + "v3-ActCode", payer["kind"]),
            ],
            "text": payer["display"],
        },
        "subscriberId": subscriber,
        "relationship": concept(
            TERMINOLOGY + "subscriber-relationship", "self" if holder is None else "other"
        ),
        "period": {"start": begun},
        "payor": [{"display": payer["display"]}],
    }
    found: list[tuple[Letter, str, str]] = [
        ("I", "identifier[0].value", person.member),
        ("I", "subscriberId", subscriber),
        ("C", "period.start", begun),
    ]
    if holder is not None:
        resource["subscriber"] = {"display": holder.name}
        resource["policyHolder"] = {"display": particulars.employer}
        resource["class"] = [
            {
                "type": concept(TERMINOLOGY + "coverage-class", "group"),
                "value": particulars.group,
                "name": f"Employees of {particulars.employer}",
            }
        ]
        found += [
            ("A", "subscriber.display", holder.name),
            ("A", "policyHolder.display", particulars.employer),
            ("A", "class[0].name", particulars.employer),
            ("I", "class[0].value", particulars.group),
        ]
    if filing.add(resource, known, happens=known, owner="beneficiary"):
        filing.plant(resource, found)
