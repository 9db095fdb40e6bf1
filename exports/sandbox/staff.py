"""The hospital's own resources: its Organizations and Practitioners, from the seed alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Final

from exports.sandbox.catalog import names
from exports.sandbox.clock import instant, moment
from exports.sandbox.elements import TERMINOLOGY, US_CORE, Resource, concept, new_id
from exports.sandbox.truth import Letter, PlantedIdentifier

ORGANIZATIONS: Final = (
    "Bay Colony Medical Center",
    "Bay Colony Rehabilitation Pavilion",
    "Bay Colony Primary Care",
)
PRACTITIONERS: Final = 60
OPENED: Final = moment(2017, 6)


@dataclass(frozen=True)
class Member:
    """A Practitioner or Organization to refer to."""

    id: str
    name: str


@dataclass(frozen=True)
class Staff:
    """Who works here. Organizations: the main house, the pavilion and the clinic."""

    practitioners: tuple[Member, ...]
    organizations: tuple[Member, ...]
    resources: tuple[Resource, ...]
    identifiers: tuple[PlantedIdentifier, ...]


@cache
def staff(seed: int) -> Staff:
    """The staff of the hospital that a seed makes."""
    rng = Random(f"{seed}:staff")  # noqa: S311 - synthetic data, not secrets
    houses = [_organization(rng, name) for name in ORGANIZATIONS]
    people = [_practitioner(rng) for _ in range(PRACTITIONERS)]
    boards = Random(f"{seed}:boards")  # noqa: S311 - synthetic data, not secrets
    for each in people:
        _license(boards, each)
    return Staff(
        tuple(
            Member(each["id"], f"{each['name'][0]['given'][0]} {each['name'][0]['family']}, MD")
            for each in people
        ),
        tuple(Member(each["id"], each["name"]) for each in houses),
        (*houses, *people),
        tuple(found for each in people for found in _identifiers(each)),
    )


def _organization(rng: Random, name: str) -> Resource:
    return {
        "resourceType": "Organization",
        "id": new_id(rng),
        "meta": {"lastUpdated": instant(OPENED), "profile": [US_CORE + "us-core-organization"]},
        "active": True,
        "type": [concept(TERMINOLOGY + "organization-type", "prov", "Healthcare Provider")],
        "name": name,
        "telecom": [{"system": "phone", "value": f"617-555-{rng.randrange(10_000):04d}"}],
        "address": [
            {
                "line": [f"{rng.randrange(1, 900)} {rng.choice(names()['streets'])}"],
                "city": "Boston",
                "state": "MA",
                "postalCode": "02114",
            }
        ],
    }


def _practitioner(rng: Random) -> Resource:
    gender = rng.choice(["female", "male"])
    given, family = rng.choice(names()[gender]), rng.choice(names()["family"])
    return {
        "resourceType": "Practitioner",
        "id": new_id(rng),
        "meta": {"lastUpdated": instant(OPENED), "profile": [US_CORE + "us-core-practitioner"]},
        "identifier": [
            {
                "system": "http://hl7.org/fhir/sid/us-npi",
                "value": str(rng.randrange(1_000_000_000, 2_000_000_000)),
            }
        ],
        "active": True,
        "name": [{"family": family, "given": [given], "prefix": ["Dr."]}],
        "telecom": [{"system": "phone", "value": f"617-555-{rng.randrange(10_000):04d}"}],
        "gender": gender,
    }


def _license(rng: Random, practitioner: Resource) -> None:
    """Say, in place, by which license somebody practises."""
    number = f"MD{rng.randrange(3 * 10**9, 10**10)}"
    practitioner["qualification"] = [
        {
            "identifier": [{"system": "https://boards.example.org/medicine", "value": number}],
            "code": concept(TERMINOLOGY + "v2-0360", "MD", "Doctor of Medicine"),
        }
    ]


def _identifiers(practitioner: Resource) -> list[PlantedIdentifier]:
    name, license_held = practitioner["name"][0], practitioner["qualification"][0]["identifier"][0]
    planted: list[tuple[Letter, str, str]] = [
        ("A", "name[0].family", name["family"]),
        ("A", "name[0].given[0]", name["given"][0]),
        ("D", "telecom[0].value", practitioner["telecom"][0]["value"]),
        ("K", "qualification[0].identifier[0].value", license_held["value"]),
        ("R", "identifier[0].value", practitioner["identifier"][0]["value"]),
    ]
    return [
        PlantedIdentifier("", letter, f"Practitioner.{path}", value, practitioner["id"])
        for letter, path, value in planted
    ]
