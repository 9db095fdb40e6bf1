"""New surrogates for everybody, and whom the old and the new ones stand for."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from deid.identity.lookup import LEDGER, reidentify
from deid.identity.orders import ROTATED, order_rotation
from deid.identity.removal import remove_patients
from deid.identity.rotation import rotate_surrogates
from exports.errors import FhirloomError
from tests.deid.identity.small_world import World, ledger, table, world

WHY = "for another recipient"
DAY = 86_400


@pytest.fixture
def made(tmp_path: Path) -> World:
    return world(tmp_path, told={"p2": "p1"})


def timelines(made: World) -> dict[tuple[str, bool], dict[str, Any]]:
    return {(row["patient_id"], row["old"]): row for row in table(made.crosswalk(), "patients")}


def test_a_rotation_renews_every_number_and_moves_no_zero(made: World) -> None:
    before, stays = timelines(made), table(made.crosswalk(), "encounters")
    digest = made.crosswalk().sealed.digest
    assert rotate_surrogates(made.phi, WHY) == 6 + 8
    after, new_stays = timelines(made), table(made.crosswalk(), "encounters")
    assert made.crosswalk().sealed.digest != digest
    for key, row in after.items():
        assert {**row, "surrogate": 0} == {**before[key], "surrogate": 0}
    old = {row["surrogate"] for row in (*before.values(), *stays)}
    assert old.isdisjoint(row["surrogate"] for row in (*after.values(), *new_stays))
    # Merged records have one surrogate as before; others have others.
    assert len({row["surrogate"] for row in after.values()}) == 6
    assert after["p1", False]["surrogate"] == after["p2", False]["surrogate"]
    assert {row["surrogate"] for row in table(made.crosswalk(), "retired")} == old
    assert [entry["reason"] for entry in ledger(made.phi / ROTATED)] == [WHY]


def test_a_rotation_that_was_only_noted_is_carried_out_once(made: World) -> None:
    before = timelines(made)
    order_rotation(made.phi, WHY)
    rotate_surrogates(made.phi, WHY)
    assert len(ledger(made.phi / ROTATED)) == 1
    once = timelines(made)
    assert once["p3", False]["surrogate"] != before["p3", False]["surrogate"]
    order_rotation(made.phi, WHY)
    # The next de-identification carries it out as well.
    assert timelines(made)["p3", False]["surrogate"] != once["p3", False]["surrogate"]
    assert timelines(made) == timelines(made)


def answer(made: World, numbers: list[int], **more: Any) -> dict[int, dict[str, Any]]:
    done = reidentify(made.phi, numbers, WHY, **more)
    assert done.path.is_relative_to(made.phi)
    assert done.path.stat().st_mode & 0o777 == 0o600
    told = json.loads(done.path.read_text())
    assert (len(told["found"]), len(told["unknown"])) == (done.found, done.unknown)
    return {row["surrogate"]: row for row in told["found"]}


def test_surrogates_lead_back_also_those_that_were_rotated_away(made: World) -> None:
    merged, other = (timelines(made)[key, False] for key in ("p1", "p3"))
    stay = next(row for row in table(made.crosswalk(), "encounters") if row["patient_id"] == "p3")
    numbers = [row["surrogate"] for row in (merged, other, stay)]
    asked = [*numbers, 17]
    found = answer(made, asked, time=DAY + 60)
    first, second, third = (found[number] for number in numbers)
    assert (first["kind"], first["state"], first["patient_ids"]) == (
        "patient",
        "in force",
        ["p1", "p2"],
    )
    expected = datetime(*merged["zero"].timetuple()[:3]).replace(day=merged["zero"].day + 1)
    assert datetime.fromisoformat(first["moment"]) == expected.replace(minute=1)
    assert second["patient_ids"] == ["p3"]
    assert (third["kind"], third["encounter_id"]) == ("encounter", stay["encounter_id"])
    assert (third["zero"], third["moment"]) == (None, None)
    rotate_surrogates(made.phi, WHY)
    again = answer(made, asked)
    assert {row["state"] for row in again.values()} == {"rotated away"}
    assert again[numbers[1]]["patient_ids"] == ["p3"]
    assert again[numbers[2]]["encounter_id"] == stay["encounter_id"]
    remove_patients(made.work, ["p3"], WHY)
    assert set(answer(made, asked)) == {numbers[0]}
    noted = ledger(made.phi / LEDGER)
    assert [entry["surrogates"] for entry in noted] == [sorted(asked)] * 3
    assert all(entry["who"] and entry["when"] and entry["reason"] == WHY for entry in noted)


def test_a_timeline_that_a_merge_replaced_is_told_as_such(tmp_path: Path) -> None:
    apart = world(tmp_path)
    number = timelines(apart)["p2", False]["surrogate"]
    merged = world(tmp_path, "merged", told={"p2": "p1"})
    merged.crosswalk()
    found = answer(merged, [number])[number]
    assert (found["state"], found["patient_ids"]) == ("replaced by a merge", ["p2"])


def test_each_use_is_noted_before_anything_is_written(
    made: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    made.crosswalk()
    with pytest.raises(FhirloomError, match="No reason"):
        reidentify(made.phi, [1], "")
    assert not (made.phi / LEDGER).exists()

    def full(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("deid.identity.lookup.write_durably", full)
    with pytest.raises(OSError, match="No space"):
        reidentify(made.phi, [1], WHY)
    assert len(ledger(made.phi / LEDGER)) == 1
