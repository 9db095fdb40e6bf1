"""From a feature matrix to a sealed, evaluated, exported model, or to a plain reason why not.

`research/models/<key>/` holds `model.onnx`, `native.json` (the learner's own file),
`evaluation.json`, `curves.json`, `thresholds.json` and `golden.parquet`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from deid.policy import check_place
from exports.progress import Progress, silent
from exports.sealed import Sealed, Stage, find_sealed, hash_file, hash_json, sealing
from features.matrix import FeatureMatrix
from training import dataset, evaluate
from training.dataset import Dataset
from training.evaluate import HeldOutRows
from training.golden import write_golden
from training.graph import build_graph
from training.logistic import Floats
from training.parity import adversarial_rows, check_parity
from training.recipe import RECIPES, Candidate, Recipe, fit_candidate, load_recipes
from training.split import Split, SplitRule

VERSION: Final = 2
_STEPS_AFTER_FITTING: Final = 3
_SAMPLE: Final = 64


@dataclass(frozen=True)
class TrainedModel:
    """A sealed model folder."""

    sealed: Sealed

    @property
    def evaluation(self) -> dict[str, Any]:
        """What `evaluation.json` says: population, split, candidates, performance, parity."""
        return self._read("evaluation.json")

    @property
    def curves(self) -> dict[str, Any]:
        """What `curves.json` says: ROC, calibration and decision curve, as lists to draw."""
        return self._read("curves.json")

    @property
    def thresholds(self) -> dict[str, Any]:
        """What `thresholds.json` says: the operating points."""
        return self._read("thresholds.json")

    def _read(self, name: str) -> dict[str, Any]:
        read: dict[str, Any] = json.loads((self.sealed.path / name).read_text())
        return read


@dataclass(frozen=True)
class NotTrained:
    """Why there is no model, in a sentence, and the rows and events of the whole matrix."""

    reason: str
    rows: int
    events: int


TrainingResult: TypeAlias = TrainedModel | NotTrained


def train(
    matrix: FeatureMatrix,
    research: Path,
    *,
    oracle: Path | None = None,
    recipe_dir: Path = RECIPES,
    rule: SplitRule | None = None,
    progress: Progress = silent,
) -> TrainingResult:
    """Fit every recipe, keep the one with the lowest cross-fitted log loss, evaluate and export.

    `oracle` is the Parquet file of true risks (patient, encounter, risk) of a sandbox run. The same
    matrix, recipes and rule give the same folder, byte for byte; a folder that is there is reused.
    Too few events is a result, not an error. Raises `FhirloomError`: bad-input for a recipe that
    can't be read and for a place where the matrix' policy lets nothing stand, parity-failed where
    the exported graph is not the model.
    """
    check_place(matrix.sealed.facts, research)
    rule = rule or SplitRule()
    recipes = load_recipes(recipe_dir)
    inputs = {"matrix": matrix.sealed.digest}
    if oracle is not None:
        inputs["oracle"] = hash_file(oracle)
    spec = {"recipes": [asdict(recipe) for recipe in recipes], "rule": asdict(rule)}
    stage = Stage("models", VERSION, inputs, hash_json(spec))
    found = find_sealed(research / "models", stage)
    if found is not None:
        return TrainedModel(found)
    data = dataset.load(matrix, rule)
    reason = dataset.why_not(data)
    if data.split is None or reason:
        return NotTrained(reason, data.label.size, int(data.label.sum()))
    # One thread sums in one order, so that a model's bytes don't depend on the number of cores.
    with (
        threadpool_limits(limits=1),
        sealing(research / "models", stage) as draft,
    ):
        candidates = _fit(data, data.split, recipes, progress)
        seen = dataset.held_out_rows(data, data.split, oracle)
        draft.facts.update(_finish(data, data.split, seen, candidates, draft.path, progress))
    return TrainedModel(draft.result)


def _fit(
    data: Dataset, split: Split, recipes: Sequence[Recipe], progress: Progress
) -> list[Candidate]:
    """Every recipe on the train rows, the best by cross-fitted log loss first."""
    rows, label, fold = data.rows[split.train], data.label[split.train], split.fold[split.train]
    candidates = []
    for done, recipe in enumerate(recipes):
        progress(done, len(recipes) + _STEPS_AFTER_FITTING, "steps")
        candidates.append(fit_candidate(recipe, rows, label, fold))
    return sorted(candidates, key=lambda candidate: candidate.log_loss)


def _finish(
    data: Dataset,
    split: Split,
    seen: HeldOutRows,
    candidates: Sequence[Candidate],
    folder: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Export, prove and evaluate the first candidate; write `folder`, and return its facts."""
    chosen, features, test = candidates[0], data.matrix.features, data.rows[split.test]
    told, total = len(candidates), len(candidates) + _STEPS_AFTER_FITTING

    progress(told, total, "steps")
    policy = data.matrix.sealed.facts["policy"]
    named = {
        "recipe": chosen.recipe.name,
        "matrix": data.matrix.sealed.digest,
        "policy": str(policy["label"]),
    }
    graph = build_graph(chosen.model, chosen.platt, features, named)
    made = adversarial_rows(test[:_SAMPLE], chosen.model.cut_points())
    parity = check_parity(graph, chosen.probability, test, made)
    (folder / "model.onnx").write_bytes(graph)
    chosen.model.save(folder)
    write_golden(folder / "golden.parquet", graph, test, made, features)

    progress(told + 1, total, "steps")
    probability = chosen.probability(test)
    performances = {each.recipe.name: _performance(each, test, seen) for each in candidates}
    evaluation: dict[str, Any] = {
        "population": dataset.described_population(data),
        "split": dataset.described_split(data, split),
        "intervals": evaluate.intervals_method(),
        "recipe": chosen.recipe.name,
        "criterion": "lowest cross-fitted log loss on the train patients",
        "candidates": performances,
        "model": performances[chosen.recipe.name],
        "comparators": {
            name: evaluate.comparison(probability, score, seen)
            for name, score in seen.comparators.items()
        },
        "subgroups": evaluate.subgroups(probability, seen),
        "importance": _importance(chosen, features),
        "parity": asdict(parity),
    }
    _write(folder / "evaluation.json", evaluation)

    progress(told + 2, total, "steps")
    points = evaluate.operating_points(chosen.crossfitted, probability, seen)
    _write(folder / "thresholds.json", {"operating_points": points})
    _write(folder / "curves.json", evaluate.curves(probability, seen))
    progress(total, total, "steps")
    sizes = {part: evaluation["split"][part] for part in ("train", "test")}
    return {
        "policy": dict(policy),
        "recipe": chosen.recipe.name,
        "features": list(features),
        **sizes,
    }


def _performance(candidate: Candidate, test: Floats, seen: HeldOutRows) -> dict[str, Any]:
    return {
        "crossfitted_log_loss": round(candidate.log_loss, 6),
        "settled": {
            name: value
            for name, value in candidate.settled.items()
            if isinstance(value, int | float)
        },
        **evaluate.performance(candidate.probability(test), seen),
    }


def _importance(chosen: Candidate, features: tuple[str, ...]) -> list[dict[str, Any]]:
    shares = chosen.model.importance()
    order = np.argsort(-shares, kind="stable")
    return [{"feature": features[i], "share": round(float(shares[i]), 6)} for i in order]


def _write(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False))
