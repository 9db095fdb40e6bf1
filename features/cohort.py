"""From stays to index events: exclusions with their attrition, and labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.stays import Bools, Ints, Stays, find_stays, integers, match, take
from features.task import Task
from features.timeline import SPAN

NEVER: Final = int(np.iinfo(np.int64).max)


@dataclass(frozen=True)
class AttritionStep:
    """What remains after a step: `stays` of `patients`; `excluded` stays fell out in it."""

    step: str
    stays: int
    patients: int
    excluded: int

    def __add__(self, other: AttritionStep) -> AttritionStep:
        """The same step over two sets of patients that have none in common."""
        return AttritionStep(
            self.step,
            self.stays + other.stays,
            self.patients + other.patients,
            self.excluded + other.excluded,
        )


@dataclass(frozen=True)
class Cohort:
    """Index events in the order (patient, time); arrays of one length.

    `time` is the discharge in seconds from the patient's zero, `encounter` the one that ended,
    `label` 1 for an unplanned stay that starts in (time, time + horizon]. `died_first` counts index
    events that death follows within the horizon, and no such stay (label 0).
    """

    patient: Ints
    encounter: Ints
    time: Ints
    label: NDArray[np.int8]
    attrition: tuple[AttritionStep, ...]
    died_first: int


def select_cohort(
    patient: pa.Table, admission: pa.Table, discharge: pa.Table, task: Task
) -> Cohort:
    """The index events of `task` among the patients of these research tables."""
    stays = find_stays(admission, discharge, task)
    person = match(pa.chunked_array([stays.patient]), patient["patient"])
    death = take(integers(patient["death"], NEVER), person, NEVER)
    observed_until = take(integers(patient["observed_until"]), person, -NEVER)
    horizon_end = stays.end + task.horizon
    days = task.horizon // 86400

    steps: list[tuple[str, Bools]] = [
        ("discharged", stays.ended),
        ("discharged alive", ~stays.died & (death > stays.end)),
        ("not against medical advice", ~stays.against_advice),
        ("not about to turn 90", ~np.isin(stays.age, task.excluded_ages)),
        (f"observed for {days} days after discharge", horizon_end <= observed_until),
    ]
    encounters = stays.encounters
    attrition = [
        AttritionStep("inpatient encounters", len(encounters), len(np.unique(encounters)), 0),
        _step("stays, transfers merged", stays.patient, len(encounters)),
    ]
    kept = np.ones(len(stays.patient), bool)
    for name, condition in steps:
        before, kept = int(kept.sum()), kept & condition
        attrition.append(_step(name, stays.patient[kept], before))

    label = _readmitted(stays, task)
    died_first = kept & ~label & (death <= horizon_end)
    return Cohort(
        patient=stays.patient[kept],
        encounter=stays.encounter[kept],
        time=stays.end[kept],
        label=label[kept].astype(np.int8),
        attrition=tuple(attrition),
        died_first=int(died_first.sum()),
    )


def _step(name: str, patient: Ints, before: int) -> AttritionStep:
    return AttritionStep(name, len(patient), len(np.unique(patient)), before - len(patient))


def _readmitted(stays: Stays, task: Task) -> Bools:
    """Whether an unplanned stay of the same patient starts in (end, end + horizon]."""
    base = np.unique(stays.patient, return_inverse=True)[1] * SPAN
    unplanned = (base + stays.start)[~stays.planned]
    until_end = unplanned.searchsorted(base + stays.end, side="right")
    until_horizon = unplanned.searchsorted(base + stays.end + task.horizon, side="right")
    readmitted: Bools = until_horizon > until_end
    return readmitted
