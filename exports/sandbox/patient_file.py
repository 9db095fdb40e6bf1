"""What a Patient resource may hold besides: papers, photographs, household, employer."""

from __future__ import annotations

from random import Random
from typing import Final

from exports.sandbox.elements import BASE, TERMINOLOGY, Resource, concept
from exports.sandbox.filing import planted
from exports.sandbox.particulars import Particulars, Relative
from exports.sandbox.people import Person, typed_identifier
from exports.sandbox.truth import Letter, PlantedIdentifier

EXTENSION: Final = "https://ehr.example.org/fhir/StructureDefinition/"
BIRTH_TIME: Final = "http://hl7.org/fhir/StructureDefinition/patient-birthTime"
SHARES: Final = {
    "licence": 0.6,
    "account": 0.5,
    "passport": 0.1,
    "photo": 0.3,
    "photo_url": 0.15,
    "fingerprint": 0.25,
    "household": 0.5,
    "employer": 0.4,
    "portal": 0.3,
    "birth_time": 0.1,
    "study": 0.1,
    "unknown_field": 0.1,
}
"""Of patients."""


def complete_patient(
    rng: Random, person: Person, particulars: Particulars, patient: Resource
) -> list[PlantedIdentifier]:
    """Add to a Patient, in place, what some have; the identifiers that came with it."""
    found: list[tuple[Letter, str, str]] = []
    has = {name: rng.random() < share for name, share in SHARES.items()}

    def add(name: str, item: Resource, *leaves: tuple[Letter, str, str]) -> None:
        items = patient.setdefault(name, [])
        items.append(item)
        place = f"{name}[{len(items) - 1}]"
        found.extend((letter, f"{place}.{path}", value) for letter, path, value in leaves)

    papers: list[tuple[str, str, Letter, str]] = [
        ("licence", "DL", "K", particulars.licence),
        ("account", "AN", "J", particulars.account),
        ("passport", "PPN", "K", particulars.passport),
    ]
    for name, kind, letter, value in papers:
        if has[name]:
            item = typed_identifier(kind, f"{BASE}/sid/{name}", value)
            add("identifier", item, (letter, "value", value))
    if has["photo"]:
        title = f"{person.name}, front"
        item = {"contentType": "image/jpeg", "data": particulars.photo, "title": title}
        add("photo", item, ("Q", "data", particulars.photo), ("A", "title", person.name))
    if has["photo_url"]:
        item = {"contentType": "image/jpeg", "url": particulars.photo_url}
        add("photo", item, ("Q", "url", particulars.photo_url))
    if has["fingerprint"]:
        item = {"url": f"{EXTENSION}finger-print", "valueString": particulars.fingerprint}
        add("extension", item, ("P", "valueString", particulars.fingerprint))
    if has["study"]:
        item = {"url": f"{EXTENSION}research", "valueIdentifier": {"value": particulars.study}}
        add("extension", item, ("R", "valueIdentifier.value", particulars.study))
    if has["portal"]:
        item = {"system": "url", "value": particulars.portal}
        add("telecom", item, ("N", "value", particulars.portal))
        item = {
            "url": f"{EXTENSION}portal",
            "extension": [{"url": "seen-from", "valueString": particulars.address}],
        }
        add("extension", item, ("O", "extension[0].valueString", particulars.address))
    if has["household"]:
        relative = particulars.relatives[1]
        add("contact", _contact(relative), *_contact_leaves(relative))
    if has["employer"]:
        item = {
            "relationship": [concept(TERMINOLOGY + "v2-0131", "E", "Employer")],
            "organization": {"display": particulars.employer},
            "telecom": [{"system": "phone", "value": particulars.employer_phone}],
        }
        add(
            "contact",
            item,
            ("A", "organization.display", particulars.employer),
            ("D", "telecom[0].value", particulars.employer_phone),
        )
    if has["birth_time"]:
        born = f"{person.birth_date}T0{rng.randrange(10)}:{rng.randrange(10, 60)}:00-05:00"
        patient["_birthDate"] = {"extension": [{"url": BIRTH_TIME, "valueDateTime": born}]}
        found.append(("C", "_birthDate.extension[0].valueDateTime", born))
    if has["unknown_field"]:
        patient["localGuarantor"] = {"who": particulars.relatives[0].name, "ssn": person.ssn}
        found += [
            ("A", "localGuarantor.who", particulars.relatives[0].name),
            ("G", "localGuarantor.ssn", person.ssn),
        ]
    return planted(person, patient, found)


def _contact(relative: Relative) -> Resource:
    return {
        "relationship": [
            {**concept(TERMINOLOGY + "v3-RoleCode", relative.relation), "text": relative.word}
        ],
        "name": {"text": relative.name, "family": relative.family, "given": [relative.given]},
        "telecom": [{"system": "phone", "value": relative.phone}],
    }


def _contact_leaves(relative: Relative) -> list[tuple[Letter, str, str]]:
    return [
        ("A", "name.text", relative.name),
        ("A", "name.family", relative.family),
        ("A", "name.given[0]", relative.given),
        ("D", "telecom[0].value", relative.phone),
    ]
