"""The way from resources written by hand to research tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

import pytest

from deid.deidentify import Deidentified, deidentify
from deid.rules import Rules
from exports.landing.zone import land_folder
from tests.deid.resources import Resource, write_ndjson


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Deidentified]:
    """De-identify resources in a work folder of the test."""

    def deidentified(
        resources: Sequence[Resource],
        exported: str | None = "2024-07-03T00:00:00",
        rules: Rules | None = None,
        name: str = "one",
        declared: frozenset[str] = frozenset({"loinc:2160-0", "icd10cm:I50*"}),
    ) -> Deidentified:
        source = write_ndjson(tmp_path / f"source-{name}", resources)
        work = tmp_path / "work"
        when = datetime.fromisoformat(exported) if exported else None
        landing = land_folder(source, work / "phi", transaction_time=when)
        return deidentify(landing, work, declared=declared, rules=rules)

    return deidentified
