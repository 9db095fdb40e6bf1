"""How medicines are given, handed out and taken: what follows from orders, and what people tell."""

from __future__ import annotations

from typing import Final

from exports.sandbox.clock import DAY, HOUR, MINUTE, instant, local, local_date
from exports.sandbox.disease import Ailment
from exports.sandbox.elements import BASE, TERMINOLOGY, Resource, concept, new_id, reference
from exports.sandbox.filing import Contact, Filing
from exports.sandbox.formulary import medication_of, name_medication
from exports.sandbox.particulars import Particulars
from exports.sandbox.truth import Letter

GIVEN: Final = 0.75
"""Of the drugs of a stay: given there, each up to `DOSES` times."""
DOSES: Final = 2
HANDED_OUT: Final = 0.22
"""Of orders: dispensed by the hospital's own pharmacy."""
TOLD: Final = 0.35
"""Of chronic drugs: reported by the patient at a visit."""
IN_UTC: Final = 0.15
"""Of dispenses: the pharmacy's machine writes its times in UTC."""


def administer(filing: Filing, shelf: dict[str, Resource], contact: Contact) -> None:
    """MedicationAdministrations of an inpatient stay."""
    visit, rng = contact.visit, filing.rng
    drugs = dict.fromkeys((*visit.reason.medications, *visit.prescriptions[:2]))
    for drug in list(drugs)[:3]:
        if rng.random() >= GIVEN:
            continue
        for _ in range(rng.randrange(1, DOSES + 1)):
            given = visit.start + int(rng.uniform(0.02, 0.95) * (visit.end - visit.start))
            booking, _ = contact.booked(given)
            minutes = rng.randrange(5, 90)
            resource: Resource = {
                "resourceType": "MedicationAdministration",
                "id": new_id(rng),
                "status": rng.choices(["completed", "not-done", "entered-in-error"], [96, 3, 1])[0],
                "category": concept(TERMINOLOGY + "medication-admin-category", "inpatient"),
                **name_medication(filing, shelf, drug),
                "performer": [
                    {
                        "actor": filing.refer(
                            "Practitioner", booking.attending.id, booking.attending.name
                        )
                    }
                ],
            }
            if rng.random() < 0.2:
                resource["effectivePeriod"] = {
                    "start": local(given),
                    "end": local(given + 5 * MINUTE),
                }
            else:
                resource["effectiveDateTime"] = local(given)
            filing.add(
                resource,
                given + minutes * MINUTE,
                happens=given + 5 * MINUTE,
                contact=contact,
                place="context",
            )


def dispense(filing: Filing, contact: Contact) -> None:
    """MedicationDispenses for some orders of a visit."""
    rng = filing.rng
    for order in contact.of("MedicationRequest"):
        if rng.random() >= HANDED_OUT:
            continue
        handed = contact.visit.end + rng.randrange(-20 * MINUTE, DAY)
        days = rng.choice([7, 14, 30, 30, 90])
        written = instant if rng.random() < IN_UTC else local
        number = f"RX{rng.randrange(7 * 10**9, 10**10)}"
        resource: Resource = {
            "resourceType": "MedicationDispense",
            "id": new_id(rng),
            "identifier": [{"system": f"{BASE}/sid/prescription", "value": number}],
            "status": rng.choices(["completed", "stopped", "entered-in-error"], [97, 2, 1])[0],
            **medication_of(order),
            "authorizingPrescription": [filing.refer("MedicationRequest", order["id"])],
            "type": concept(TERMINOLOGY + "v3-ActCode", rng.choice(["FF", "RF"])),
            "quantity": {"value": days, "unit": "{tbl}"},
            "daysSupply": {"value": days, "unit": "d", "code": "d"},
            "whenPrepared": written(handed - 10 * MINUTE),
            "whenHandedOver": written(handed),
        }
        known = handed + rng.randrange(0, HOUR)
        if filing.add(resource, known, happens=handed, contact=contact, place="context"):
            filing.plant(resource, [("R", "identifier[0].value", number)])


def report(
    filing: Filing,
    shelf: dict[str, Resource],
    contact: Contact,
    ailments: tuple[Ailment, ...],
    particulars: Particulars,
) -> None:
    """MedicationStatements: what the patient or a relative tells at a visit."""
    rng, at = filing.rng, contact.visit.start
    for ailment in ailments:
        if ailment.medication is None or ailment.since > at or rng.random() >= TOLD:
            continue
        relative = particulars.relatives[0]
        asserted = at + rng.randrange(2, 15) * MINUTE
        resource: Resource = {
            "resourceType": "MedicationStatement",
            "id": new_id(rng),
            "status": rng.choices(["active", "stopped", "entered-in-error"], [90, 8, 2])[0],
            **name_medication(filing, shelf, ailment.medication),
            # People remember the year, or the month.
            "effectivePeriod": {"start": local_date(ailment.since)[: rng.choice([4, 7])]},
            "dateAsserted": local(asserted),
        }
        planted: list[tuple[Letter, str, str]] = []
        if rng.random() < 0.3:
            resource["informationSource"] = {"display": relative.name}
            resource["note"] = [
                {"text": f"{relative.name} ({relative.word}, {relative.phone}) keeps the pill box"}
            ]
            planted = [
                ("A", "informationSource.display", relative.name),
                ("A", "note[0].text", relative.name),
                ("D", "note[0].text", relative.phone),
            ]
        else:
            resource["informationSource"] = reference("Patient", filing.person.id)
        if filing.add(resource, asserted, happens=asserted, contact=contact, place="context"):
            filing.plant(resource, planted)
