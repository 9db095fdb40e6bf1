"""The cohort's rules, a folder each: `golden/<rule>/` holds the tables and what is expected.

Times are `day HH:MM`, days counted from the patient's zero.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from features.cohort import select_cohort
from features.task import load_task, parse_task

GOLDEN = Path(__file__).parent / "golden"
TASK = load_task("readmission_30d")


def seconds(text: str) -> int:
    day, clock = text.split()
    hour, minute, second = (*map(int, clock.split(":")), 0)[:3]
    return int(day) * 86400 + hour * 3600 + minute * 60 + second


def read(path: Path) -> list[dict[str, Any]]:
    with path.open(newline="") as file:
        rows: list[dict[str, Any]] = list(csv.DictReader(file))
    for row in rows:
        for name in row:
            row[name] = row[name] or None
        for name in {"start", "end", "observed_until", "death"} & set(row):
            row[name] = seconds(row[name]) if row[name] else None
        for name in {"patient", "encounter", "age"} & set(row):
            row[name] = int(row[name]) if row[name] else None
    return rows


def tables_in(folder: Path) -> dict[str, list[dict[str, Any]]]:
    encounters = read(folder / "encounters.csv")
    starts = [row | {"time": row["start"], "known_at": row["start"]} for row in encounters]
    ends = [row | {"time": row["end"], "known_at": row["end"]} for row in encounters if row["end"]]
    return {"patient": read(folder / "patients.csv"), "admission": starts, "discharge": ends}


@pytest.mark.parametrize("rule", sorted(path.name for path in GOLDEN.iterdir()))
def test_cohort(rule: str, tables_of: Callable[[Mapping[str, Any]], dict[str, pa.Table]]) -> None:
    expected = yaml.safe_load((GOLDEN / rule / "expected.yaml").read_text())
    task = parse_task("case", TASK.declaration() | expected.get("task", {}))
    tables = tables_of(tables_in(GOLDEN / rule))
    cohort = select_cohort(tables["patient"], tables["admission"], tables["discharge"], task)

    got = zip(cohort.encounter.tolist(), cohort.time.tolist(), cohort.label.tolist(), strict=True)
    wanted = [(row["encounter"], seconds(row["time"]), row["label"]) for row in expected["index"]]
    assert list(got) == wanted
    steps = cohort.attrition[2:]
    assert {step.step: step.excluded for step in steps if step.excluded} == expected["excluded"]
    assert cohort.died_first == expected["died_first"]
    assert steps[-1].stays == len(cohort.patient)
    assert steps[-1].patients == len(set(cohort.patient.tolist()))


def test_attrition_counts_encounters_then_stays(
    tables_of: Callable[[Mapping[str, Any]], dict[str, pa.Table]],
) -> None:
    tables = tables_of(tables_in(GOLDEN / "transfer_merged"))
    cohort = select_cohort(tables["patient"], tables["admission"], tables["discharge"], TASK)
    told = [(step.step, step.stays, step.patients, step.excluded) for step in cohort.attrition[:3]]
    assert told == [
        ("inpatient encounters", 4, 1, 0),
        ("stays, transfers merged", 2, 1, 2),
        ("discharged", 2, 1, 0),
    ]
