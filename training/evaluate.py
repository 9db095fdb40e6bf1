"""What a model is worth on rows of patients and years that it has never seen.

Reported as TRIPOD+AI asks (Collins et al. 2024): discrimination, calibration, clinical utility
(decision curve) and subgroups, each with an interval over resampled patients.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from training import metrics
from training.bootstrap import LEVEL, REPLICATES, SEED, clustered
from training.calibrate import Doubles, calibration_in_the_large, logistic_line, logit
from training.metrics import rank

SMALLEST_CELL: Final = 11
DECISION_THRESHOLDS: Final = np.round(np.arange(0.02, 0.505, 0.01), 2)
FLAGGED_SHARES: Final = (0.05, 0.10, 0.20)
_ROWS_PER_GROUP: Final = 40
_ROC_GRID: Final = np.linspace(0.0, 1.0, 201)


@dataclass(frozen=True)
class HeldOutRows:
    """The rows that test; every array is [N].

    `scores` are clinical scores (higher is riskier, NaN is unknown), `oracle` the true risk (NaN
    where it is not known) or None, and `groups` maps an attribute to each row's value.
    """

    patient: NDArray[np.int64]
    label: Doubles
    scores: Mapping[str, Doubles]
    oracle: Doubles | None
    groups: Mapping[str, NDArray[Any]]

    @property
    def comparators(self) -> dict[str, Doubles]:
        """What the model is held against: the clinical scores and, where known, the true risk."""
        return {**self.scores, **({} if self.oracle is None else {"oracle": self.oracle})}


def intervals_method() -> dict[str, Any]:
    """How every interval of an evaluation was made."""
    return {
        "method": "percentile bootstrap over patients",
        "replicates": REPLICATES,
        "level": LEVEL,
        "seed": SEED,
    }


def performance(probability: Doubles, rows: HeldOutRows) -> dict[str, Any]:
    """AUROC, AUPRC, Brier score, calibration intercept, slope and in-the-large, with intervals."""
    ranking, log_odds = rank(probability, rows.label), logit(probability)

    def statistic(weights: Doubles) -> dict[str, Doubles]:
        intercept, slope = logistic_line(log_odds, rows.label, weights)
        return {
            "auroc": metrics.auroc(ranking, weights),
            "auprc": metrics.auprc(ranking, weights),
            "brier": metrics.brier(probability, rows.label, weights),
            "calibration_intercept": intercept,
            "calibration_slope": slope,
            "calibration_in_the_large": calibration_in_the_large(probability, rows.label, weights),
        }

    return {name: found.json() for name, found in clustered(statistic, rows.patient).items()}


def comparison(probability: Doubles, score: Doubles, rows: HeldOutRows) -> dict[str, Any]:
    """A comparator's AUROC, and the model's minus it, paired: on the same rows and resamples.

    Rows where the comparator is unknown are left out of both.
    """
    known = np.isfinite(score)
    label = rows.label[known]
    ours, theirs = rank(probability[known], label), rank(score[known], label)

    def statistic(weights: Doubles) -> dict[str, Doubles]:
        theirs_area = metrics.auroc(theirs, weights)
        return {
            "auroc": theirs_area,
            "model_minus_this": metrics.auroc(ours, weights) - theirs_area,
        }

    found = clustered(statistic, rows.patient[known])
    return {"rows": int(known.sum()), **{name: value.json() for name, value in found.items()}}


def subgroups(probability: Doubles, rows: HeldOutRows) -> list[dict[str, Any]]:
    """Discrimination and calibration by group; counts under 11 are withheld, not just rates."""
    found = []
    for attribute, values in rows.groups.items():
        for value in np.unique(values):
            inside = values == value
            found.append(
                {
                    "attribute": attribute,
                    "value": str(value),
                    **_subgroup(probability[inside], rows.label[inside], rows.patient[inside]),
                }
            )
    return found


def _subgroup(probability: Doubles, label: Doubles, patient: NDArray[np.int64]) -> dict[str, Any]:
    events = int(label.sum())
    if min(events, label.size - events) < SMALLEST_CELL:
        return {"rows": _cell(label.size), "events": None, "too_few": True}
    ranking = rank(probability, label)
    found = clustered(
        lambda weights: {
            "auroc": metrics.auroc(ranking, weights),
            "calibration_in_the_large": calibration_in_the_large(probability, label, weights),
        },
        patient,
    )
    return {
        "rows": label.size,
        "events": events,
        "too_few": False,
        "observed": round(float(label.mean()), 6),
        "predicted": round(float(probability.mean()), 6),
        **{name: value.json() for name, value in found.items()},
    }


def _cell(count: int) -> int | None:
    return count if count >= SMALLEST_CELL else None


def operating_points(
    crossfitted: Doubles, probability: Doubles, rows: HeldOutRows
) -> list[dict[str, Any]]:
    """Thresholds that flag a share of the train rows, and what each does on the test rows.

    `crossfitted` are probabilities of train rows by models that had not seen their patients: test
    rows have no part in choosing a threshold.
    """
    points = []
    for share in FLAGGED_SHARES:
        threshold = round(float(np.quantile(crossfitted, 1.0 - share)), 6)
        at = np.array([threshold])

        def statistic(weights: Doubles, at: Doubles = at) -> dict[str, Doubles]:
            true, false = (
                rate[:, 0] for rate in metrics.flagged_rates(probability, rows.label, at, weights)
            )
            prevalence = weights @ rows.label / weights.sum(axis=1)
            with np.errstate(invalid="ignore", divide="ignore"):
                return {
                    "flagged": true + false,
                    "sensitivity": true / prevalence,
                    "specificity": 1.0 - false / (1.0 - prevalence),
                    "positive_predictive_value": true / (true + false),
                }

        found = clustered(statistic, rows.patient)
        points.append(
            {
                "name": f"top {share:.0%}",
                "threshold": threshold,
                **{name: value.json() for name, value in found.items()},
            }
        )
    return points


def curves(probability: Doubles, rows: HeldOutRows) -> dict[str, Any]:
    """ROC curves, calibration by groups of equal size with a histogram, and the decision curve."""
    roc = {"model": _roc(probability, rows.label)}
    for name, score in rows.comparators.items():
        known = np.isfinite(score)
        roc[name] = _roc(score[known], rows.label[known])
    return {
        "roc": roc,
        "calibration": _calibration(probability, rows),
        "decision": _decision(probability, rows),
    }


def _roc(score: Doubles, label: Doubles) -> dict[str, Any]:
    false, true = metrics.roc_points(rank(score, label))
    # On a grid, so that the curve's points are not the rows.
    return {
        "false_positive_rate": np.round(_ROC_GRID, 4).tolist(),
        "true_positive_rate": [0.0, *np.round(np.interp(_ROC_GRID[1:], false, true), 4).tolist()],
    }


def _calibration(probability: Doubles, rows: HeldOutRows) -> dict[str, Any]:
    count = int(np.clip(probability.size // _ROWS_PER_GROUP, 2, 10))
    group = np.empty(probability.size, dtype=np.int64)
    group[np.argsort(probability, kind="stable")] = (
        np.arange(probability.size) * count // probability.size
    )
    member = (group[:, None] == np.arange(count)).astype(np.float64)

    def statistic(weights: Doubles) -> dict[str, Doubles]:
        size = weights @ member
        with np.errstate(invalid="ignore", divide="ignore"):
            return {
                "predicted": (weights * probability) @ member / size,
                "observed": (weights * rows.label) @ member / size,
            }

    found = clustered(statistic, rows.patient)
    counts, edges = np.histogram(probability, bins=40, range=(0.0, 1.0))
    return {
        "predicted": found["predicted"].json()["value"],
        "observed": found["observed"].json(),
        "rows": member.sum(axis=0).astype(int).tolist(),
        "histogram": {"counts": counts.tolist(), "edges": np.round(edges, 4).tolist()},
    }


def _decision(probability: Doubles, rows: HeldOutRows) -> dict[str, Any]:
    everyone = np.ones_like(probability)

    def statistic(weights: Doubles) -> dict[str, Doubles]:
        acted = (DECISION_THRESHOLDS, weights)
        return {
            "model": metrics.net_benefit(probability, rows.label, *acted),
            "treat_all": metrics.net_benefit(everyone, rows.label, *acted),
        }

    found = clustered(statistic, rows.patient)
    return {
        "threshold": DECISION_THRESHOLDS.tolist(),
        **{name: value.json() for name, value in found.items()},
    }
