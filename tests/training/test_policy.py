"""What is made from a limited data set says so, wherever it goes, and stays in phi/limited."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest

from deid.policy import LIMITED_DATA_SET
from exports.errors import FhirloomError
from exports.sealed import MANIFEST, Sealed
from features.matrix import FeatureMatrix, open_matrix
from tests.training.synthetic_stays import Hospital
from training.bundle import bundle, verify_bundle
from training.recipe import RECIPES
from training.registry import register
from training.report import ReportFacts, write_report
from training.train import TrainedModel, train

LABEL = LIMITED_DATA_SET.label


@dataclass(frozen=True)
class Limited:
    """A model of a limited data set, and all that led to it."""

    root: Path
    matrix: FeatureMatrix
    model: TrainedModel
    bundle: Sealed


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Limited:
    folder = tmp_path_factory.mktemp("limited")
    (folder / "recipes").mkdir()
    shutil.copy(RECIPES / "logistic.yaml", folder / "recipes")
    root = LIMITED_DATA_SET.released(folder / "work")
    matrix = Hospital(policy=LIMITED_DATA_SET).write(root)
    model = train(matrix, root, recipe_dir=folder / "recipes")
    assert isinstance(model, TrainedModel)
    return Limited(root, matrix, model, bundle(model, {"features.yaml": b"1"}, root))


def test_every_manifest_card_and_graph_says_what_it_was_made_from(limited: Limited) -> None:
    for name in ("models", "bundles", "features"):
        [manifest] = (limited.root / name / "current").resolve().glob(MANIFEST)
        assert json.loads(manifest.read_text())["facts"]["policy"]["label"] == LABEL
    card = (limited.bundle.path / "model_card.md").read_text()
    assert f"**Made from a {LABEL}.**" in card
    assert "Safe Harbor" not in card
    assert "one calendar year" not in card
    graph = onnx.load(limited.bundle.path / "model.onnx")
    assert {item.key: item.value for item in graph.metadata_props}["policy"] == LABEL
    assert verify_bundle(limited.bundle.path).facts["policy"]["name"] == "limited-data-set"


def test_the_report_says_so_first(limited: Limited) -> None:
    page = write_report(ReportFacts(limited.matrix.sealed.facts, limited.model), limited.root)
    told = page.read_text()
    assert f'<p class="kicker">fhirloom report: {LABEL}</p>' in told
    assert "This is a limited data set." in told
    assert "one calendar year" not in told


def test_the_registry_tags_the_version_and_its_run(limited: Limited) -> None:
    evaluation = limited.model.evaluation
    register(limited.bundle.path, evaluation, name="readmission_30d", research=limited.root)
    with sqlite3.connect(limited.root / "mlflow" / "mlflow.db") as store:
        for table in ("tags", "model_version_tags"):
            tags = dict(store.execute(f"select key, value from {table}").fetchall())
            assert tags["fhirloom.policy"] == LABEL


@pytest.mark.parametrize(
    "write",
    [
        lambda made, root: train(made.matrix, root),
        lambda made, root: bundle(made.model, {}, root),
        lambda made, root: register(made.bundle.path, {}, name="x", research=root),
        lambda made, root: write_report(ReportFacts(made.matrix.sealed.facts, made.model), root),
    ],
    ids=["train", "bundle", "register", "report"],
)
def test_nothing_of_it_is_written_where_de_identified_data_stand(
    limited: Limited, tmp_path: Path, write: Callable[[Limited, Path], object]
) -> None:
    with pytest.raises(FhirloomError, match="data use agreement needed"):
        write(limited, tmp_path / "research")
    assert not (tmp_path / "research").exists()


def test_a_matrix_that_was_moved_does_not_open(limited: Limited, tmp_path: Path) -> None:
    shutil.copytree(limited.root / "features", tmp_path / "research" / "features", symlinks=True)
    with pytest.raises(FhirloomError, match="data use agreement needed"):
        open_matrix(tmp_path / "research")
