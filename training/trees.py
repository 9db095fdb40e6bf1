"""Gradient-boosted trees (XGBoost, histogram method) that send unknown values a learned way."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xgboost as xgb
from numpy.typing import NDArray

from training.calibrate import Doubles
from training.logistic import Floats, Labels

_LOSS = "logloss"


@dataclass(frozen=True)
class TreeModel:
    """A fitted booster over n features, which it calls `f0`, `f1`, … in order."""

    booster: xgb.Booster
    features: int

    def margin(self, rows: Floats) -> Doubles:
        """Log-odds [N] of rows [N, n]; NaN is unknown."""
        raw = self.booster.predict(_matrix(rows), output_margin=True)
        return np.asarray(raw, dtype=np.float64)

    @property
    def base_margin(self) -> float:
        """The log-odds that the trees start from; XGBoost stores it as a probability."""
        model = json.loads(self.booster.save_raw("json"))
        base = json.loads(model["learner"]["learner_model_param"]["base_score"])[0]
        return float(np.log(base / (1.0 - base)))

    def bare_trees(self) -> xgb.Booster:
        """The same trees summed from zero: what a converter can't get wrong.

        Named as a squared-error regressor, because converters infer a link function and a base
        score from a classifier's name.
        """
        model = json.loads(self.booster.save_raw("json"))
        model["learner"]["objective"] = {
            "name": "reg:squarederror",
            "reg_loss_param": {"scale_pos_weight": "1"},
        }
        model["learner"]["learner_model_param"]["base_score"] = "[0E0]"
        return xgb.Booster(model_file=bytearray(json.dumps(model).encode()))

    def cut_points(self) -> list[Floats]:
        """Per feature, the sorted thresholds of all splits on it."""
        found: list[set[float]] = [set() for _ in range(self.features)]
        pending = [json.loads(tree) for tree in self.booster.get_dump(dump_format="json")]
        while pending:
            node = pending.pop()
            if "children" in node:
                found[int(node["split"][1:])].add(node["split_condition"])
                pending.extend(node["children"])
        return [np.unique(np.array(sorted(cuts), dtype=np.float32)) for cuts in found]

    def importance(self) -> Doubles:
        """Each feature's share [n] of the total gain of its splits."""
        gain = self.booster.get_score(importance_type="total_gain")
        shares = np.array([gain.get(f"f{i}", 0.0) for i in range(self.features)], dtype=np.float64)
        return shares / max(float(shares.sum()), 1e-12)

    def save(self, folder: Path) -> None:
        """Write XGBoost's own model file, `native.json`."""
        (folder / "native.json").write_bytes(bytes(self.booster.save_raw("json")))


def settle(
    settings: Mapping[str, Any], rows: Floats, label: Labels, fold: NDArray[np.int64]
) -> Mapping[str, Any]:
    """Choose the number of rounds with the lowest mean log loss over the folds.

    The final fit is then a plain fit of so many rounds: no training is continued, and no row both
    stops the trees and calibrates them.
    """
    parts = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in np.unique(fold)]
    history = xgb.cv(
        _parameters(settings),
        _matrix(rows, label),
        num_boost_round=settings["rounds"],
        folds=parts,
        early_stopping_rounds=settings["patience"],
        as_pandas=False,
    )
    rounds = int(np.argmin(history[f"test-{_LOSS}-mean"])) + 1
    return {"parameters": settings["parameters"], "rounds": rounds}


def fit(settings: Mapping[str, Any], rows: Floats, label: Labels) -> TreeModel:
    """Fit on rows [N, n] and labels [N] for a settled number of `rounds`."""
    booster = xgb.train(
        _parameters(settings), _matrix(rows, label), num_boost_round=settings["rounds"]
    )
    return TreeModel(booster, rows.shape[1])


def _parameters(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "objective": "binary:logistic",
        "eval_metric": _LOSS,
        "tree_method": "hist",
        **settings["parameters"],
    }


def _matrix(rows: Floats, label: Labels | None = None) -> xgb.DMatrix:
    # XGBoost refuses infinities; the graph sends them where the largest float goes.
    return xgb.DMatrix(np.nan_to_num(rows, nan=np.nan), label)
