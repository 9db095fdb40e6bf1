from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
import yaml

from exports.errors import FhirloomError
from training.bundle import bundle
from training.registry import RegisteredModel, register
from training.train import TrainedModel

NAME = "readmission_30d"


def ask(research: Path, query: str) -> list[tuple[Any, ...]]:
    with sqlite3.connect(research / "mlflow" / "mlflow.db") as store:
        return store.execute(query).fetchall()


def forget_version(research: Path, version: int) -> None:
    """Leave the store as a process does that is killed between logging and registering."""
    with sqlite3.connect(research / "mlflow" / "mlflow.db") as store:
        for table in ("registered_model_aliases", "model_version_tags", "model_versions"):
            store.execute(f"delete from {table} where version = ?", (version,))


def texts(research: Path) -> list[str]:
    tables = ask(research, "select name from sqlite_master where type = 'table'")
    rows = [row for (table,) in tables for row in ask(research, f"select * from {table}")]
    return [cell for row in rows for cell in row if isinstance(cell, str)]


def test_bundles_are_registered_once_and_tell_nothing_of_the_machine(
    trained: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "canary-folder"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("LOGNAME", "canary-user")
    monkeypatch.setattr("socket.gethostname", lambda: "canary-host")
    research = tmp_path / "research"
    first = bundle(trained, {"features.yaml": b"1"}, research)
    second = bundle(trained, {"features.yaml": b"2"}, research)

    def registered(path: Path) -> RegisteredModel:
        return register(path, trained.evaluation, name=NAME, research=research)

    assert registered(first.path) == RegisteredModel(NAME, 1, "challenger")
    assert registered(first.path) == RegisteredModel(NAME, 1, "challenger")
    assert registered(second.path) == RegisteredModel(NAME, 2, "challenger")
    forget_version(research, 2)
    assert registered(second.path) == RegisteredModel(NAME, 2, "challenger")
    stages = ask(research, "select lifecycle_stage, count(*) from runs group by 1 order by 1")
    assert stages == [("active", 2), ("deleted", 1)]

    assert ask(research, "select version from model_versions order by version") == [(1,), (2,)]
    aliases = ask(research, "select name, alias, version from registered_model_aliases")
    assert aliases == [(NAME, "challenger", 2)]
    assert ask(research, "select distinct user_id, status from runs") == [("fhirloom", "FINISHED")]
    logged = dict(ask(research, "select key, value from metrics where key = 'auroc'"))
    assert logged["auroc"] == trained.evaluation["model"]["auroc"]["value"]

    cells = texts(research)
    assert not [cell for cell in cells if "canary" in cell]
    paths = [cell for cell in cells if cell.startswith(("/", "file:"))]
    assert paths
    assert not [path for path in paths if str(research) not in path]

    artifacts = research / "mlflow" / "artifacts"
    assert len([*artifacts.rglob("bundle/manifest.json")]) == 3
    description = next(artifacts.rglob("MLmodel"))
    signature = yaml.safe_load(description.read_text())["signature"]
    assert '"shape": [-1, 20]' in " ".join(signature["inputs"].split())
    assert "probability" in signature["outputs"]
    assert not [*elsewhere.iterdir()]


def test_a_damaged_bundle_is_not_registered(trained: TrainedModel, tmp_path: Path) -> None:
    made = bundle(trained, {}, tmp_path)
    (made.path / "model_card.md").write_text("better than it is")
    with pytest.raises(FhirloomError, match="changed"):
        register(made.path, trained.evaluation, name=NAME, research=tmp_path)
    assert not (tmp_path / "mlflow").exists()
