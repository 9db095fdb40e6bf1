"""Which rows train and which test: apart by patient and by time, from de-identified data alone.

Patients are hashed into train and test; train rows are those of approximate years before the
embargo year, test rows those after it. Rows of the embargo year are dropped, so that no outcome of
a train row, nor the rounding of an approximate year, reaches into the test period.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_FOLD_SALT: Final = 0x5DEECE66D


@dataclass(frozen=True)
class SplitRule:
    """How rows are parted.

    `embargo_year` is the year that is left out; None chooses the year after which the share of
    rows is nearest to `after_share` (the earlier of two that are equally near). `test_share` is the
    share of patients whose later rows test; `folds` parts the train patients for cross-fitting.
    """

    test_share: float = 0.4
    after_share: float = 0.33
    folds: int = 5
    salt: int = 20
    embargo_year: int | None = None


@dataclass(frozen=True)
class Split:
    """Row masks `train` and `test` (bool [N]) and each row's cross-fitting `fold` (int [N])."""

    embargo_year: int
    train: NDArray[np.bool_]
    test: NDArray[np.bool_]
    fold: NDArray[np.int64]


def splitmix64(keys: NDArray[np.int64], salt: int) -> NDArray[np.uint64]:
    """A stable 64-bit hash of integers (Steele, Lea & Flood 2014, "SplittableRandom").

    Stable over processes, platforms and versions of Python and numpy, unlike `hash`.
    """
    start = np.uint64(salt * 0x9E3779B97F4A7C15 % 2**64)
    mixed = keys.astype(np.uint64) + start
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def choose_embargo_year(years: NDArray[np.int16], after_share: float) -> int | None:
    """The year with rows both before and after it whose share of rows after is nearest.

    None where the rows span fewer than three years.
    """
    if years.size == 0:
        return None
    between = np.arange(int(years.min()) + 1, int(years.max()))
    if between.size == 0:
        return None
    after = np.array([(years > year).mean() for year in between])
    return int(between[np.argmin(np.abs(after - after_share))])


def split_rows(
    patient: NDArray[np.int64], year: NDArray[np.int16], rule: SplitRule
) -> Split | None:
    """Part the rows [N] by `rule`; None where no embargo year leaves rows on both sides."""
    embargo = rule.embargo_year
    if embargo is None:
        embargo = choose_embargo_year(year, rule.after_share)
    if embargo is None or not (year < embargo).any() or not (year > embargo).any():
        return None
    uniform = splitmix64(patient, rule.salt).astype(np.float64) / 2.0**64
    tests = uniform < rule.test_share
    fold = splitmix64(patient, rule.salt ^ _FOLD_SALT) % np.uint64(rule.folds)
    return Split(
        embargo_year=embargo,
        train=~tests & (year < embargo),
        test=tests & (year > embargo),
        fold=fold.astype(np.int64),
    )
