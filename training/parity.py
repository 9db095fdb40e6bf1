"""Proof that the exported graph is the native model: on real rows, and on rows made to differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from exports.errors import FhirloomError
from training.calibrate import Doubles
from training.graph import INPUT, OUTPUT
from training.logistic import Floats
from training.runtime import open_graph

TOLERANCE: Final = 1e-6
_ROWS_AT_ONCE: Final = 50_000
_LARGEST: Final = np.finfo(np.float32).max
_SMALLEST: Final = np.finfo(np.float32).smallest_subnormal


@dataclass(frozen=True)
class Parity:
    """The largest absolute difference of probability, to two digits, on real and on made rows."""

    rows: int
    largest: float
    adversarial_rows: int
    adversarial_largest: float


def run_graph(graph: bytes, rows: Floats) -> Floats:
    """Probabilities [N] by onnxruntime, on one thread, of rows [N, n]."""
    session = open_graph(graph)
    parts = [
        session.run([OUTPUT], {INPUT: np.ascontiguousarray(rows[start : start + _ROWS_AT_ONCE])})[0]
        for start in range(0, max(1, rows.shape[0]), _ROWS_AT_ONCE)
    ]
    result: Floats = np.concatenate(parts)
    return result


def check_parity(
    graph: bytes, native: Callable[[Floats], Doubles], rows: Floats, made: Floats
) -> Parity:
    """Hold the graph against `native` on real rows [N, n] and adversarial ones [M, n].

    Raises `FhirloomError` (parity-failed) where any probability differs by more than 1e-6, or is
    not a number.
    """
    largest = [_largest_difference(graph, native, given) for given in (rows, made)]
    for difference, kind in zip(largest, ("test", "adversarial"), strict=True):
        if not difference <= TOLERANCE:
            raise FhirloomError(
                "parity-failed",
                f"The ONNX graph and the native model differ by {difference:.2g} in probability "
                f"on {kind} rows, where {TOLERANCE:g} is allowed",
                where="model.onnx",
                fix="Don't use this model; report the versions of xgboost and onnxmltools.",
            )
    real, adversarial = (float(f"{difference:.2g}") for difference in largest)
    return Parity(len(rows), real, len(made), adversarial)


def _largest_difference(graph: bytes, native: Callable[[Floats], Doubles], rows: Floats) -> float:
    if not len(rows):
        return 0.0
    return float(np.max(np.abs(run_graph(graph, rows).astype(np.float64) - native(rows))))


def adversarial_rows(sample: Floats, cut_points: list[Floats]) -> Floats:
    """Rows [M, n] on which conversions are known to go wrong.

    All unknown; all zero, negative zero, infinite, the largest, the smallest; each feature alone
    unknown or alone known; every cut point of every feature and its two neighbours in float32, in
    the rows of `sample` [S, n] by turns, and in all features together.
    """
    count = sample.shape[1]
    edges = (0.0, -0.0, 1.0, np.inf, -np.inf, _LARGEST, -_LARGEST, _SMALLEST, -_SMALLEST, np.nan)
    parts = [np.full((1, count), edge, dtype=np.float32) for edge in edges]
    typical = sample[:1]
    alone_unknown = np.repeat(typical, count, axis=0)
    alone_known = np.full((count, count), np.nan, dtype=np.float32)
    np.fill_diagonal(alone_unknown, np.nan)
    np.fill_diagonal(alone_known, 1.0)
    parts += [alone_unknown, alone_known]
    ties = [_with_neighbours(points) for points in cut_points]
    for feature, values in enumerate(ties):
        changed = sample[np.arange(values.size) % len(sample)].copy()
        changed[:, feature] = values
        parts.append(changed)
    longest = max((values.size for values in ties), default=0)
    together = np.full((longest, count), np.nan, dtype=np.float32)
    for feature, values in enumerate(ties):
        if values.size:
            together[:, feature] = np.resize(values, longest)
    return np.concatenate([*parts, together])


def _with_neighbours(points: Floats) -> Floats:
    below = np.nextafter(points, np.float32(-np.inf))
    above = np.nextafter(points, np.float32(np.inf))
    return np.concatenate([points, below, above]).astype(np.float32)
