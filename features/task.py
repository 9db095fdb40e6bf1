"""Prediction tasks as data (`features/tasks/*.yaml`): index event, exclusions, horizon, label.

One kind of task exists: the index is a discharge from an inpatient stay, the label an unplanned
stay within the horizon. Vocabulary as in ACES (Xu et al. 2024, arXiv:2406.19653).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from exports.sealed import hash_json
from features.declaration import Declaration, declaration, duration, read_declaration
from features.score import Score, load_score, parse_score

FOLDER: Final = Path(__file__).parent / "tasks"


@dataclass(frozen=True)
class Inpatient:
    """Which encounters are inpatient ones.

    Those of `classes` (v3-ActCode); where `dispositions` is given, only those that ended with one
    of them: for servers on which an admission has no class of its own.
    """

    classes: tuple[str, ...]
    dispositions: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Task:
    """A prediction task; durations in seconds, categories as in the research tables."""

    name: str
    description: str
    inpatient: Inpatient
    merge_within: int
    horizon: int
    planned: tuple[str, ...]
    died: tuple[str, ...]
    against_advice: tuple[str, ...]
    excluded_ages: tuple[int, ...]
    scores: tuple[Score, ...]

    def declaration(self) -> dict[str, Any]:
        """JSON-ready form that `parse_task` reads again, scores written out."""
        inpatient = {"class": list(self.inpatient.classes)}
        if self.inpatient.dispositions is not None:
            inpatient["disposition"] = list(self.inpatient.dispositions)
        return {
            "name": self.name,
            "description": self.description,
            "inpatient": inpatient,
            "merge_within": duration(self.merge_within),
            "horizon": duration(self.horizon),
            "planned": list(self.planned),
            "exclude": {
                "died": list(self.died),
                "against_advice": list(self.against_advice),
                "age": list(self.excluded_ages),
            },
            "scores": [score.declaration() for score in self.scores],
        }

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical form, the scores included."""
        return hash_json(self.declaration())


def read_task(path: Path) -> Task:
    """The task in a YAML file; raises `FhirloomError` (bad-input) naming file and field."""
    return parse_task(path.name, read_declaration(path).fields)


def load_task(name: str) -> Task:
    """The shipped task of that name, such as `readmission_30d`."""
    return read_task(FOLDER / f"{name}.yaml")


def parse_task(where: str, fields: Mapping[str, Any]) -> Task:
    """The task in a mapping (from YAML, or from `Task.declaration`)."""
    read = declaration(where, dict(fields))
    read.only(
        "name",
        "description",
        "inpatient",
        "merge_within",
        "horizon",
        "planned",
        "exclude",
        "scores",
    )
    exclude = read.mapping("exclude")
    exclude.only("died", "against_advice", "age")
    return Task(
        name=read.text("name"),
        description=read.text("description"),
        inpatient=_read_inpatient(read.mapping("inpatient")),
        merge_within=read.seconds("merge_within"),
        horizon=read.seconds("horizon"),
        planned=read.texts("planned"),
        died=exclude.texts("died"),
        against_advice=exclude.texts("against_advice"),
        excluded_ages=_read_ages(exclude),
        scores=tuple(_read_score(read, item) for item in read.items("scores")),
    )


def _read_inpatient(read: Declaration) -> Inpatient:
    read.only("class", "disposition")
    restricted = "disposition" in read.fields
    return Inpatient(read.texts("class"), read.texts("disposition") if restricted else None)


def _read_ages(read: Declaration) -> tuple[int, ...]:
    ages = read.items("age")
    if not all(isinstance(age, int) and 0 <= age <= 90 for age in ages):
        raise read.error("'age' must be a list of whole years", "Write [89].")
    return tuple(sorted(set(ages)))


def _read_score(read: Declaration, item: object) -> Score:
    if isinstance(item, dict):
        return parse_score(f"{read.where}, a score", item)
    if not isinstance(item, str):
        raise read.error("'scores' must be a list of names", "Name files in features/scores.")
    return load_score(item)
