"""What stands around laboratory results: the order, the specimen, and the report over a panel."""

from __future__ import annotations

from base64 import b64encode
from datetime import datetime
from functools import cache
from typing import Final

from exports.sandbox.catalog import listing
from exports.sandbox.clock import HOUR, MINUTE, local, local_date
from exports.sandbox.course import Reading
from exports.sandbox.elements import BASE, LOINC, TERMINOLOGY, Resource, concept, new_id
from exports.sandbox.filing import Contact, Filing
from exports.sandbox.observations import CATEGORIES
from exports.sandbox.truth import Letter

LEAST: Final = 2
"""Results that a report is written over."""
REPORTED: Final = 0.42
"""Of panels of which as many are there: a report over them."""
ORDERED: Final = 0.5
DRAWN: Final = 0.5
"""Of reports: with the order they answer, and with the specimen."""
PRESENTED: Final = 0.08
"""Of reports: with the text that was sent to the ward."""
REPORT: Final = """BAY COLONY LABORATORIES
{title}
Patient: {family}, {given}   MRN {mrn}   DOB {born}
Accession {accession}   Collected {collected}
{results}
Called to {attending}. Questions: 617-555-0133
"""


@cache
def panels() -> dict[str, tuple[tuple[str, ...], str, str, str]]:
    """LOINC panels: members, name, and the specimen's v2-0487 code and name."""
    return {
        row["loinc"]: (
            tuple(row["members"].split()),
            row["display"],
            row["specimen"],
            row["specimen_display"],
        )
        for row in listing("panels")
    }


def report_panels(filing: Filing, contact: Contact) -> None:
    """DiagnosticReports over a visit's results, some with ServiceRequest and Specimen."""
    rng = filing.rng
    results = {
        (each["code"]["coding"][0]["code"], each["effectiveDateTime"][:10]): each
        for each in contact.resources
        if each["resourceType"] == "Observation" and each["category"] is CATEGORIES["laboratory"]
    }
    if len(results) < LEAST:
        return
    for reading in contact.visit.readings:
        day = local_date(reading.at)
        for panel, (members, *_) in panels().items():
            there = [results[name, day] for name in members if (name, day) in results]
            if len(there) >= LEAST and rng.random() < REPORTED:
                _report(filing, contact, reading, panel, there)


def _report(
    filing: Filing, contact: Contact, reading: Reading, panel: str, there: list[Resource]
) -> None:
    rng, at = filing.rng, reading.at
    _, display, kind, kind_display = panels()[panel]
    booking, _ = contact.booked(at)
    accession = f"S{rng.randrange(10**11, 10**12)}"
    last = max(there, key=lambda each: str(each["issued"]))
    issued = int(datetime.fromisoformat(last["issued"]).timestamp())
    known = issued + rng.randrange(1, 20) * MINUTE
    resource: Resource = {
        "resourceType": "DiagnosticReport",
        "id": new_id(rng),
        "identifier": [{"system": f"{BASE}/sid/accession", "value": accession}],
        "status": rng.choices(["final", "amended", "entered-in-error"], [96, 3, 1])[0],
        "category": [concept(TERMINOLOGY + "v2-0074", "LAB", "Laboratory")],
        "code": concept(LOINC, panel, display),
        "effectiveDateTime": min(each["effectiveDateTime"] for each in there),
        "issued": local(known),
        "performer": [
            filing.refer("Organization", booking.organization.id, booking.organization.name)
        ],
        "result": [filing.refer("Observation", each["id"]) for each in there],
    }
    found: list[tuple[Letter, str, str]] = [("R", "identifier[0].value", accession)]
    if rng.random() < ORDERED:
        resource["basedOn"] = [_order(filing, contact, at, panel, display)]
    if rng.random() < DRAWN:
        resource["specimen"] = [_specimen(filing, at, known, accession, (kind, kind_display))]
    if rng.random() < PRESENTED:
        found += _present(filing, contact, resource, accession, there)
    if filing.add(resource, known, happens=at, contact=contact):
        filing.plant(resource, found)


def _order(filing: Filing, contact: Contact, at: int, panel: str, display: str) -> Resource:
    rng = filing.rng
    authored = max(contact.visit.start, at - rng.randrange(5, 90) * MINUTE)
    booking, _ = contact.booked(at)
    number = str(rng.randrange(4 * 10**10, 9 * 10**10))
    resource: Resource = {
        "resourceType": "ServiceRequest",
        "id": new_id(rng),
        "identifier": [
            {"type": concept(TERMINOLOGY + "v2-0203", "PLAC"), "value": number},
        ],
        "status": rng.choices(["completed", "active", "revoked"], [90, 7, 3])[0],
        "intent": "order",
        "category": [concept(TERMINOLOGY + "observation-category", "laboratory")],
        "code": concept(LOINC, panel, display),
        "authoredOn": local(authored),
        "requester": filing.refer("Practitioner", booking.attending.id, booking.attending.name),
    }
    if filing.add(resource, authored, happens=authored, contact=contact):
        filing.plant(resource, [("R", "identifier[0].value", number)])
    return filing.refer("ServiceRequest", resource["id"])


def _specimen(
    filing: Filing, at: int, known: int, accession: str, kind: tuple[str, str]
) -> Resource:
    rng = filing.rng
    resource: Resource = {
        "resourceType": "Specimen",
        "id": new_id(rng),
        "accessionIdentifier": {"system": f"{BASE}/sid/accession", "value": accession},
        "status": "available",
        "type": concept(TERMINOLOGY + "v2-0487", *kind),
        "receivedTime": local(min(known, at + rng.randrange(5, 20) * MINUTE)),
        "collection": {"collectedDateTime": local(at)},
    }
    if filing.add(resource, min(known, at + HOUR), happens=at):
        filing.plant(resource, [("R", "accessionIdentifier.value", accession)])
    return filing.refer("Specimen", resource["id"])


def _present(
    filing: Filing, contact: Contact, resource: Resource, accession: str, there: list[Resource]
) -> list[tuple[Letter, str, str]]:
    """Attach the report's text; the identifiers in it."""
    person, booking = filing.person, contact.bookings[0]
    fields: dict[str, tuple[Letter, str]] = {
        "family": ("A", person.family.upper()),
        "given": ("A", person.given.upper()),
        "mrn": ("H", person.mrn),
        "born": ("C", person.birth_date),
        "accession": ("R", accession),
        "collected": ("C", resource["effectiveDateTime"][:10]),
        "attending": ("A", booking.attending.name.removesuffix(", MD")),
    }
    lines = []
    for each in there:
        result = each.get("valueQuantity", {})
        told = f"{result.get('comparator', '')}{result.get('value')} {result.get('unit', '')}"
        lines.append(f"{each['code']['coding'][0]['display']:<60} {told}")
    text = REPORT.format(
        title=resource["code"]["coding"][0]["display"].upper(),
        results="\n".join(lines),
        **{name: value for name, (_, value) in fields.items()},
    )
    data = b64encode(text.encode()).decode()
    resource["presentedForm"] = [{"contentType": "text/plain; charset=utf-8", "data": data}]
    return [(letter, "presentedForm[0].data", value) for letter, value in fields.values()]
