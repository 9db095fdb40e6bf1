"""Clinical scores as data (`features/scores/*.yaml`): points over features of the same language.

A part of a score adds up groups of weighted features, of each group the heaviest, and gives the
points of the highest threshold that the sum reaches; the score is the sum of its parts' points.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from exports.sealed import hash_json
from features.declaration import Declaration, declaration, read_declaration
from features.spec import Feature, read_features

FOLDER: Final = Path(__file__).parent / "scores"


@dataclass(frozen=True)
class Part:
    """Points of one aspect: `groups` of (feature, weight), `points` as (threshold, points)."""

    name: str
    groups: tuple[tuple[tuple[str, float], ...], ...]
    points: tuple[tuple[float, float], ...]

    def of(self, columns: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float64]:
        """Points of each row; none where a feature is unknown (NaN)."""
        total = np.sum(
            [
                np.max([columns[name].astype(np.float64) * weight for name, weight in group], 0)
                for group in self.groups
            ],
            axis=0,
        )
        thresholds, points = np.array(self.points).T
        reached = np.searchsorted(thresholds, total, side="right")
        return np.where(np.isnan(total), 0.0, np.append(0.0, points)[reached])


@dataclass(frozen=True)
class Score:
    """A clinical score, with the features that it needs."""

    name: str
    description: str
    features: tuple[Feature, ...]
    parts: tuple[Part, ...]

    def of(self, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """The score of rows of its features: float32 [N, features] to float32 [N]."""
        names = (feature.name for feature in self.features)
        columns = dict(zip(names, rows.T, strict=True))
        total: NDArray[np.float64] = np.sum([part.of(columns) for part in self.parts], axis=0)
        return total.astype(np.float32)

    def declaration(self) -> dict[str, Any]:
        """JSON-ready form that `parse_score` reads again, value sets written out."""
        return {
            "name": self.name,
            "description": self.description,
            "features": [feature.declaration() for feature in self.features],
            "parts": [
                {
                    "name": part.name,
                    "sum": [dict(group) for group in part.groups],
                    "points": [list(pair) for pair in part.points],
                }
                for part in self.parts
            ],
        }

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical form."""
        return hash_json(self.declaration())


def read_score(path: Path) -> Score:
    """The score in a YAML file; raises `FhirloomError` (bad-input) naming file and part."""
    return parse_score(path.name, read_declaration(path).fields)


def load_score(name: str) -> Score:
    """The shipped score of that name, such as `lace`."""
    return read_score(FOLDER / f"{name}.yaml")


def parse_score(where: str, fields: Mapping[str, Any]) -> Score:
    """The score in a mapping (from YAML, or from `Score.declaration`)."""
    read = declaration(where, dict(fields))
    read.only("name", "description", "features", "parts")
    features = read_features(read)
    names = {feature.name for feature in features}
    parts = tuple(_read_part(read, item, names) for item in read.items("parts"))
    return Score(read.text("name"), read.text("description"), features, parts)


def _read_part(parent: Declaration, item: object, names: set[str]) -> Part:
    read = declaration(f"{parent.where}, a part", item)
    name = read.text("name")
    read = Declaration(f"{parent.where}, part {name}", read.fields)
    read.only("name", "sum", "points")
    groups = [declaration(read.where, group) for group in read.items("sum")]
    for group in groups:
        if not group.fields or not set(group.fields) <= names:
            raise read.error("`sum` lists groups of features", "Name features of this score.")
    return Part(
        name,
        tuple(
            tuple((feature, group.number(feature)) for feature in group.fields) for group in groups
        ),
        _read_points(read),
    )


def _read_points(read: Declaration) -> tuple[tuple[float, float], ...]:
    pairs = read.items("points")
    if not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise read.error("`points` lists pairs", "Write [[at least, points], ...].")
    steps = [declaration(read.where, {"at least": a, "points": b}) for a, b in pairs]
    thresholds = [step.number("at least") for step in steps]
    if thresholds != sorted(set(thresholds)):
        raise read.error("`points` must rise in its thresholds", "Sort the pairs.")
    return tuple(zip(thresholds, (step.number("points") for step in steps), strict=True))
