"""Killed before every change to the folder, a command that is repeated ends as an unbroken one."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from deid.identity.custody import open_crosswalk
from deid.identity.holders import find_holders
from deid.identity.orders import REMOVED, ROTATED
from tests.deid.identity.mortal import chain_of_kills
from tests.deid.identity.small_world import World, ledger, table, world
from tests.deid.identity.test_removal import sealed_rows


@pytest.fixture
def made(tmp_path: Path) -> World:
    return world(tmp_path, told={"p3": "p1"})


def leftovers(work: Path) -> list[Path]:
    """Folders that were half-made or half-removed."""
    return [path for path in work.rglob(".*") if path.is_dir() and not path.is_symlink()]


def zeros(made: World) -> dict[tuple[str, bool], object]:
    return {
        (row["patient_id"], row["old"]): row["zero"] for row in table(made.crosswalk(), "patients")
    }


def test_a_removal_with_its_purge(made: World) -> None:
    walk = made.crosswalk()
    number = next(row["surrogate"] for row in table(walk, "issued") if row["patient_id"] == "p2")
    held = sealed_rows(made.work / "research" / "tables", {}, patient=pa.array([number]))
    before = zeros(made)
    assert chain_of_kills("remove", made.work) > 5
    assert not held.path.exists()
    assert find_holders(made.work).holding == ()
    assert [entry["ids"] for entry in ledger(made.phi / REMOVED)] == [["p2"]]
    assert zeros(made) == {key: zero for key, zero in before.items() if key[0] != "p2"}
    assert leftovers(made.work) == []


def test_a_rotation(made: World) -> None:
    walk, before = made.crosswalk(), zeros(made)
    issued = table(walk, "issued") + table(walk, "encounters")
    assert chain_of_kills("rotate", made.work) > 4
    # Once the new ones were in force, repeating the command renewed them once more.
    assert len(ledger(made.phi / ROTATED)) == made.crosswalk().rotations
    assert zeros(made) == before
    old = {row["surrogate"] for row in table(made.crosswalk(), "retired")}
    assert old >= {row["surrogate"] for row in issued}
    assert not walk.sealed.path.exists()
    assert leftovers(made.work) == []


def test_another_key(made: World) -> None:
    walk = made.crosswalk()
    told = {name: table(walk, name) for name in ("issued", "encounters", "links")}
    key = made.work / "new.key"
    key.write_bytes(bytes(range(32)))
    key.chmod(0o600)
    assert chain_of_kills("rekey", made.work) > 4
    again = open_crosswalk(made.phi / "crosswalk", key.read_bytes())
    assert again is not None
    assert again.sealed.digest == walk.sealed.digest == made.crosswalk().sealed.digest
    assert {name: table(again, name) for name in told} == told
    assert not (made.phi / "keys" / "crosswalk.key").exists()
    assert leftovers(made.work) == []
