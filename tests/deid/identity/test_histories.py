"""Random histories: merges, partings, more and less delivered, removals and rotations.

Whatever happens, a number is one person's and one stay's, its zero never moves, it is never given
again, and nobody who was removed is there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from deid.engine import connect, fetch
from deid.identity.custody import Crosswalk
from deid.identity.orders import all_ids_of
from deid.identity.persons import bind_persons
from deid.identity.removal import remove_patients
from deid.identity.rotation import rotate_surrogates
from tests.deid.identity.small_world import IDS, World, rules, table, world

YEARS = ((2020, 2022), (2018, 2020, 2022))
"""What is delivered: more as time goes by, and also of the past."""


@dataclass(frozen=True)
class Turn:
    """One delivery, and what is ordered before it."""

    told: Mapping[str, str]
    delivered: int = 0
    removed: str = ""
    rotated: bool = False


MERGED, TURNED, ALL = {"p2": "p1"}, {"p1": "p2"}, {"p2": "p1", "p3": "p1"}
TURNS = st.builds(
    Turn,
    told=st.sampled_from(({}, MERGED, TURNED, ALL)),
    delivered=st.integers(0, len(YEARS) - 1),
    removed=st.sampled_from(("", "", *IDS)),
    rotated=st.booleans(),
)


@dataclass
class Witness:
    """What was ever said of a number."""

    zeros: dict[int, Any] = field(default_factory=dict)
    owners: dict[int, tuple[str, Any]] = field(default_factory=dict)
    over: set[int] = field(default_factory=set)
    removed: set[str] = field(default_factory=set)

    def sees(self, walk: Crosswalk, made: World, told: Mapping[str, str]) -> None:
        present = {name: table(walk, name) for name in ("patients", "issued", "encounters")}
        out = all_ids_of(self.removed, [made.landing], told)
        named = {row["patient_id"] for rows in present.values() for row in rows}
        retired = table(walk, "retired")
        # Whoever was the same person when it was ordered went too, and stays away.
        removed = {row["patient_id"] for row in table(walk, "removed")}
        assert out <= removed
        assert not removed & (named | {row["patient_id"] for row in retired})
        persons: dict[int, set[str]] = {}
        for row in present["patients"]:
            person = told.get(row["patient_id"], row["patient_id"])
            persons.setdefault(row["surrogate"], set()).add(person)
        assert all(len(each) == 1 for each in persons.values())
        for row in (*present["patients"], *present["issued"]):
            fixed = (row["zero"], row["anchor_year"], row["old"])
            assert self.zeros.setdefault(row["surrogate"], fixed) == fixed
        for row in (*present["issued"], *present["encounters"]):
            owner = (row["patient_id"], row.get("encounter_id", row.get("old")))
            assert self.owners.setdefault(row["surrogate"], owner) == owner
        current = {row["surrogate"] for rows in present.values() for row in rows}
        assert len(self.owners.keys() & current) == len(current)
        before = self.over
        self.over = {row["surrogate"] for row in retired}
        assert before <= self.over
        assert not current & self.over
        assert self.owners.keys() <= current | self.over
        assert self._kept(walk, made).isdisjoint(removed)

    def _kept(self, walk: Crosswalk, made: World) -> set[str]:
        """Whose rows the tables would be made from."""
        with connect() as connection:
            links, removed = walk.read("links"), walk.read("removed")
            bind_persons(connection, made.extracted, rules(), links, removed)
            rows = "FROM patient UNION ALL BY NAME FROM admission"
            kept = f"SELECT DISTINCT patient_id FROM ({rows}) WHERE dropped IS NULL"
            return set(fetch(connection, kept)["patient_id"].to_pylist())


Deliveries = Callable[[Path, Turn], World]


@pytest.fixture(scope="module")
def deliveries(tmp_path_factory: pytest.TempPathFactory) -> Deliveries:
    """Each delivery is landed and extracted once, for the work folders of all histories."""

    @cache
    def landed(told: frozenset[tuple[str, str]], delivered: int) -> World:
        folder = tmp_path_factory.mktemp("delivery")
        return world(folder, told=dict(told), years=YEARS[delivered])

    return lambda work, turn: replace(
        landed(frozenset(turn.told.items()), turn.delivered), work=work
    )


@settings(max_examples=4, deadline=None, phases=[Phase.explicit, Phase.generate])
@example([Turn({}), Turn(MERGED, removed="p2"), Turn({}, 1)]).via("parted after a removal")
@example([Turn(MERGED, 1), Turn({}, rotated=True), Turn(MERGED, 1)]).via("rotated while parted")
@example([Turn({}), Turn({}, removed="p2"), Turn(TURNED), Turn({}, 1)]).via("merged with one")
@example([Turn(MERGED, removed="p1"), Turn(MERGED, rotated=True)]).via("removed, then merged")
@given(st.lists(TURNS, min_size=2, max_size=3))
def test_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory, deliveries: Deliveries, history: list[Turn]
) -> None:
    work = tmp_path_factory.mktemp("history")
    witness = Witness()
    for turn in history:
        if turn.removed:
            remove_patients(work, [turn.removed], "asked for it")
            witness.removed.add(turn.removed)
        before = set(witness.owners)
        if turn.rotated:
            rotate_surrogates(work / "phi", "another recipient")
        made = deliveries(work, turn)
        walk = made.crosswalk()
        witness.sees(walk, made, turn.told)
        if turn.rotated:
            assert before <= witness.over
        again = made.crosswalk().sealed
        assert (again.digest, again.path) == (walk.sealed.digest, walk.sealed.path)


def test_a_step_that_forgets_what_was_retired_is_caught(
    deliveries: Deliveries, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control: numbers are given again, and the witness says so."""
    given_before = iter(range(1, 10_000))

    def again(count: int, taken: NDArray[np.int64]) -> NDArray[np.int64]:
        return np.array([next(given_before) % 12 + 1 for _ in range(count)], np.int64)

    monkeypatch.setattr("deid.identity.crosswalk.draw_surrogates", again)
    witness, turn = Witness(), Turn({}, 1)
    made = deliveries(tmp_path, turn)
    walk = made.crosswalk()
    with pytest.raises(AssertionError):
        witness.sees(walk, made, turn.told)
