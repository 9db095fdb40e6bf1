"""Logistic regression that takes unknown values: median imputation and missingness indicators.

Values are held to the range seen in training, so that no single extreme value decides. All of it
is a few array operations, which the ONNX graph repeats one by one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from training.calibrate import Doubles, sigmoid

Floats = NDArray[np.float32]
Labels = NDArray[np.int8]


@dataclass(frozen=True)
class LogisticModel:
    """A fitted model over n features; every array is [n] in the features' order.

    The margin is `intercept + sum(weights * held) + sum(missing_weights * is_nan)`, where `held` is
    the value (or the median, where it is NaN) held between `low` and `high`.
    """

    median: Doubles
    low: Doubles
    high: Doubles
    weights: Doubles
    missing_weights: Doubles
    intercept: float
    shares: Doubles

    def margin(self, rows: Floats) -> Doubles:
        """Log-odds [N] of rows [N, n]; NaN is unknown."""
        values = rows.astype(np.float64)
        unknown = np.isnan(values)
        held = np.clip(np.where(unknown, self.median, values), self.low, self.high)
        result: Doubles = held @ self.weights + unknown @ self.missing_weights + self.intercept
        return result

    def cut_points(self) -> list[Floats]:
        """Per feature, the values at which the model's response bends."""
        return [
            np.unique(np.array(bends, dtype=np.float32))
            for bends in zip(self.low, self.median, self.high, strict=True)
        ]

    def importance(self) -> Doubles:
        """Each feature's share [n] of the absolute standardised coefficients."""
        return self.shares

    def save(self, folder: Path) -> None:
        """Write the coefficients as `native.json`."""
        stored = {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in vars(self).items()
        }
        (folder / "native.json").write_text(json.dumps(stored, indent=1, sort_keys=True))


def settle(
    settings: Mapping[str, Any], rows: Floats, label: Labels, fold: NDArray[np.int64]
) -> Mapping[str, Any]:
    """Choose the penalty of the recipe's list with the lowest cross-fitted log loss."""
    losses = {}
    for strength in settings["inverse_penalty"]:
        loss = 0.0
        for held_out in np.unique(fold):
            fitting = fold != held_out
            model = fit({"inverse_penalty": strength}, rows[fitting], label[fitting])
            p = np.clip(sigmoid(model.margin(rows[~fitting])), 1e-12, 1 - 1e-12)
            loss -= float(np.log(np.where(label[~fitting] == 1, p, 1 - p)).sum())
        losses[strength] = loss
    return {"inverse_penalty": min(losses, key=lambda strength: losses[strength])}


def fit(settings: Mapping[str, Any], rows: Floats, label: Labels) -> LogisticModel:
    """Fit on rows [N, n] and labels [N] with a settled `inverse_penalty`."""
    values = rows.astype(np.float64)
    unknown = np.isnan(values)
    seen = ~unknown.all(axis=0)
    median, low, high = (np.zeros(values.shape[1]) for _ in range(3))
    median[seen] = np.nanmedian(values[:, seen], axis=0)
    low[seen] = np.nanmin(values[:, seen], axis=0)
    high[seen] = np.nanmax(values[:, seen], axis=0)
    columns = np.hstack([np.clip(np.where(unknown, median, values), low, high), unknown])
    mean, scale = columns.mean(axis=0), columns.std(axis=0)
    constant = scale < 1e-9 * np.maximum(1.0, np.abs(mean))
    scale[constant] = 1.0
    standard = np.where(constant, 0.0, (columns - mean) / scale)
    solver = LogisticRegression(
        C=settings["inverse_penalty"], solver="newton-cholesky", tol=1e-9, max_iter=200
    ).fit(standard, label)
    coefficients = np.asarray(solver.coef_[0], dtype=np.float64)
    folded = _rounded(coefficients / scale)
    intercept = float(solver.intercept_[0] - (folded * mean).sum())
    count = values.shape[1]
    sizes = np.abs(coefficients[:count]) + np.abs(coefficients[count:])
    return LogisticModel(
        median=median,
        low=low,
        high=high,
        weights=folded[:count],
        missing_weights=folded[count:],
        intercept=float(_rounded(np.array([intercept]))[0]),
        shares=_rounded(sizes / max(float(sizes.sum()), 1e-12)),
    )


def _rounded(values: Doubles) -> Doubles:
    # The last bits depend on how BLAS orders its sums; the digest of a model must not.
    return values.astype(np.float32).astype(np.float64)
