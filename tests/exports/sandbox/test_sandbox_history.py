"""The hospital at one time and another: they differ by what was updated in between."""

from __future__ import annotations

from datetime import UTC, datetime

import orjson
import pytest

from exports.sandbox.elements import Resource
from exports.sandbox.population import PatientRecord
from exports.sandbox.snapshots import as_it_was

Newest = dict[tuple[str, str], bytes]
BEFORE = datetime(2023, 4, 1, tzinfo=UTC)
AFTER = datetime(2025, 2, 1, tzinfo=UTC)


def updated(resource: Resource) -> datetime:
    return datetime.fromisoformat(resource["meta"]["lastUpdated"])


def newest(resources: list[Resource]) -> Newest:
    """The newest version of each resource."""
    ordered = sorted(resources, key=updated)
    return {(each["resourceType"], each["id"]): orjson.dumps(each) for each in ordered}


@pytest.fixture(scope="module")
def seen(records: list[PatientRecord]) -> list[tuple[list[Resource], list[Resource]]]:
    """Each patient's resources at the one time and the other."""
    return [(as_it_was(r, BEFORE).resources, as_it_was(r, AFTER).resources) for r in records]


def test_what_came_since_makes_the_one_into_the_other(
    seen: list[tuple[list[Resource], list[Resource]]],
) -> None:
    changed = 0
    for before, after in seen:
        since = [resource for resource in after if updated(resource) > BEFORE]
        assert newest(before + since) == newest(after)
        changed += bool(newest(since).keys() & newest(before).keys())
    assert changed > len(seen) / 3, "hardly anything was updated"


def test_nothing_is_later_than_the_moment_and_every_patient_is_there(
    seen: list[tuple[list[Resource], list[Resource]]],
) -> None:
    for before, after in seen:
        for resources, at in ((before, BEFORE), (after, AFTER)):
            assert all(updated(resource) <= at for resource in resources)
            patients = {r["id"] for r in resources if r["resourceType"] == "Patient"}
            assert len(patients) == bool(resources)


def test_at_the_end_it_is_the_hospital_itself(records: list[PatientRecord]) -> None:
    for record in records:
        assert as_it_was(record, datetime(2025, 10, 1, tzinfo=UTC)) == record
