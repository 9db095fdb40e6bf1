"""Percentile intervals by resampling patients, not rows: stays of a patient are not independent.

Efron & Tibshirani 1993, with whole clusters as units (Field & Welsh 2007). A statistic is a
function of row weights [R, N] and computes R replicates at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training.calibrate import Doubles

REPLICATES: Final = 500
LEVEL: Final = 0.95
SEED: Final = 20
_CELLS_AT_ONCE: Final = 4_000_000

Statistic = Callable[[Doubles], Mapping[str, Doubles]]


@dataclass(frozen=True)
class Interval:
    """An estimate with the ends of its interval; arrays of one shape (a number has shape ())."""

    value: Doubles
    low: Doubles
    high: Doubles

    def json(self) -> dict[str, Any]:
        """`{value, low, high}`, to 6 decimals; what can't be computed is None."""
        return {name: _plain(getattr(self, name)) for name in ("value", "low", "high")}


def clustered(
    statistic: Statistic, patient: NDArray[np.int64], replicates: int = REPLICATES
) -> dict[str, Interval]:
    """Each named result of `statistic` with its interval over resamples of patients [N].

    `statistic` maps weights [R, N] to arrays [R, ...]. The estimate has all weights 1. Replicates
    without a value (NaN: no event was drawn, say) are left out of the percentiles.
    """
    estimate = statistic(np.ones((1, patient.size)))
    drawn = [statistic(weights) for weights in _resamples(patient, replicates)]
    tail = 100.0 * (1.0 - LEVEL) / 2.0
    intervals = {}
    for name, value in estimate.items():
        ends = _percentiles(np.concatenate([draw[name] for draw in drawn]), [tail, 100.0 - tail])
        intervals[name] = Interval(value[0], ends[0], ends[1])
    return intervals


def _resamples(patient: NDArray[np.int64], replicates: int) -> Iterator[Doubles]:
    """Weights [some, N]: how often each row's patient was drawn, for all the replicates."""
    names, index = np.unique(patient, return_inverse=True)
    random = np.random.default_rng(SEED)
    at_once = max(1, _CELLS_AT_ONCE // max(1, patient.size))
    for start in range(0, replicates, at_once):
        count = min(at_once, replicates - start)
        drawn = random.integers(0, names.size, (count, names.size))
        drawn += names.size * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * names.size)
        yield times.reshape(count, names.size)[:, index].astype(np.float64)


def _percentiles(values: Doubles, points: list[float]) -> Doubles:
    known = ~np.isnan(values)
    if known.all():
        ends: Doubles = np.percentile(values, points, axis=0)
        return ends
    flat = values.reshape(values.shape[0], -1)
    result = np.full((len(points), flat.shape[1]), np.nan)
    for column in range(flat.shape[1]):
        kept = flat[~np.isnan(flat[:, column]), column]
        if kept.size:
            result[:, column] = np.percentile(kept, points)
    return result.reshape(len(points), *values.shape[1:])


def _plain(value: Doubles) -> Any:
    if np.ndim(value):
        return [_plain(item) for item in value]
    return None if np.isnan(value) else round(float(value), 6)
