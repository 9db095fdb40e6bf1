"""LACE against its published points (van Walraven et al. 2010, CMAJ 182(6), table 3)."""

from __future__ import annotations

import numpy as np
import pytest

from features.score import load_score

LACE = load_score("lace")
NAMES = [feature.name for feature in LACE.features]


def lace(**values: float) -> float:
    """Points of a planned stay of less than a day, nothing else known, but for `values`."""
    row = dict.fromkeys(NAMES, 0.0) | {"planned": 1.0} | values
    return float(LACE.of(np.array([[row[name] for name in NAMES]], np.float32))[0])


@pytest.mark.parametrize(
    ("days", "points"),
    [(0.9, 0), (1, 1), (1.9, 1), (2, 2), (3, 3), (4, 4), (6.9, 4), (7, 5), (13.9, 5), (14, 7)],
)
def test_length_of_stay(days: float, points: int) -> None:
    assert lace(length_of_stay=days) == points


def test_acute_admission() -> None:
    assert lace(planned=0) == 3
    assert lace(planned=1) == 0
    assert lace(planned=float("nan")) == 0


@pytest.mark.parametrize(("visits", "points"), [(0, 0), (1, 1), (3, 3), (4, 4), (9, 4)])
def test_emergency_visits(visits: int, points: int) -> None:
    assert lace(emergency_visits=visits) == points


@pytest.mark.parametrize(
    ("diseases", "points"),
    [
        (["myocardial_infarction"], 1),
        (["heart_failure"], 2),
        (["myocardial_infarction", "heart_failure"], 3),
        (["diabetes"], 1),
        (["diabetes_complicated"], 2),
        (["diabetes", "diabetes_complicated"], 2),
        (["mild_liver", "mild_renal"], 2),
        (["dementia"], 3),
        (["aids"], 5),
        (["severe_renal"], 5),
        (["metastatic_cancer", "cancer", "dementia"], 5),
    ],
)
def test_comorbidity_is_capped(diseases: list[str], points: int) -> None:
    assert lace(**dict.fromkeys(diseases, 1.0)) == points


def test_the_most_is_nineteen() -> None:
    most = dict.fromkeys(NAMES, 1.0) | {"length_of_stay": 30, "planned": 0, "emergency_visits": 8}
    assert lace(**most) == 19


def test_rows_are_scored_each_for_itself() -> None:
    rows = np.zeros((3, len(NAMES)), np.float32)
    rows[1] = np.nan
    rows[2, NAMES.index("emergency_visits")] = 2
    assert LACE.of(rows).tolist() == [3, 0, 5]
