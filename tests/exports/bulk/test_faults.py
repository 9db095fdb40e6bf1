"""Every fault of a server that has a name: the same records all the same, or a clear failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from exports.bulk.export import export
from exports.bulk.profile import load_profile
from exports.connection.transport import Patience
from exports.errors import FhirloomError
from exports.landing.delivery import file_chunks
from exports.landing.ndjson import read_lines, unpack
from exports.landing.reconcile import Policy
from exports.landing.zone import LandingZone, open_landing
from exports.options import DEFAULT_OPTIONS, ExportOptions
from exports.sandbox.cohort import patient_of
from exports.sandbox.faults import FAULTS
from exports.sandbox.queries import read_type_filter
from tests.exports.ward import TYPES, Record, Resource, records, write_ward

HASTE = Patience(retries=4, first_wait=0.01, longest_wait=0.02)
LAB = "Observation?category=laboratory"
SINCE = datetime(2025, 6, 15, tzinfo=UTC)
STRICT = ExportOptions(policy=Policy.of("missing-type=fail"))
WIDER = ExportOptions(allow_wider=True)


@dataclass(frozen=True)
class Case:
    """What a fault needs to have something to strike, and which records must come then."""

    asked: Mapping[str, Any] = field(default_factory=dict)
    options: ExportOptions = DEFAULT_OPTIONS
    manner: Mapping[str, Any] = field(default_factory=dict)
    kept: Callable[[Resource], bool] = lambda resource: True
    seen: Callable[[Resource], Resource] = lambda resource: resource


def is_lab(resource: Resource) -> bool:
    return read_type_filter(LAB)[1](resource)


def only_value(resource: Resource) -> Resource:
    """What is left of an Observation of which `valueQuantity` alone was asked for."""
    tag = {"system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue"}
    kept = ("resourceType", "id", "meta", "status", "code", "valueQuantity")
    meta = {**resource["meta"], "tag": [{**tag, "code": "SUBSETTED"}]}
    return {**{name: resource[name] for name in kept}, "meta": meta}


CASES = {
    "rejects-type-filter": Case(
        {"types": ("Observation",), "type_filters": (LAB,)}, WIDER, kept=is_lab
    ),
    "rejects-elements": Case(
        {"types": ("Observation",), "elements": ("Observation.valueQuantity",)},
        WIDER,
        kept=lambda resource: resource["resourceType"] == "Observation",
        seen=only_value,
    ),
    "rejects-since": Case(
        {"types": ("Patient",), "since": SINCE},
        WIDER,
        kept=lambda resource: (
            resource["resourceType"] == "Patient"
            and datetime.fromisoformat(resource["meta"]["lastUpdated"]) > SINCE
        ),
    ),
    "rejects-patient": Case(
        {"level": "patient", "patients": ("p-1", "p-4")},
        WIDER,
        kept=lambda resource: patient_of(resource) in ("", "p-1", "p-4"),
    ),
    "get-only": Case(manner={"version": "STU4"}),
    "type-missing-single-row": Case({"types": TYPES}, STRICT),
    "outcome-files": Case(manner={"version": "STU4"}),
    "one-unknown-scope": Case({"types": TYPES}),
}
ALONE = {
    # Each of these needs a request of its own, or leaves nothing to tell another fault by.
    *CASES,
    "post-only",
    "no-counts",
}
RIVALS = {"page-two-same-names", "partial-manifests"}
TOGETHER = [
    ("many-tiny-files", "rate-limit"),
    ("redirect-to-store", "expired-urls", "slow-body-cut-resumable", "token-refused-midway"),
    ("page-two-same-names", "job-lost-midway", "truncated-gzip", "count-as-string"),
    ("organized-by-patient", "gzip-without-header", "bad-lines", "never-error-member"),
]


def drawn(seed: int, size: int = 4) -> tuple[str, ...]:
    """Faults to be had at once, whatever is asked for."""
    random = Random(seed)  # noqa: S311 - a choice, no secret
    common = [name for name in FAULTS.keys() - ALONE if FAULTS[name].outcome == "same records"]
    while set(names := random.sample(sorted(common), size)) >= RIVALS:
        pass
    return tuple(names)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses between polls of some hundredths of a second, whatever the server asks for."""
    profile = replace(load_profile("generic"), poll_seconds=(0.01, 0.05))
    for name in ("exports.bulk.export.load_profile", "exports.bulk.export.profile_for"):
        monkeypatch.setattr(name, lambda *_: profile)


@pytest.fixture
def ward(tmp_path: Path) -> list[Resource]:
    return write_ward(tmp_path / "ward")


def landed(zone: LandingZone) -> set[Record]:
    """What is in a landing zone, as a set of (type, id, content)."""

    def resources() -> Iterator[Resource]:
        for resource_type in zone.rows():
            for path in zone.paths(resource_type):
                for _, _, line in read_lines(unpack(file_chunks(path))):
                    if line.strip():
                        yield orjson.loads(line)

    return records(resources())


def sealed(phi: Path) -> bool:
    try:
        open_landing(phi)
    except FhirloomError:
        return False
    return True


@pytest.mark.parametrize("name", FAULTS)
def test_the_same_records_or_a_clear_failure(
    start_ehr: Callable[..., Any], tmp_path: Path, ward: list[Resource], name: str
) -> None:
    fault, case = FAULTS[name], CASES.get(name, Case())
    ehr = start_ehr(folder=tmp_path / "ward", faults=(name,), **case.manner)
    request, phi = replace(ehr.request, **case.asked), tmp_path / "work" / "phi"
    expected = records(case.seen(resource) for resource in ward if case.kept(resource))
    if fault.outcome == "clear failure":
        with pytest.raises(FhirloomError) as raised:
            export(request, phi, options=case.options, patience=HASTE)
        assert raised.value.code in ("server", "incomplete")
        assert "http" not in str(raised.value)
        assert "p-1" not in str(raised.value)
        assert not sealed(phi)
        assert ehr.mischief.memory.strikes[name]
        ehr.mischief.faults.clear()
    zone = export(request, phi, options=case.options, patience=HASTE)
    assert landed(zone) == expected
    assert ehr.mischief.memory.strikes[name], "the fault had nothing to strike"
    assert ehr.mischief.memory.leaks == 0


@pytest.mark.parametrize("names", [*TOGETHER, *map(drawn, range(6))], ids="+".join)
def test_several_at_once(
    start_ehr: Callable[..., Any], tmp_path: Path, ward: list[Resource], names: tuple[str, ...]
) -> None:
    ehr = start_ehr(folder=tmp_path / "ward", faults=names)
    zone = export(ehr.request, tmp_path / "phi", patience=HASTE)
    assert landed(zone) == records(ward)
    # Some answer in the place of others: not all of them can be seen.
    assert ehr.mischief.memory.strikes.keys() & set(names)
    assert ehr.mischief.memory.leaks == 0


def test_at_a_rate_requests_are_struck_by_chance_and_everything_arrives(
    start_ehr: Callable[..., Any], tmp_path: Path, ward: list[Resource]
) -> None:
    names = ("cut-socket", "truncated-gzip", "bad-gateway", "many-tiny-files")
    ehr = start_ehr(folder=tmp_path / "ward", faults=names, rate=0.1, seed=5)
    patience = replace(HASTE, retries=8)
    assert landed(export(ehr.request, tmp_path / "phi", patience=patience)) == records(ward)
    assert ehr.mischief.memory.strikes["cut-socket"]


def test_the_table_tells_each_fault_in_plain_sentences() -> None:
    for name, fault in FAULTS.items():
        assert name == fault.name
        assert name.replace("-", "").isalnum()
        assert name.islower()
        assert fault.where
        for sentence in (fault.what, fault.then):
            assert sentence[0].isupper() or sentence[0].isdigit()
            assert sentence.endswith(".")
