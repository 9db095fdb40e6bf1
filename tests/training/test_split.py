from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from training.split import SplitRule, choose_embargo_year, split_rows, splitmix64

rows = st.lists(
    st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(2010, 2020)), min_size=1, max_size=200
)


def columns(pairs: list[tuple[int, int]]) -> tuple[NDArray[np.int64], NDArray[np.int16]]:
    patient, year = zip(*pairs, strict=True)
    return np.array(patient, dtype=np.int64), np.array(year, dtype=np.int16)


@given(rows, st.integers(0, 100))
def test_no_patient_and_no_year_is_on_both_sides(pairs: list[tuple[int, int]], salt: int) -> None:
    patient, year = columns(pairs)
    split = split_rows(patient, year, SplitRule(salt=salt))
    if split is None:
        assert year.max() - year.min() < 2
        return
    assert not set(patient[split.train]) & set(patient[split.test])
    assert (year[split.train] < split.embargo_year).all()
    assert (year[split.test] > split.embargo_year).all()


@given(rows)
def test_a_patient_has_one_fold_and_one_side_whatever_the_other_rows(
    pairs: list[tuple[int, int]],
) -> None:
    patient, year = columns(pairs)
    rule = SplitRule(embargo_year=2015)
    split = split_rows(patient, year, rule)
    kept = np.arange(0, patient.size, 2)
    part = split_rows(patient[kept], year[kept], rule)
    if split is None or part is None:
        return
    assert (split.train[kept] == part.train).all()
    assert (split.test[kept] == part.test).all()
    assert (split.fold[kept] == part.fold).all()
    assert len({*zip(patient.tolist(), split.fold.tolist(), strict=True)}) == len(set(patient))


def test_the_hash_is_stable_and_spreads_neighbouring_keys() -> None:
    # The first outputs of the reference splitmix64 from seed 0 are those of its increments.
    assert splitmix64(np.array([0], dtype=np.int64), 1)[0] == 0xE220A8397B1DCDAF
    assert splitmix64(np.array([0], dtype=np.int64), 2)[0] == 0x6E789E6AA1B965F4
    shares = splitmix64(np.arange(20_000, dtype=np.int64), 7).astype(float) / 2.0**64
    assert abs((shares < 0.4).mean() - 0.4) < 0.015


def test_folds_are_independent_of_the_side() -> None:
    patient = np.arange(20_000, dtype=np.int64)
    year = np.full(patient.size, 2010, dtype=np.int16)
    year[-1] = 2019
    split = split_rows(patient, year, SplitRule(embargo_year=2015))
    assert split is not None
    sizes = np.bincount(split.fold[split.train])
    assert sizes.size == 5
    assert (np.abs(sizes / split.train.sum() - 0.2) < 0.02).all()


def test_about_a_third_of_the_rows_come_after_the_embargo_year() -> None:
    years = np.repeat(np.arange(2015, 2021), 100).astype(np.int16)
    assert choose_embargo_year(years, 0.33) == 2018
    assert choose_embargo_year(years[years < 2017], 0.33) is None
    assert choose_embargo_year(years[:0], 0.33) is None
