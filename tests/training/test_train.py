from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from exports.sealed import hash_file
from tests.training.synthetic_stays import FEATURES, Hospital
from training.parity import run_graph
from training.recipe import RECIPES
from training.split import SplitRule
from training.train import NotTrained, TrainedModel, train

# A fifth of the values are withheld from the model, and it has some 900 rows to learn from.
STATED_MARGIN = 0.12


def files(model: TrainedModel) -> dict[str, str]:
    return {path.name: hash_file(path) for path in model.sealed.path.iterdir()}


def test_the_model_comes_near_the_oracle_and_never_beats_it(trained: TrainedModel) -> None:
    gap = trained.evaluation["comparators"]["oracle"]["model_minus_this"]
    assert gap["low"] <= 0
    assert gap["value"] > -0.12
    assert (
        trained.evaluation["comparators"]["oracle"]["rows"]
        == trained.evaluation["split"]["test"]["rows"]
    )
    assert trained.evaluation["model"]["auroc"]["low"] > 0.6


def test_the_candidate_is_the_recipe_with_the_lowest_crossfitted_loss(
    trained: TrainedModel,
) -> None:
    candidates = trained.evaluation["candidates"]
    losses = {name: found["crossfitted_log_loss"] for name, found in candidates.items()}
    assert set(losses) == {"logistic", "xgboost"}
    assert trained.evaluation["recipe"] == min(losses, key=lambda name: losses[name])
    assert trained.evaluation["model"] == candidates[trained.evaluation["recipe"]]


def test_calibration_holds_on_later_stays_of_other_patients(trained: TrainedModel) -> None:
    for candidate in trained.evaluation["candidates"].values():
        slope, shift = candidate["calibration_slope"], candidate["calibration_in_the_large"]
        assert slope["low"] < 1.3
        assert slope["high"] > 0.7
        assert shift["low"] < 0.2
        assert shift["high"] > -0.2


def test_shuffled_labels_leave_chance(hospital: Hospital, tmp_path: Path) -> None:
    matrix = Hospital().shuffle_labels().write(tmp_path)
    result = train(matrix, tmp_path)
    assert isinstance(result, TrainedModel)
    for candidate in result.evaluation["candidates"].values():
        assert candidate["auroc"]["low"] < 0.5 < candidate["auroc"]["high"]


def test_training_again_gives_the_same_bytes(
    hospital: Hospital, trained: TrainedModel, tmp_path: Path
) -> None:
    again = train(hospital.write(tmp_path), tmp_path, oracle=hospital.write_oracle(tmp_path))
    assert isinstance(again, TrainedModel)
    assert again.sealed.fresh
    assert again.sealed.digest == trained.sealed.digest
    assert files(again) == files(trained)


def test_trees_are_trained_exported_and_repeated_too(hospital: Hospital, tmp_path: Path) -> None:
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    shutil.copy(RECIPES / "xgboost.yaml", recipes)
    results = [
        train(hospital.write(tmp_path / run), tmp_path / run, recipe_dir=recipes)
        for run in ("first", "second")
    ]
    first, second = (result for result in results if isinstance(result, TrainedModel))
    assert first.evaluation["recipe"] == "xgboost"
    assert first.evaluation["parity"]["adversarial_rows"] > 200
    assert first.sealed.digest == second.sealed.digest


def test_a_trained_model_is_reused(
    hospital: Hospital, trained: TrainedModel, research: Path
) -> None:
    again = train(hospital.write(research), research, oracle=research / "oracle.parquet")
    assert isinstance(again, TrainedModel)
    assert not again.sealed.fresh
    assert again.sealed.digest == trained.sealed.digest


def test_too_few_events_are_said_in_words(tmp_path: Path) -> None:
    small = Hospital(rows=300, patients=120)
    result = train(small.write(tmp_path), tmp_path)
    assert isinstance(result, NotTrained)
    assert result.rows == 300
    assert result.events == small.label.sum()
    assert "too few events to train on" in result.reason
    assert not (tmp_path / "models").exists()


def test_too_few_years_are_said_in_words(hospital: Hospital, tmp_path: Path) -> None:
    young = Hospital(rows=300, patients=120)
    young.year[:] = 2020
    result = train(young.write(tmp_path), tmp_path)
    assert isinstance(result, NotTrained)
    assert "too few years" in result.reason
    given = train(young.write(tmp_path), tmp_path, rule=SplitRule(embargo_year=2030))
    assert isinstance(given, NotTrained)


def test_no_rows_at_all_is_a_result(tmp_path: Path) -> None:
    result = train(Hospital(rows=0, patients=5).write(tmp_path), tmp_path)
    assert isinstance(result, NotTrained)
    assert (result.rows, result.events) == (0, 0)


def test_small_groups_show_no_counts(trained: TrainedModel) -> None:
    groups = {(g["attribute"], g["value"]): g for g in trained.evaluation["subgroups"]}
    assert set(groups) >= {("sex", "female"), ("race", "black"), ("ethnicity", "hispanic")}
    rare = groups["sex", "unknown"]
    assert rare == {
        "attribute": "sex",
        "value": "unknown",
        "too_few": True,
        "rows": None,
        "events": None,
    }
    assert all(g["rows"] is None or g["rows"] >= 11 for g in groups.values())


def test_no_patient_is_in_a_models_files(trained: TrainedModel, hospital: Hospital) -> None:
    golden = pq.read_table(trained.sealed.path / "golden.parquet")
    assert golden.column_names == [*FEATURES, "probability"]
    rows = np.column_stack([golden.column(name).to_numpy() for name in FEATURES])
    own = {row.tobytes() for row in hospital.values}
    realistic = rows[:200]
    assert not [row for row in realistic if row.tobytes() in own]
    graph = (trained.sealed.path / "model.onnx").read_bytes()
    assert run_graph(graph, rows).tolist() == golden.column("probability").to_pylist()
    for name in ("evaluation.json", "curves.json", "thresholds.json"):
        text = (trained.sealed.path / name).read_text()
        json.loads(text)
        assert not [who for who in set(hospital.patient.tolist()) if str(who) in text]
