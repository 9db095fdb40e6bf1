"""k-anonymity is counted over what others may know of a person, and is never a reason to fail."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deid.proofs.anonymity import k_anonymity
from deid.rules import load_rules
from tests.deid.resources import Deidentify, encounter, patient

Person = tuple[int, str, list[int]]
"""Anchor year, sex, and the ages at each admission."""


def facts_of(folder: Path, persons: list[Person]) -> dict[str, Any]:
    described = pa.table(
        {
            "patient": pa.array(range(len(persons)), pa.int64()),
            "anchor_year": pa.array([year for year, _, _ in persons], pa.int16()),
            "sex": pa.array([sex for _, sex, _ in persons], pa.string()),
            **{name: pa.nulls(len(persons), pa.string()) for name in ("race", "ethnicity")},
            "state": pa.array(["MA"] * len(persons), pa.string()),
        }
    )
    stays = [(key, age) for key, (_, _, ages) in enumerate(persons) for age in ages]
    admitted = pa.table(
        {
            "patient": pa.array([key for key, _ in stays], pa.int64()),
            "age": pa.array([age for _, age in stays], pa.int16()),
        }
    )
    for table, rows in {"patient": described, "admission": admitted}.items():
        (folder / table).mkdir(parents=True)
        pq.write_table(rows, folder / table / "bucket-000.parquet")
    return k_anonymity(folder, load_rules())


@pytest.mark.parametrize(
    "other",
    [(2021, "male", [71]), (2020, "female", [71]), (2020, "male", [80]), (2020, "male", [])],
)
def test_who_differs_in_one_thing_is_a_class_alone(tmp_path: Path, other: Person) -> None:
    alike: list[Person] = [(2020, "male", [70 + n % 9]) for n in range(11)]
    facts = facts_of(tmp_path, [*alike, other])
    assert (facts["patients"], facts["classes"], facts["smallest_k"]) == (12, 2, 1)
    assert facts["in_classes_below_11"] == 1
    assert facts["share_below_11"] == pytest.approx(1 / 12, abs=1e-4)
    assert facts["highest_prosecutor_risk"] == 1
    assert facts["mean_prosecutor_risk"] == pytest.approx(2 / 12, abs=1e-4)


def test_the_band_is_that_of_the_latest_admission_and_ninety_is_the_last(tmp_path: Path) -> None:
    facts = facts_of(tmp_path / "a", [(2020, "male", [69, 71])] + [(2020, "male", [75])] * 10)
    assert (facts["smallest_k"], facts["share_below_11"]) == (11, 0)
    assert facts_of(tmp_path / "b", [(2020, "male", [90]), (2020, "male", [89])])["classes"] == 2


def test_nobody_is_no_risk(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, [])
    assert (facts["smallest_k"], facts["highest_prosecutor_risk"]) == (0, 0)


def test_a_lone_patient_is_reported_and_released(run: Deidentify) -> None:
    stay = encounter("e1", "2020-03-01T10:00:00", "2020-03-04T12:00:00")
    done = run([patient(), stay])
    detail = next(proof.detail for proof in done.proofs if proof.name.startswith("k-anonymity"))
    assert detail["smallest_k"] == detail["in_classes_below_11"] == 1
