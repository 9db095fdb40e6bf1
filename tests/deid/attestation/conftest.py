"""Attested runs: small ones, made once, of which each test gets a copy."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from deid.deidentify import Deidentified, deidentify
from deid.rules import Rules, load_rules
from exports.landing.zone import land_folder
from tests.deid.resources import (
    Resource,
    condition,
    encounter,
    observation,
    patient,
    write_ndjson,
)

PLANTED = "Hamanova 555-12-3456"
Attest = Callable[..., Deidentified]


def stays(patients: int = 12, **more: Any) -> list[Resource]:
    """Patients with a stay, a creatinine and a diagnosis each; `more` is every patient's.

    One more has the planted identifier wherever a file can have it, members' names included.
    """
    planted = patient("p77", **{PLANTED: PLANTED, "extension": [{"url": f"x:{PLANTED}"}]})
    told: list[Resource] = [planted]
    for number in range(patients):
        who = f"p{number}"
        told += [
            patient(who, gender="female", name=[{"family": PLANTED, "given": ["Jana"]}], **more),
            encounter(f"e{number}", "2020-03-01T10:00:00", "2020-03-04T10:00:00", who),
            observation(f"o{number}", "2020-03-02T09:00:00", who),
            condition(f"c{number}", who=who, onsetDateTime="2020-03-01T11:00:00"),
        ]
    return told


def few_views(rules: Rules) -> Rules:
    """The rules with the views that these patients have resources for: proofs take less time."""
    return rules.only({"observation", "condition"})


def attest(work: Path, resources: Sequence[Resource], rules: Rules | None = None) -> Deidentified:
    source = write_ndjson(work.parent / f"{work.name}-source", resources)
    when = datetime.fromisoformat("2024-07-03T00:00:00")
    landing = land_folder(source, work / "phi", transaction_time=when)
    declared = frozenset({"loinc:2160-0", "icd10cm:I50*"})
    return deidentify(landing, work, declared=declared, rules=few_views(rules or load_rules()))


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Deidentified:
    """One attested run; not to be written to."""
    return attest(tmp_path_factory.mktemp("attested") / "work", stays())


@pytest.fixture
def work(made: Deidentified, tmp_path: Path) -> Path:
    """A copy of that run's work folder."""
    copied = tmp_path / "work"
    shutil.copytree(made.tables.sealed.path.parents[2], copied, symlinks=True)
    return copied
