"""A crosswalk over a few patients, made by the real step from landed files and their extract."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deid.extract import extract
from deid.identity.crosswalk import crosswalk
from deid.identity.custody import Crosswalk
from deid.rules import Rules, load_rules
from exports.landing.zone import LandingZone, land_folder
from exports.sealed import Sealed
from tests.deid.resources import Resource, encounter, patient, write_ndjson

IDS = ("p1", "p2", "p3", "p4")
EXPORTED = datetime(2024, 7, 3, tzinfo=UTC)


def rules() -> Rules:
    """The rules for whatever places a patient in time."""
    return load_rules().only(())


def stays(who: str, years: Collection[int]) -> list[Resource]:
    """One stay a year, in a month of the patient's own."""
    month = 2 + IDS.index(who)
    return [
        encounter(
            f"e{who}-{year}",
            f"{year}-0{month}-02T00:00:00",
            f"{year}-0{month}-03T00:00:00",
            who=who,
        )
        for year in years
    ]


def people(told: Mapping[str, str], ids: Collection[str] = IDS) -> list[Resource]:
    """Patients of whom some are replaced by others; the eldest turn 90 in between."""
    made = []
    for key in ids:
        by = told.get(key, key)
        link = [{"other": {"reference": f"Patient/{by}"}, "type": "replaced-by"}]
        more: dict[str, Any] = {"link": link, "active": False} if by != key else {}
        identifier = [{"system": "urn:mrn", "value": f"mrn-{key}"}]
        made.append(patient(key, birthDate="1931-01-01", identifier=identifier, **more))
    return made


@dataclass(frozen=True)
class World:
    """A landing zone, its extract, and the work folder that both are in."""

    work: Path
    landing: LandingZone
    extracted: Sealed

    @property
    def phi(self) -> Path:
        return self.work / "phi"

    def crosswalk(self, left_out: Collection[str] = ()) -> Crosswalk:
        return crosswalk(
            self.extracted, self.landing, self.phi, rules(), left_out=frozenset(left_out)
        )


def world(
    work: Path,
    name: str = "one",
    told: Mapping[str, str] | None = None,
    years: Collection[int] = (2020, 2022),
    ids: Collection[str] = IDS,
) -> World:
    """Land these patients with their stays, and extract them."""
    resources = people(told or {}, ids) + [stay for key in ids for stay in stays(key, years)]
    source = write_ndjson(work / f"source-{name}", resources)
    landing = land_folder(source, work / "phi", transaction_time=EXPORTED)
    return World(work, landing, extract(landing, work / "phi", rules()))


def ledger(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def table(walk: Crosswalk, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = walk.read(name).to_pylist()
    return found
