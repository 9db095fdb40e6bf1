from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score

from training import metrics
from training.bootstrap import clustered
from training.calibrate import calibration_in_the_large, fit_platt, logistic_line, sigmoid
from training.metrics import rank

RANDOM = np.random.default_rng(3)
ROWS = 400
RISK = np.round(RANDOM.beta(2, 6, ROWS), 2)
LABEL = (RANDOM.random(ROWS) < RISK).astype(np.float64)
WEIGHTS = RANDOM.integers(0, 4, (5, ROWS)).astype(np.float64)


def test_areas_and_brier_score_equal_scikit_learns_with_ties_and_weights() -> None:
    ranking = rank(RISK, LABEL)
    ours = zip(
        metrics.auroc(ranking, WEIGHTS),
        metrics.auprc(ranking, WEIGHTS),
        metrics.brier(RISK, LABEL, WEIGHTS),
        strict=True,
    )
    for weights, (auroc, auprc, brier) in zip(WEIGHTS, ours, strict=True):
        assert auroc == pytest.approx(roc_auc_score(LABEL, RISK, sample_weight=weights))
        assert auprc == pytest.approx(average_precision_score(LABEL, RISK, sample_weight=weights))
        assert brier == pytest.approx(brier_score_loss(LABEL, RISK, sample_weight=weights))


def test_a_set_of_weights_without_events_has_no_area() -> None:
    none = (1.0 - LABEL)[None, :]
    assert np.isnan(metrics.auroc(rank(RISK, LABEL), none)).all()
    assert np.isnan(metrics.auprc(rank(RISK, LABEL), none)).all()


def test_the_roc_curve_encloses_the_area() -> None:
    ranking = rank(RISK, LABEL)
    false, true = metrics.roc_points(ranking)
    assert np.trapezoid(true, false) == pytest.approx(metrics.auroc(ranking, np.ones((1, ROWS)))[0])


def test_net_benefit_by_hand() -> None:
    # Four stays, two flagged at 0.25, one of them rightly: 1/4 - 1/4 * (0.25 / 0.75).
    probability, label = np.array([0.9, 0.5, 0.2, 0.1]), np.array([1.0, 0.0, 1.0, 0.0])
    found = metrics.net_benefit(probability, label, np.array([0.25]), np.ones((1, 4)))
    assert found[0, 0] == pytest.approx(0.25 - 0.25 / 3)


def test_a_logistic_line_equals_an_unpenalised_regression() -> None:
    x = RANDOM.normal(size=ROWS)
    reference = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    intercepts, slopes = logistic_line(x, LABEL, WEIGHTS)
    for weights, intercept, slope in zip(WEIGHTS, intercepts, slopes, strict=True):
        fitted = reference.fit(x[:, None], LABEL, sample_weight=weights)
        assert intercept == pytest.approx(fitted.intercept_[0], abs=1e-4)
        assert slope == pytest.approx(fitted.coef_[0, 0], abs=1e-4)


def test_a_line_that_parts_the_outcomes_perfectly_has_no_estimate() -> None:
    x = np.r_[np.linspace(-2, -1, 20), np.linspace(1, 2, 20)]
    intercept, slope = logistic_line(x, (x > 0).astype(np.float64), np.ones((1, 40)))
    assert np.isnan(intercept[0])
    assert np.isnan(slope[0])


def test_platt_scaling_undoes_an_overconfident_margin() -> None:
    margin = RANDOM.normal(size=20_000)
    label = (RANDOM.random(20_000) < sigmoid(0.5 * margin - 1.0)).astype(np.int8)
    platt = fit_platt(margin, label)
    assert platt.slope == pytest.approx(0.5, abs=0.05)
    assert platt.intercept == pytest.approx(-1.0, abs=0.05)


def test_calibration_in_the_large_finds_the_shift() -> None:
    log_odds = RANDOM.normal(-1.5, 1, 20_000)
    label = (RANDOM.random(20_000) < sigmoid(log_odds + 0.7)).astype(np.float64)
    ones = np.ones((1, 20_000))
    found = calibration_in_the_large(sigmoid(log_odds), label, ones)
    assert found[0] == pytest.approx(0.7, abs=0.06)
    assert np.isnan(calibration_in_the_large(sigmoid(log_odds), np.zeros(20_000), ones)[0])


def test_the_interval_of_a_mean_is_the_known_one() -> None:
    values = RANDOM.normal(size=1000)
    found = clustered(
        lambda weights: {"mean": weights @ values / weights.sum(axis=1)},
        np.arange(1000),
        replicates=2000,
    )["mean"]
    half_width = 1.96 * values.std() / np.sqrt(1000)
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half_width, abs=0.1 * half_width)
    assert found.high == pytest.approx(values.mean() + half_width, abs=0.1 * half_width)


def test_copies_of_a_patients_rows_do_not_narrow_an_interval() -> None:
    ranking, patient = rank(RISK, LABEL), np.arange(ROWS)
    once = clustered(lambda weights: {"auroc": metrics.auroc(ranking, weights)}, patient)
    copied = rank(np.tile(RISK, 4), np.tile(LABEL, 4))
    four = clustered(lambda weights: {"auroc": metrics.auroc(copied, weights)}, np.tile(patient, 4))
    assert four["auroc"].low == pytest.approx(once["auroc"].low)
    assert four["auroc"].high == pytest.approx(once["auroc"].high)
    as_if_independent = clustered(
        lambda weights: {"auroc": metrics.auroc(copied, weights)}, np.arange(4 * ROWS)
    )["auroc"]
    width = four["auroc"].high - four["auroc"].low
    assert as_if_independent.high - as_if_independent.low == pytest.approx(width / 2, rel=0.2)


def test_replicates_without_a_value_are_left_out() -> None:
    label = np.r_[1.0, np.zeros(9)]
    found = clustered(
        lambda weights: {"auroc": metrics.auroc(rank(np.arange(10.0), label), weights)},
        np.arange(10),
    )["auroc"]
    assert found.json() == {"value": 0.0, "low": 0.0, "high": 0.0}
