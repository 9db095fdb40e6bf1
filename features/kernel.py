"""The one kernel: features of index events from event tables, for training and live use alike.

What an index event of a patient at time `t` sees are that patient's own rows with

    known_at < t   (strictly: what becomes known at t itself is not yet known), and
    t - window <= time   (for a feature with a window; `time <= known_at`, hence `time < t`).

Rows of a static view (`patient`) are always seen. A row without a time (its date is partial) is
there only for `count` and `ever` without a window: that it was is known, but not when. Of several
rows at the same time the largest value is the latest: `last` takes the latest time, then the
largest value; `first` the earliest time, then the smallest value. Rows without a (finite) value are
not there for a feature that reads values. `count` and `ever` are 0 where nothing is seen, the
others NaN; `slope` is NaN unless rows of two different times are seen. `slope` is by ordinary least
squares, per day.

Times are int64 seconds, values float64, and the float32 cast comes last. Only differences between
times of one patient enter a result, and each result is summed over that patient's rows in the order
(time, value). So a row depends, to the bit, on nothing but what its index event sees: not on the
zero of its times, on other patients, on later rows, nor on the order in which rows are given.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.columns import Rows
from features.spec import VIEWS, Aggregate, Feature
from features.timeline import Timeline, between

DAY: Final = 86400.0
_EMPTY: Final[Mapping[Aggregate, float]] = {"count": 0.0, "ever": 0.0}
_SECONDS: Final[Mapping[str, float]] = {"h": 3600.0, "d": DAY}

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Index:
    """Index events: `patient` and `time` (seconds from the patient's zero), int64 [N] each."""

    patient: Ints
    time: Ints

    def __len__(self) -> int:
        return len(self.patient)


def compute(
    events: Mapping[str, pa.Table], index: Index, features: Sequence[Feature]
) -> NDArray[np.float32]:
    """The features of each index event: float32 [index events, features].

    `events` holds at least the views and columns of `columns_read(features)`, for any patients.
    """
    if not len(index):
        return np.empty((0, len(features)), np.float32)
    columns = np.empty((len(features), len(index)), np.float32)
    timeline = Timeline(index.patient, index.time)
    by_view: defaultdict[str, defaultdict[object, list[int]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for position, feature in enumerate(features):
        group = (feature.codes, feature.where, feature.value, _needs_time(feature))
        by_view[feature.view][group].append(position)
    for view, groups in by_view.items():
        rows = Rows(events[view], timeline, static=VIEWS[view].static)
        for positions in groups.values():
            _compute_group(rows, timeline, features, positions, columns)
    result = np.empty((len(index), len(features)), np.float32)
    result[timeline.order] = columns.T
    return result


@dataclass(frozen=True)
class _Series:
    """Rows of one group in the order (patient, time, value), as ordered integer keys."""

    time: Ints
    known: Ints
    value: Floats


_NOTHING: Final = _Series(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))


@dataclass(frozen=True)
class _Seen:
    """What index events see: those in `at` see at least one row, rows[start:stop] of `series`."""

    at: Ints
    start: Ints
    stop: Ints
    time: Ints
    value: Floats

    def reduce(self, ufunc: np.ufunc, values: Floats) -> Floats:
        """`ufunc` over each event's own rows, always in the same order of additions."""
        order = self.start.argsort(kind="stable")
        bounds = np.empty(2 * len(order), np.int64)
        bounds[::2], bounds[1::2] = self.start[order], self.stop[order]
        result = np.empty(len(order))
        # reduceat takes no bound at the very end, hence one value more that no event sees.
        result[order] = ufunc.reduceat(np.append(values, 0.0), bounds)[::2]
        return result


def _compute_group(
    rows: Rows,
    timeline: Timeline,
    features: Sequence[Feature],
    positions: Sequence[int],
    columns: NDArray[np.float32],
) -> None:
    """Fill the columns of the features that share view, codes, `where` and value."""
    series = _series(rows, features[positions[0]])
    windows: dict[int | None, _Seen] = {}
    for position in positions:
        feature = features[position]
        columns[position] = _EMPTY.get(feature.aggregate, np.nan)
        if not len(series.time):
            continue
        if feature.window not in windows:
            windows[feature.window] = _see(series, timeline, feature.window)
        seen = windows[feature.window]
        if len(seen.at):
            columns[position, seen.at] = _AGGREGATES[feature.aggregate](seen, timeline, feature)


def _needs_time(feature: Feature) -> bool:
    return feature.window is not None or feature.aggregate not in ("count", "ever")


def _series(rows: Rows, feature: Feature) -> _Series:
    picked = rows.pick(feature.codes, feature.where)
    if _needs_time(feature):
        picked = picked[rows.dated[picked]]
    if not len(picked):
        return _NOTHING
    time, known = rows.time[picked], rows.known[picked]
    if feature.value is None:
        order = time.argsort(kind="stable")
        value = np.zeros(len(order))
    else:
        # + 0.0 makes -0.0 and 0.0 one value, so that equal rows have but one order.
        value = rows.values(feature.value)[picked] + 0.0
        finite = np.isfinite(value)
        time, known, value = time[finite], known[finite], value[finite]
        order = np.lexsort((value, time))
        value = value[order]
    return _Series(time[order], known[order], value)


def _see(series: _Series, timeline: Timeline, window: int | None) -> _Seen:
    start = series.time.searchsorted(timeline.since(window))
    stop = series.time.searchsorted(timeline.at)
    time, value = series.time, series.value
    # All rows before the first that becomes known at t or later are seen; only where the range
    # goes beyond it must rows be looked at one by one, and are then copied to the end.
    certain = np.maximum.accumulate(series.known).searchsorted(timeline.at)
    late = ((certain < stop) & (start < stop)).nonzero()[0]
    if len(late):
        rows, owner = between(start[late], stop[late])
        visible = series.known[rows] < timeline.at[late][owner]
        rows, owner = rows[visible], owner[visible]
        stop[late] = len(time) + np.cumsum(np.bincount(owner, minlength=len(late)))
        start[late] = np.concatenate(([len(time)], stop[late][:-1]))
        time, value = np.concatenate((time, time[rows])), np.concatenate((value, value[rows]))
    at = (start < stop).nonzero()[0]
    return _Seen(at, start[at], stop[at], time, value)


def _time_since(seen: _Seen, timeline: Timeline, feature: Feature) -> Floats:
    seconds = timeline.at[seen.at] - seen.time[seen.stop - 1]
    return seconds / _SECONDS[feature.unit]


def _mean(seen: _Seen, timeline: Timeline, feature: Feature) -> Floats:
    return seen.reduce(np.add, seen.value) / (seen.stop - seen.start)


def _slope(seen: _Seen, timeline: Timeline, feature: Feature) -> Floats:
    rows, owner = between(seen.start, seen.stop)
    latest = seen.stop - 1
    days = (seen.time[rows] - seen.time[latest][owner]) / DAY
    rise = seen.value[rows] - seen.value[latest][owner]
    count = seen.stop - seen.start
    first = np.cumsum(count) - count
    days -= (np.add.reduceat(days, first) / count)[owner]
    rise -= (np.add.reduceat(rise, first) / count)[owner]
    spread = np.add.reduceat(days * days, first)
    slope = np.full(len(count), np.nan)
    several = seen.time[seen.start] < seen.time[latest]
    np.divide(np.add.reduceat(days * rise, first), spread, out=slope, where=several)
    return slope


_AGGREGATES: Final[Mapping[Aggregate, Callable[[_Seen, Timeline, Feature], Floats]]] = {
    "last": lambda seen, timeline, feature: seen.value[seen.stop - 1],
    "first": lambda seen, timeline, feature: seen.value[seen.start],
    "min": lambda seen, timeline, feature: seen.reduce(np.minimum, seen.value),
    "max": lambda seen, timeline, feature: seen.reduce(np.maximum, seen.value),
    "mean": _mean,
    "slope": _slope,
    "count": lambda seen, timeline, feature: (seen.stop - seen.start).astype(np.float64),
    "ever": lambda seen, timeline, feature: np.ones(len(seen.at)),
    "time_since": _time_since,
}
