"""Discrimination, accuracy and net benefit for many sets of row weights at once.

Every function takes weights [R, N] and gives an array [R] (or [R, T] over T thresholds); a set of
weights without both outcomes gives NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.calibrate import Doubles


@dataclass(frozen=True)
class Ranking:
    """Rows in descending order of a score, with the rows that tie kept together."""

    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    label: Doubles

    def grouped(self, weights: Doubles) -> tuple[Doubles, Doubles]:
        """Weight of the events and of the others [R, groups], from the highest score down."""
        ordered = weights[:, self.order]
        events = np.add.reduceat(ordered * self.label, self.starts, axis=1)
        others = np.add.reduceat(ordered * (1.0 - self.label), self.starts, axis=1)
        return events, others


def rank(score: Doubles, label: Doubles) -> Ranking:
    """Rank scores [N] with their labels [N]."""
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    return Ranking(order, starts, label[order])


def auroc(ranking: Ranking, weights: Doubles) -> Doubles:
    """Area under the ROC curve: how often an event outranks a non-event, ties counting half."""
    events, others = ranking.grouped(weights)
    outranked = others[:, ::-1].cumsum(axis=1)[:, ::-1] - others / 2.0
    with np.errstate(invalid="ignore", divide="ignore"):
        area: Doubles = (events * outranked).sum(axis=1) / (events.sum(axis=1) * others.sum(axis=1))
    return area


def auprc(ranking: Ranking, weights: Doubles) -> Doubles:
    """Average precision: the area under the precision-recall steps."""
    events, others = ranking.grouped(weights)
    found = events.cumsum(axis=1)
    flagged = found + others.cumsum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(flagged > 0, found / flagged, 0.0)
        area: Doubles = (events * precision).sum(axis=1) / events.sum(axis=1)
    return area


def brier(probability: Doubles, label: Doubles, weights: Doubles) -> Doubles:
    """Mean squared distance of probability and outcome (Brier 1950)."""
    score: Doubles = weights @ (probability - label) ** 2 / weights.sum(axis=1)
    return score


def flagged_rates(
    probability: Doubles, label: Doubles, thresholds: Doubles, weights: Doubles
) -> tuple[Doubles, Doubles]:
    """Shares of all rows that are flagged (`probability >= threshold`) and have the event, or not.

    Both are [R, T] over thresholds [T].
    """
    flagged = (probability[:, None] >= thresholds).astype(np.float64)
    total = weights.sum(axis=1, keepdims=True)
    true = (weights * label) @ flagged / total
    false = (weights * (1.0 - label)) @ flagged / total
    return true, false


def net_benefit(
    probability: Doubles, label: Doubles, thresholds: Doubles, weights: Doubles
) -> Doubles:
    """Net benefit [R, T] of acting at or above each threshold (Vickers & Elkin 2006)."""
    true, false = flagged_rates(probability, label, thresholds, weights)
    benefit: Doubles = true - false * thresholds / (1.0 - thresholds)
    return benefit


def roc_points(ranking: Ranking) -> tuple[Doubles, Doubles]:
    """False and true positive rates of the ROC curve, from (0, 0) to (1, 1)."""
    events, others = ranking.grouped(np.ones((1, ranking.label.size)))
    false = np.r_[0.0, others[0].cumsum()] / others.sum()
    true = np.r_[0.0, events[0].cumsum()] / events.sum()
    return false, true
