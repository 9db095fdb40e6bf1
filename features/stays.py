"""Inpatient stays from encounters, transfers merged.

A stay is one or more inpatient encounters of a patient that overlap or lie less than
`merge_within` apart. It starts with its first encounter, whose priority it has; it ends with the
encounter that ends last, whose id and disposition it has. An encounter without an end (or with one
before its start) counts as ending where it starts; if it comes last, the stay has no end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from features.task import Task
from features.timeline import SPAN

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Value = TypeVar("Value", bound=np.generic)


@dataclass(frozen=True)
class Stays:
    """Stays in the order (patient, start); arrays of one length.

    `age` is the highest of the stay's encounters in whole years (-1: unknown); `end` only means
    something where `ended`. `encounters` has the patient of each encounter that was merged.
    """

    patient: Ints
    encounter: Ints
    start: Ints
    end: Ints
    ended: Bools
    age: Ints
    planned: Bools
    died: Bools
    against_advice: Bools
    encounters: Ints


def find_stays(admission: pa.Table, discharge: pa.Table, task: Task) -> Stays:
    """The inpatient stays in tables `admission` and `discharge`, as `task` defines them."""
    admission = admission.filter(_is_in(admission, "class", task.inpatient.classes))
    if task.inpatient.dispositions is not None:
        counted = discharge.filter(_is_in(discharge, "disposition", task.inpatient.dispositions))
        admission = admission.filter(
            pc.is_in(admission["encounter"], value_set=counted["encounter"].combine_chunks())
        )
    patient, encounter = integers(admission["patient"]), integers(admission["encounter"])
    start, age = integers(admission["time"]), integers(admission["age"], -1)
    discharged = match(admission["encounter"], discharge["encounter"])
    end = take(integers(discharge["time"]), discharged, np.iinfo(np.int64).min)
    ended = end >= start
    end = np.where(ended, end, start)

    order = np.lexsort((encounter, end, start, patient))
    patient, encounter, start, end = (a[order] for a in (patient, encounter, start, end))
    rank = np.unique(patient, return_inverse=True)[1]
    reach = np.maximum.accumulate(rank * SPAN + end)
    begins = np.ones(len(order), bool)
    begins[1:] = (rank * SPAN + start)[1:] - reach[:-1] >= task.merge_within
    first = begins.nonzero()[0]
    stay = np.cumsum(begins) - 1
    stop = np.append(first[1:], len(order))[: len(first)]
    last = np.lexsort((encounter, start, end, stay))[stop - 1]

    def at_end(dispositions: Sequence[str]) -> Bools:
        listed = _is_in(discharge, "disposition", dispositions).to_numpy()
        return take(listed, discharged[order][last], False)

    return Stays(
        patient=patient[first],
        encounter=encounter[last],
        start=start[first],
        end=end[last],
        ended=ended[order][last],
        age=np.maximum.reduceat(age[order], first) if len(first) else age,
        planned=_is_in(admission, "priority", task.planned).to_numpy()[order][first],
        died=at_end(task.died),
        against_advice=at_end(task.against_advice),
        encounters=patient,
    )


def integers(column: pa.ChunkedArray, unknown: int = 0) -> Ints:
    """A column of whole numbers as int64, null as `unknown`."""
    numbers: Ints = column.cast(pa.int64()).fill_null(unknown).to_numpy()
    return numbers


def match(wanted: pa.ChunkedArray, known: pa.ChunkedArray) -> Ints:
    """For each value of `wanted` its position in `known`, -1 where it is not there."""
    found = pc.index_in(wanted, value_set=known.combine_chunks())
    return integers(found, -1)


def take(values: NDArray[Value], positions: Ints, missing: Value | int) -> NDArray[Value]:
    """`values` at `positions`, and `missing` where a position is -1."""
    return np.append(values, np.array([missing], values.dtype))[positions]


def _is_in(table: pa.Table, column: str, values: Sequence[str]) -> pa.ChunkedArray:
    return pc.is_in(table[column].cast(pa.string()), value_set=pa.array(values, pa.string()))
