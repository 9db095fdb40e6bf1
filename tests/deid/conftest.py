"""The way from resources written by hand to research tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import pytest

from deid.deidentify import Deidentified, deidentify
from deid.proofs import canary, metamorphic
from deid.proofs.proof import Verdict
from deid.rules import Rules, load_rules
from exports.landing.zone import land_folder
from tests.deid.resources import Resource, write_ndjson


@pytest.fixture(autouse=True, scope="module")
def short_runs() -> Iterator[None]:
    """The proofs that rehearse take seconds of every run, and have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        for name, proof in (("canary", canary), ("metamorphic", metamorphic)):
            stub = Verdict(name, True, {"rehearsed": False})
            patch.setattr(proof, "verdict", lambda *_, stub=stub, **__: stub)
        yield


def in_use(resources: Sequence[Resource]) -> Rules:
    """The shipped rules with the views of these resources: an empty table takes time as well."""
    rules, types = load_rules(), {resource["resourceType"] for resource in resources}
    named = {view.name for view in rules.views if view.view.resource in types}
    return rules.only(named | {"condition", "observation"})


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
        return deidentify(landing, work, declared=declared, rules=rules or in_use(resources))

    return deidentified
