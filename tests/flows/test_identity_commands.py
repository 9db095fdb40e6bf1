"""The commands that keep the crosswalk: what they answer, and that it names nobody."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deid.identity.orders import REMOVED
from exports.errors import FhirloomError
from exports.turns import alone
from flows.cli import main
from flows.exit_codes import BAD_INPUT, USAGE
from flows.settings import Settings
from flows.sources import screen_of
from tests.deid.identity.small_world import World, ledger, table, world

Command = Callable[..., "subprocess.CompletedProcess[str]"]
WHY = ("--reason", "asked for it")


@pytest.fixture
def made(tmp_path: Path) -> World:
    made = world(tmp_path / "work", told={"p3": "p1"})
    made.crosswalk()
    return made


def invoke(made: World, name: str, *arguments: object) -> Result:
    told = ["deid", name, *map(str, arguments), "--work", str(made.work)]
    done = CliRunner().invoke(main, told)
    words = [*(f"p{number}" for number in range(1, 5)), "mrn-p"]
    assert not [word for word in words if word in done.output.replace(str(made.work), "")]
    return done


def surrogate(made: World, who: str) -> int:
    found: int = next(
        row["surrogate"] for row in table(made.crosswalk(), "patients") if row["patient_id"] == who
    )
    return found


def test_patients_are_removed_by_id_or_file_and_told_as_counts(made: World, tmp_path: Path) -> None:
    listed = tmp_path / "listed"
    listed.write_text("# by hand\np2\nurn:mrn|mrn-p3\nunheard-of\n")
    done = invoke(made, "remove-patient", "--file", listed, *WHY, "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    # The third is the same person as the first: four ids and one that nobody knows.
    assert (told["ordered"], told["unknown"], told["removed"]) == (4, 1, 4)
    assert (told["exit_code"], told["purged"]) == (0, False)
    assert [place.rpartition("/")[0] for place in told["holding"]] == ["phi/extract"]
    text = invoke(made, "remove-patient", "p4", "--purge-landing", *WHY)
    assert "1 ids newly removed, of 5 in all" in text.stdout
    assert "holds removed patients, removed: phi/extract/" in text.stdout
    assert screen_of(Settings(), frozenset({"p4", "a|b"})).opted_out == {"p4"}
    assert [entry["at_landing"] for entry in ledger(made.phi / REMOVED)] == [False, True]


def test_whoever_names_nobody_is_told_how(made: World) -> None:
    assert invoke(made, "remove-patient", *WHY).exit_code == USAGE
    assert invoke(made, "remove-patient", "p2").exit_code == USAGE
    refused = invoke(made, "remove-patient", "p2 p1", *WHY)
    assert refused.exit_code == BAD_INPUT
    assert "ID, line 1" in refused.stderr
    assert invoke(made, "remove-patient", "--purge", *WHY).exit_code == 0


def test_surrogates_are_looked_up_inside_phi_alone(made: World, tmp_path: Path) -> None:
    number = surrogate(made, "p2")
    done = invoke(made, "reidentify", number, 17, *WHY, "--time", 60)
    assert done.exit_code == 0, done.stderr
    assert "1 found, 1 unknown" in done.stdout
    [answer] = (made.phi / "reidentified").iterdir()
    assert "p2" in answer.read_text()
    out = made.phi / "answer.json"
    told = json.loads(invoke(made, "reidentify", number, *WHY, "--out", out, "--json").stdout)
    assert (told["found"], told["path"]) == (1, str(out))
    for place in (out, made.work / "research" / "x.json", made.phi / "x.txt", tmp_path / "x.json"):
        refused = invoke(made, "reidentify", number, *WHY, "--out", place)
        assert refused.exit_code == BAD_INPUT
        assert "--out" in refused.stderr
    assert invoke(made, "reidentify", "p2", *WHY).exit_code == BAD_INPUT
    assert len((made.phi / "logs" / "reidentify.ndjson").read_text().splitlines()) == 2


def test_surrogates_are_renewed_and_the_key_is_changed(
    made: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = surrogate(made, "p2")
    told = json.loads(invoke(made, "rotate", *WHY, "--json").stdout)
    assert told["renewed"] == 6 + 8
    assert surrogate(made, "p2") != number
    monkeypatch.setenv("CROSSWALK", os.urandom(32).hex())
    assert invoke(made, "rekey", "--new-key", "env:CROSSWALK").exit_code == 0
    assert invoke(made, "rotate", *WHY).exit_code == 0
    monkeypatch.setenv("CROSSWALK", os.urandom(32).hex())
    refused = invoke(made, "rotate", *WHY)
    assert refused.exit_code == BAD_INPUT
    assert "does not open with this key" in refused.stderr
    assert "Traceback" not in refused.output
    monkeypatch.delenv("CROSSWALK")
    refused = invoke(made, "rotate", *WHY, "--json")
    assert refused.exit_code == BAD_INPUT
    assert json.loads(refused.stderr)["error"]["where"] == "crosswalk key"


@pytest.mark.parametrize(
    "asked",
    [
        ("remove-patient", "p2", *WHY),
        ("rotate", *WHY),
        ("reidentify", 17, *WHY),
        ("rekey", "--new-key", "env:X"),
    ],
    ids=lambda asked: str(asked[0]),
)
def test_nothing_is_done_while_another_run_is_at_work(
    made: World, asked: tuple[str | int, ...]
) -> None:
    before = made.crosswalk().sealed
    busy = FhirloomError("bad-input", "busy", where="here", fix="wait")
    with alone(made.phi / ".lock", busy):
        refused = invoke(made, *map(str, asked))
    assert refused.exit_code == BAD_INPUT
    assert "Another run is at work" in refused.stderr
    assert made.crosswalk().sealed.digest == before.digest
    assert not (made.phi / REMOVED.parent).exists()
    assert not (made.phi / "logs" / "reidentify.ndjson").exists()
