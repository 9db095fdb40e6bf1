"""Who a patient is: a person with every kind of identifier, and their Patient resource.

Telephone numbers use the exchange 555 and social security numbers begin with 9, so that none can
belong to anyone.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from random import Random
from typing import Final

from exports.sandbox.catalog import names, places
from exports.sandbox.clock import YEAR, instant, local, local_date
from exports.sandbox.elements import (
    BASE,
    TERMINOLOGY,
    US_CORE,
    Resource,
    coding,
    concept,
    new_id,
)
from exports.sandbox.truth import Letter, PlantedIdentifier

RACES: Final = {
    "2106-3": ("White", 70),
    "2054-5": ("Black or African American", 14),
    "2028-9": ("Asian", 8),
    "1002-5": ("American Indian or Alaska Native", 2),
    "2131-1": ("Other Race", 6),
}
ETHNICITIES: Final = {
    "2186-5": ("Not Hispanic or Latino", 86),
    "2135-2": ("Hispanic or Latino", 14),
}
LANGUAGES: Final = {"en": 84, "es": 9, "pt": 4, "zh": 3}
MARITAL: Final = {"M": 50, "S": 25, "D": 12, "W": 13}
AREAS: Final = ("617", "508", "413", "401", "860", "603", "802", "207")
MRN_SPACE: Final = 90_000_000


@dataclass(frozen=True)
class Person:
    """One patient's identity. `born` is in seconds since 1970, dates and codes as in FHIR."""

    id: str
    mrn: str
    ssn: str
    member: str
    male: bool
    given: str
    middle: str
    family: str
    born: int
    phone: str
    fax: str
    email: str
    line: str
    city: str
    state: str
    zip: str
    relative: str
    relative_phone: str
    race: str
    ethnicity: str
    language: str
    marital: str

    @property
    def name(self) -> str:
        """Given and family name."""
        return f"{self.given} {self.family}"

    @property
    def birth_date(self) -> str:
        """The FHIR date of birth."""
        return local_date(self.born)


def make_person(rng: Random, *, seed: int, index: int, entry: int) -> Person:
    """The person that `index` is, an adult when first seen at `entry`."""
    lists = names()
    male = rng.random() < 0.48
    given, middle = rng.sample(lists["male" if male else "female"], 2)
    family = rng.choice(lists["family"])
    age = rng.uniform(84, 95) if rng.random() < 0.05 else min(94.0, max(18.1, rng.gauss(60, 17)))
    city, state, zip_code = rng.choice(places())
    relative = rng.choice(lists["female" if male else "male"])
    return Person(
        id=new_id(rng),
        # A bijection of the index: record numbers are unique without being compared.
        mrn=str(10_000_000 + (index * 48_271_019 + seed * 7_919) % MRN_SPACE),
        ssn=f"9{rng.randrange(100):02d}-{rng.randrange(10, 100)}-{rng.randrange(1000, 10000)}",
        member=f"W{rng.randrange(10**8, 10**9)}",
        male=male,
        given=given,
        middle=middle,
        family=family,
        born=entry - int(age * YEAR),
        phone=_phone(rng),
        fax=_phone(rng),
        email=f"{_ascii(given)}.{_ascii(family)}{rng.randrange(10, 9999)}@mail.example.org",
        line=f"{rng.randrange(1, 2400)} {rng.choice(lists['streets'])}",
        city=city,
        state=state,
        zip=zip_code,
        relative=f"{relative} {family if rng.random() < 0.6 else rng.choice(lists['family'])}",
        relative_phone=_phone(rng),
        race=_choose(rng, {code: weight for code, (_, weight) in RACES.items()}),
        ethnicity=_choose(rng, {code: weight for code, (_, weight) in ETHNICITIES.items()}),
        language=_choose(rng, LANGUAGES),
        marital=_choose(rng, MARITAL),
    )


def patient_resource(person: Person, *, death: int | None, updated: int) -> Resource:
    """The US Core Patient of a person."""
    gender = "male" if person.male else "female"
    given, family = person.relative.split(" ", 1)
    patient: Resource = {
        "resourceType": "Patient",
        "id": person.id,
        "meta": {"lastUpdated": instant(updated), "profile": [US_CORE + "us-core-patient"]},
        "text": {
            "status": "generated",
            "div": f'<div xmlns="http://www.w3.org/1999/xhtml">{person.name}, MRN {person.mrn}, '
            f"born {person.birth_date}</div>",
        },
        "extension": [
            _us_core("race", person.race, RACES[person.race][0]),
            _us_core("ethnicity", person.ethnicity, ETHNICITIES[person.ethnicity][0]),
            {"url": US_CORE + "us-core-birthsex", "valueCode": "M" if person.male else "F"},
        ],
        "identifier": [
            typed_identifier("MR", f"{BASE}/sid/mrn", person.mrn),
            typed_identifier("SS", "http://hl7.org/fhir/sid/us-ssn", person.ssn),
            typed_identifier("MB", "https://payer.example.org/member", person.member),
        ],
        "active": True,
        "name": [
            {"use": "official", "family": person.family, "given": [person.given, person.middle]}
        ],
        "telecom": [
            {"system": "phone", "value": person.phone, "use": "home"},
            {"system": "email", "value": person.email},
            {"system": "fax", "value": person.fax, "use": "work"},
        ],
        "gender": gender,
        "birthDate": person.birth_date,
        "address": [
            {
                "use": "home",
                "line": [person.line],
                "city": person.city,
                "state": person.state,
                "postalCode": person.zip,
                "country": "US",
            }
        ],
        "maritalStatus": concept(TERMINOLOGY + "v3-MaritalStatus", person.marital),
        "contact": [
            {
                "relationship": [concept(TERMINOLOGY + "v2-0131", "N", "Next-of-Kin")],
                "name": {"family": family, "given": [given]},
                "telecom": [{"system": "phone", "value": person.relative_phone}],
            }
        ],
        "communication": [
            {"language": concept("urn:ietf:bcp:47", person.language), "preferred": True}
        ],
    }
    if death is not None:
        patient["deceasedDateTime"] = local(death)
    return patient


def patient_identifiers(person: Person, death: int | None) -> list[PlantedIdentifier]:
    """Where the Patient resource of `patient_resource` holds which identifier."""
    relative, relative_family = person.relative.split(" ", 1)
    planted: list[tuple[Letter, str, str]] = [
        ("A", "name[0].family", person.family),
        ("A", "name[0].given[0]", person.given),
        ("A", "name[0].given[1]", person.middle),
        ("A", "contact[0].name.family", relative_family),
        ("A", "contact[0].name.given[0]", relative),
        ("A", "text.div", person.name),
        ("B", "address[0].line[0]", person.line),
        ("B", "address[0].city", person.city),
        ("B", "address[0].postalCode", person.zip),
        ("C", "birthDate", person.birth_date),
        ("C", "text.div", person.birth_date),
        ("D", "telecom[0].value", person.phone),
        ("D", "contact[0].telecom[0].value", person.relative_phone),
        ("E", "telecom[2].value", person.fax),
        ("F", "telecom[1].value", person.email),
        ("G", "identifier[1].value", person.ssn),
        ("H", "identifier[0].value", person.mrn),
        ("H", "text.div", person.mrn),
        ("I", "identifier[2].value", person.member),
        ("R", "id", person.id),
    ]
    if death is not None:
        planted.append(("C", "deceasedDateTime", local(death)))
    return [
        PlantedIdentifier(person.id, letter, f"Patient.{path}", value, person.id)
        for letter, path, value in planted
    ]


def _us_core(name: str, code: str, display: str) -> Resource:
    return {
        "url": f"{US_CORE}us-core-{name}",
        "extension": [
            {
                "url": "ombCategory",
                "valueCoding": coding("urn:oid:2.16.840.1.113883.6.238", code, display),
            },
            {"url": "text", "valueString": display},
        ],
    }


def typed_identifier(kind: str, system: str, value: str) -> Resource:
    """An Identifier of a v2-0203 kind."""
    return {"type": concept(TERMINOLOGY + "v2-0203", kind), "system": system, "value": value}


def _phone(rng: Random) -> str:
    return f"{rng.choice(AREAS)}-555-{rng.randrange(10_000):04d}"


def _choose(rng: Random, weights: dict[str, int]) -> str:
    return rng.choices(list(weights), list(weights.values()))[0]


def _ascii(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return "".join(letter for letter in plain if letter.isalpha())
