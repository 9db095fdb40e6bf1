"""How far a merge strayed is counted by type, and what changed since is no drift."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from exports.increments.drift import Drift, measure_drift
from exports.increments.standing import Delivery
from tests.exports.increments.test_merge import Deliveries, observation, patient

NOON = datetime(2026, 2, 1, 12, tzinfo=UTC)
BEFORE, AFTER = "2026-02-01T13:00:00+02:00", "2026-02-01T12:00:00.001Z"


@pytest.fixture
def deliver(tmp_path: Path) -> Deliveries:
    return Deliveries(tmp_path)


def test_rows_that_one_side_lacks_or_has_otherwise(deliver: Deliveries) -> None:
    base = deliver(
        [patient("a", BEFORE), patient("gone", BEFORE), patient("other", BEFORE)],
        [observation("1", "a", BEFORE)],
    )
    changes = deliver([patient("a", BEFORE, number=2)], deleted=["Observation/1"])
    full = deliver(
        [
            patient("a", BEFORE, number=2),
            patient("other", BEFORE, number=2),
            patient("passed-over", BEFORE),
            patient("untold"),
        ],
    )
    merged = [Delivery(base), Delivery(changes)]
    found = measure_drift(deliver.phi, merged, [Delivery(full, whole=None)], as_of=NOON)
    assert found == {
        "Observation": Drift(0, 0, 0, 0),
        "Patient": Drift(rows=4, missing=2, extra=1, different=1),
    }
    assert found["Observation"].none
    assert not found["Patient"].none
    assert list(deliver.phi.glob("*/.drift-*")) == []


def test_what_changed_after_the_merge_s_time_is_no_drift(deliver: Deliveries) -> None:
    merged = deliver([patient("a", BEFORE), patient("b", BEFORE)])
    full = deliver([patient("a", AFTER, number=2), patient("b", BEFORE), patient("new", AFTER)])
    found = measure_drift(deliver.phi, [Delivery(merged)], [Delivery(full)], as_of=NOON)
    assert found == {"Patient": Drift(rows=1, missing=0, extra=0, different=0)}


def test_types_that_are_not_asked_for_are_not_compared(deliver: Deliveries) -> None:
    merged = deliver([patient("a")], [observation("1", "a")])
    full = deliver([patient("a")])
    found = measure_drift(
        deliver.phi, [Delivery(merged)], [Delivery(full)], types=["Patient"], as_of=NOON
    )
    assert found == {"Patient": Drift(1, 0, 0, 0)}
