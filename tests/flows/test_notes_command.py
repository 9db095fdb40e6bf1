"""`fhirloom deid notes`, as it is typed: on the sandbox, whose planted identifiers are counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.flows.conftest import Command


@pytest.fixture(scope="module")
def work(fhirloom: Command, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("notes") / "work"
    assert fhirloom("export", "--patients", "40", "--work", folder).returncode == 0
    return folder


def test_notes_need_tables(fhirloom: Command, work: Path) -> None:
    done = fhirloom("deid", "notes", "--work", work)
    assert (done.returncode, "fhirloom deid" in done.stderr) == (5, True)
    assert not (work / "research" / "notes").exists()


def test_planted_identifiers_are_recalled(fhirloom: Command, work: Path) -> None:
    assert fhirloom("deid", "--work", work, "--json").returncode == 0
    done = fhirloom("deid", "notes", "--work", work, "--json")
    assert done.returncode == 0, done.stderr
    notes = json.loads(done.stdout)["notes"]
    recall = notes["measured"]["recall"]["all"]
    assert recall["planted"] > 500
    assert recall["share"] >= 0.99
    assert notes["measured"]["precision"] > 0.8
    assert notes["label"].startswith("needs review")


def test_a_missing_model_is_told(fhirloom: Command, work: Path) -> None:
    done = fhirloom("deid", "notes", "--work", work, "--notes-model", work / "none.yaml")
    assert done.returncode == 5
    assert "The configuration of the model can't be read" in done.stderr
