"""Platt scaling: a probability from a margin (log-odds), by two numbers fitted on unseen rows.

Platt 1999, "Probabilistic outputs for support vector machines", with his smoothed targets. It is
two nodes of an ONNX graph, and it is fitted on margins alone, so it converts exactly; isotonic
regression and scikit-learn's calibrated pipelines do not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

_STEPS: Final = 50
_SETTLED: Final = 1e-10
_LARGEST_STEP: Final = 4.0


@dataclass(frozen=True)
class Platt:
    """`probability = sigmoid(slope * margin + intercept)`."""

    slope: float
    intercept: float

    def probability(self, margin: Doubles) -> Doubles:
        """Calibrated probabilities [N] of margins [N]."""
        return sigmoid(self.slope * margin + self.intercept)


def sigmoid(log_odds: Doubles) -> Doubles:
    """The logistic function, without overflow."""
    small = np.exp(-np.abs(log_odds))
    result: Doubles = np.where(log_odds >= 0, 1.0, small) / (1.0 + small)
    return result


def logit(probability: Doubles) -> Doubles:
    """Log-odds of probabilities, those of 0 and 1 taken as the nearest that have one."""
    inside = np.clip(probability, 1e-12, 1.0 - 1e-12)
    result: Doubles = np.log(inside) - np.log1p(-inside)
    return result


def fit_platt(margin: Doubles, label: NDArray[np.int8]) -> Platt:
    """Fit on margins [N] and labels [N] (0 or 1) of rows that the model was not fitted on."""
    events = float(label.sum())
    others = float(label.size - events)
    target = np.where(label == 1, (events + 1.0) / (events + 2.0), 1.0 / (others + 2.0))
    intercept, slope = logistic_line(margin, target, np.ones((1, margin.size)))
    return Platt(slope=float(slope[0]), intercept=float(intercept[0]))


def logistic_line(x: Doubles, target: Doubles, weights: Doubles) -> tuple[Doubles, Doubles]:
    """Weighted logistic regression of targets [N] on one variable [N], for R sets of weights.

    Weights are [R, N]; returns intercepts and slopes [R]. Newton's method, all sets at once; a set
    without both outcomes, or that parts them perfectly, gives NaN.
    """
    replicates = weights.shape[0]
    intercept, slope = np.zeros(replicates), np.ones(replicates)
    with np.errstate(invalid="ignore", divide="ignore"):
        for _ in range(_STEPS):
            p = sigmoid(intercept[:, None] + slope[:, None] * x)
            spread = weights * p * (1.0 - p)
            s0, s1, s2 = spread.sum(axis=1), spread @ x, spread @ (x * x)
            residual = weights * (target - p)
            g0, g1 = residual.sum(axis=1), residual @ x
            determinant = s0 * s2 - s1 * s1
            step0 = (s2 * g0 - s1 * g1) / determinant
            step1 = (s0 * g1 - s1 * g0) / determinant
            intercept += np.clip(step0, -_LARGEST_STEP, _LARGEST_STEP)
            slope += np.clip(step1, -_LARGEST_STEP, _LARGEST_STEP)
            moved = np.maximum(np.abs(step0), np.abs(step1))
            if not (moved > _SETTLED).any():
                break
    lost = ~(moved <= 1e-6)
    intercept[lost] = np.nan
    slope[lost] = np.nan
    return intercept, slope


def calibration_in_the_large(probability: Doubles, label: Doubles, weights: Doubles) -> Doubles:
    """The intercept of a logistic recalibration with its slope held at 1, for weights [R, N].

    0 is right; above 0 the model predicts too low (Van Calster et al. 2019). A set without both
    outcomes gives NaN.
    """
    x = logit(probability)
    intercept = np.zeros(weights.shape[0])
    events = weights @ label
    for _ in range(_STEPS):
        p = sigmoid(intercept[:, None] + x)
        with np.errstate(invalid="ignore", divide="ignore"):
            step = (events - (weights * p).sum(axis=1)) / (weights * p * (1.0 - p)).sum(axis=1)
        intercept += np.clip(step, -_LARGEST_STEP, _LARGEST_STEP)
        if not (np.abs(step) > _SETTLED).any():
            break
    intercept[(events == 0) | (events == weights.sum(axis=1))] = np.nan
    return intercept
