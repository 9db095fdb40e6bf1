"""The hospital's own resources: its Organizations and Practitioners, from the seed alone."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Final

from exports.sandbox.catalog import names
from exports.sandbox.clock import instant, moment
from exports.sandbox.elements import TERMINOLOGY, US_CORE, Resource, concept, new_id

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


@cache
def staff(seed: int) -> Staff:
    """The staff of the hospital that a seed makes."""
    rng = Random(f"{seed}:staff")  # noqa: S311 - synthetic data, not secrets
    houses = [_organization(rng, name) for name in ORGANIZATIONS]
    people = [_practitioner(rng) for _ in range(PRACTITIONERS)]
    return Staff(
        tuple(
            Member(each["id"], f"{each['name'][0]['given'][0]} {each['name'][0]['family']}, MD")
            for each in people
        ),
        tuple(Member(each["id"], each["name"]) for each in houses),
        (*houses, *people),
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
