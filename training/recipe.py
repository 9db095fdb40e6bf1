"""Recipes are data: a YAML file names a learner and its settings; fitting one also calibrates it.

Everything that is learned about a fit (its penalty or rounds, its calibration, its rank among the
recipes) is learned on train patients, by folds of patients: each row is predicted by a model that
never saw its patient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import yaml
from numpy.typing import NDArray

from exports.errors import FhirloomError
from training import logistic, trees
from training.calibrate import Doubles, Platt, fit_platt
from training.logistic import Floats, Labels

RECIPES: Final = Path(__file__).parent / "recipes"


class Model(Protocol):
    """A fitted learner over n features: raw features (NaN is unknown) to log-odds."""

    def margin(self, rows: Floats) -> Doubles:
        """Log-odds [N] of rows [N, n]."""

    def cut_points(self) -> list[Floats]:
        """Per feature, the values at which the response changes its form."""

    def importance(self) -> Doubles:
        """Each feature's share of the model [n]; sums to 1."""

    def save(self, folder: Path) -> None:
        """Write the learner's own file into `folder`."""


class Learner(Protocol):
    """A module that settles a recipe's open settings on folds, and fits."""

    def settle(
        self, settings: Mapping[str, Any], rows: Floats, label: Labels, fold: NDArray[np.int64]
    ) -> Mapping[str, Any]:
        """Settings with nothing left to choose."""

    def fit(self, settings: Mapping[str, Any], rows: Floats, label: Labels) -> Model:
        """A model fitted with settled settings."""


LEARNERS: Final[Mapping[str, Learner]] = {"logistic": logistic, "trees": trees}


@dataclass(frozen=True)
class Recipe:
    """A recipe file: its `name`, the `learner` (`logistic` or `trees`) and the settings."""

    name: str
    learner: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Candidate:
    """A fitted and calibrated recipe.

    `crossfitted` are the calibrated probabilities [train rows], each by a model that did not see
    the row's patient; `log_loss` is their mean log loss, by which the candidate is chosen.
    """

    recipe: Recipe
    settled: Mapping[str, Any]
    model: Model
    platt: Platt
    crossfitted: Doubles
    log_loss: float

    def probability(self, rows: Floats) -> Doubles:
        """Calibrated probabilities [N] of rows [N, n]: the native path."""
        return self.platt.probability(self.model.margin(rows))


def load_recipes(folder: Path = RECIPES) -> tuple[Recipe, ...]:
    """The recipes of a folder by name.

    Raises `FhirloomError` (bad-input) where there are none, or one is not a recipe.
    """
    recipes = [_load(path) for path in sorted(folder.glob("*.yaml"))]
    if not recipes:
        raise FhirloomError(
            "bad-input", "There are no recipes", where=str(folder), fix="Add a recipe (*.yaml)."
        )
    return tuple(sorted(recipes, key=lambda recipe: recipe.name))


def _load(path: Path) -> Recipe:
    read = yaml.safe_load(path.read_text())
    if not isinstance(read, dict) or set(read) != {"name", "learner", "settings"}:
        raise FhirloomError(
            "bad-input",
            "A recipe needs `name`, `learner` and `settings`, and nothing else",
            where=path.name,
            fix="Compare it with training/recipes/xgboost.yaml.",
        )
    if read["learner"] not in LEARNERS:
        raise FhirloomError(
            "bad-input",
            "The recipe names an unknown learner",
            where=path.name,
            fix=f"Use one of: {', '.join(LEARNERS)}.",
        )
    return Recipe(read["name"], read["learner"], read["settings"])


def fit_candidate(
    recipe: Recipe, rows: Floats, label: Labels, fold: NDArray[np.int64]
) -> Candidate:
    """Settle, cross-fit, calibrate and fit a recipe on train rows [N, n], labels and folds [N]."""
    learner = LEARNERS[recipe.learner]
    settled = learner.settle(recipe.settings, rows, label, fold)
    margin = np.empty(label.size)
    for held_out in np.unique(fold):
        fitting = fold != held_out
        model = learner.fit(settled, rows[fitting], label[fitting])
        margin[~fitting] = model.margin(rows[~fitting])
    platt = fit_platt(margin, label)
    crossfitted = platt.probability(margin)
    loss = -np.log(np.clip(np.where(label == 1, crossfitted, 1.0 - crossfitted), 1e-12, 1.0))
    return Candidate(
        recipe=recipe,
        settled=settled,
        model=learner.fit(settled, rows, label),
        platt=platt,
        crossfitted=crossfitted,
        log_loss=float(loss.mean()),
    )
