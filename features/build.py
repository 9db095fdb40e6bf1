"""From research tables to the sealed feature matrix, one bucket of patients at a time."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from deid.policy import check_place
from deid.research import ResearchTables
from exports.errors import FhirloomError
from exports.progress import Progress, silent
from exports.sealed import Stage, find_sealed, hash_json, sealing
from features.cohort import AttritionStep, Cohort, select_cohort
from features.kernel import Index
from features.matrix import FeatureMatrix, bucket_path
from features.rows import columns_needed, compute_rows
from features.spec import FeatureSpec
from features.stays import integers, match
from features.task import Task

VERSION: Final = 2
SECONDS_PER_YEAR: Final = 31_557_600  # the Julian year of 365.25 days

_COHORT_COLUMNS: Final = {
    "patient": ("anchor_year", "death", "ethnicity", "observed_until", "patient", "race", "sex"),
    "admission": ("age", "class", "encounter", "patient", "priority", "time"),
    "discharge": ("disposition", "encounter", "patient", "time"),
}


def build(
    tables: ResearchTables,
    research: Path,
    task: Task,
    spec: FeatureSpec,
    *,
    progress: Progress = silent,
) -> FeatureMatrix:
    """The features and labels of `task`'s index events, sealed in `research/features`.

    Skips the work where the same tables, task and spec were built before. Memory is bounded by the
    largest bucket of the tables. Raises `FhirloomError` (bad-input) where two columns would have
    the same name, and where `research` is no place for the tables' policy.
    """
    check_place(tables.sealed.facts, research)
    names = [*spec.names, *(score.name for score in task.scores)]
    if len(set(names)) < len(names):
        raise FhirloomError(
            "bad-input",
            "A score has the name of a feature or of another score",
            where=f"task {task.name}, features {spec.name}",
            fix="Rename one of the two.",
        )
    stage = Stage(
        "features",
        VERSION,
        {"tables": tables.sealed.digest},
        spec=hash_json({"task": task.hash, "features": spec.hash}),
    )
    root = research / "features"
    found = find_sealed(root, stage)
    if found is not None:
        return FeatureMatrix(found)
    with sealing(root, stage) as draft:
        cohorts = []
        for bucket in range(tables.buckets):
            cohort, rows = _build_bucket(tables, bucket, task, spec)
            pq.write_table(rows, bucket_path(draft.path, bucket), compression="zstd")
            cohorts.append(_Counts.of(cohort))
            progress(bucket + 1, tables.buckets, "buckets")
        total = reduce(_Counts.__add__, cohorts)
        draft.facts |= {
            "policy": dict(tables.policy),
            "task": task.name,
            "features": list(spec.names),
            "scores": [score.name for score in task.scores],
            "rows": total.rows,
            "events": total.events,
            "died_first": total.died_first,
            "attrition": [asdict(step) for step in total.attrition],
            "buckets": tables.buckets,
            "horizon_seconds": task.horizon,
            "spec": {"task": task.hash, "features": spec.hash},
        }
    return FeatureMatrix(draft.result)


@dataclass(frozen=True)
class _Counts:
    """What the manifest tells of the cohort; buckets have no patient in common, so they add up."""

    rows: int
    events: int
    died_first: int
    attrition: tuple[AttritionStep, ...]

    @classmethod
    def of(cls, cohort: Cohort) -> _Counts:
        return cls(len(cohort.label), int(cohort.label.sum()), cohort.died_first, cohort.attrition)

    def __add__(self, other: _Counts) -> _Counts:
        return _Counts(
            self.rows + other.rows,
            self.events + other.events,
            self.died_first + other.died_first,
            tuple(a + b for a, b in zip(self.attrition, other.attrition, strict=True)),
        )


def _build_bucket(
    tables: ResearchTables, bucket: int, task: Task, spec: FeatureSpec
) -> tuple[Cohort, pa.Table]:
    needed = columns_needed(spec, task.scores)
    views = sorted({*needed, *_COHORT_COLUMNS})
    events = {
        view: tables.read(
            view, bucket, sorted({*needed.get(view, ()), *_COHORT_COLUMNS.get(view, ())})
        )
        for view in views
    }
    patient = events["patient"]
    cohort = select_cohort(patient, events["admission"], events["discharge"], task)
    rows = compute_rows(events, Index(cohort.patient, cohort.time), spec, task.scores)

    person = match(pa.chunked_array([cohort.patient]), patient["patient"])
    year = integers(patient["anchor_year"])[person] + cohort.time // SECONDS_PER_YEAR
    columns: dict[str, pa.Array | pa.ChunkedArray] = {
        "patient": pa.array(cohort.patient),
        "encounter": pa.array(cohort.encounter),
        "time": pa.array(cohort.time),
        "year": pa.array(year.astype(np.int16)),
        "label": pa.array(cohort.label),
    }
    columns |= {
        name: patient[name].cast(pa.string()).take(person) for name in ("sex", "race", "ethnicity")
    }
    columns |= {
        name: pa.array(np.ascontiguousarray(values))
        for name, values in zip(spec.names, rows.features.T, strict=True)
    }
    columns |= {
        score.name: pa.array(np.ascontiguousarray(values))
        for score, values in zip(task.scores, rows.scores.T, strict=True)
    }
    return cohort, pa.table(columns)
