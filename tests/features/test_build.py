"""From sealed tables to the sealed matrix, and row by row back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from deid.research import ResearchTables
from exports.errors import FhirloomError
from features.build import build
from features.kernel import Index
from features.matrix import FeatureMatrix, open_matrix
from features.rows import columns_needed, compute_rows
from features.spec import load_spec
from features.task import load_task

DAY = 86400
SPEC, TASK = load_spec("readmission"), load_task("readmission_30d")
Write = Callable[[Path, Mapping[str, pa.Table], int], ResearchTables]


@pytest.fixture(scope="module")
def hospital(
    tables_of: Callable[[Mapping[str, Any]], dict[str, pa.Table]],
) -> dict[str, pa.Table]:
    """60 patients with a few stays each, and laboratory values, diagnoses and orders in them."""
    rng = np.random.default_rng(3)
    rows: dict[str, list[dict[str, Any]]] = {
        view: [] for view in ("patient", "admission", "discharge", "observation", "condition")
    }
    rows["medication"] = []
    for patient in range(60):
        rows["patient"].append(
            {
                "patient": patient,
                "anchor_year": 2018,
                "observed_until": 900 * DAY,
                "sex": str(rng.choice(["female", "male"])),
                "race": "asian" if patient % 2 else None,
            }
        )
        for stay in range(int(rng.integers(1, 6))):
            key = {"patient": patient, "encounter": patient * 10 + stay}
            start = int(rng.integers(0, 800 * DAY))
            end = start + int(rng.integers(1, 9 * DAY))
            begun, ended = ({**key, "time": at, "known_at": at} for at in (start, end))
            kind = {"class": str(rng.choice(["IMP", "IMP", "EMER"]))}
            priority = str(rng.choice(["EM", "UR", "EL"]))
            rows["admission"].append(begun | kind | {"priority": priority, "age": 60})
            rows["discharge"].append(ended | kind | {"disposition": "home"})
            code = str(rng.choice(["icd10cm:I50.9", "icd10cm:J44.1", "RARE"]))
            rows["condition"].append(begun | {"known_at": end, "code": code})
            rows["medication"].append(begun | {"code": "rxnorm:313988"})
            for code in ("loinc:2160-0", "loinc:8867-4", "loinc:8480-6") * 3:
                at = int(rng.integers(start, end))
                measured = {"value": float(rng.normal(90, 9)), "code": code}
                rows["observation"].append(begun | {"time": at, "known_at": at + 600} | measured)
    return tables_of({view: sorted(r, key=lambda x: x["patient"]) for view, r in rows.items()})


@pytest.fixture
def matrix(tmp_path: Path, hospital: dict[str, pa.Table], write_research: Write) -> FeatureMatrix:
    return build(write_research(tmp_path, hospital, 3), tmp_path, TASK, SPEC)


def test_columns_are_keys_groups_features_and_scores(matrix: FeatureMatrix) -> None:
    schema = matrix.read().schema
    assert schema.names == [
        *("patient", "encounter", "time", "year", "label", "sex", "race", "ethnicity"),
        *matrix.features,
        *matrix.scores,
    ]
    assert matrix.features == SPEC.names
    assert matrix.scores == ("lace",)
    types = {name: str(schema.field(name).type) for name in schema.names}
    assert {types[name] for name in (*matrix.features, *matrix.scores)} == {"float"}
    assert [types[name] for name in ("patient", "encounter", "time")] == ["int64"] * 3
    assert [types[name] for name in ("year", "label", "race")] == ["int16", "int8", "string"]


def test_the_manifest_counts_what_the_files_hold(matrix: FeatureMatrix) -> None:
    rows, facts = matrix.read(), matrix.sealed.facts
    assert facts["rows"] == rows.num_rows == matrix.attrition[-1]["stays"] > 60
    assert facts["events"] == sum(rows["label"].to_pylist()) > 0
    assert matrix.attrition[-1]["patients"] == len(set(rows["patient"].to_pylist()))
    assert facts["buckets"] == 3
    assert facts["task"] == "readmission_30d"
    assert facts["spec"] == {"task": TASK.hash, "features": SPEC.hash}


def test_the_year_is_the_anchor_year_and_whole_years_since(matrix: FeatureMatrix) -> None:
    rows = matrix.read()
    wanted = [2018 + time // 31_557_600 for time in rows["time"].to_pylist()]
    assert rows["year"].to_pylist() == wanted
    assert set(wanted) == {2018, 2019, 2020}


def test_a_row_of_the_batch_is_the_row_of_its_patient_alone(
    matrix: FeatureMatrix, hospital: dict[str, pa.Table]
) -> None:
    needed = columns_needed(SPEC, TASK.scores)
    names = [*matrix.features, *matrix.scores]
    for row in matrix.read().to_pylist():
        own = {
            view: hospital[view].filter(pa.compute.field("patient") == row["patient"]).select(names)
            for view, names in needed.items()
        }
        index = Index(np.array([row["patient"]]), np.array([row["time"]]))
        alone = compute_rows(own, index, SPEC, TASK.scores)
        batch = np.array([row[name] for name in names], np.float32)
        assert np.concatenate([alone.features[0], alone.scores[0]]).tobytes() == batch.tobytes()


def test_buckets_do_not_matter(
    matrix: FeatureMatrix, tmp_path: Path, hospital: dict[str, pa.Table], write_research: Write
) -> None:
    other = tmp_path / "other"
    one = build(write_research(other, hospital, 1), other, TASK, SPEC)
    rows, again = (m.read().sort_by("encounter").to_pylist() for m in (matrix, one))
    assert repr(rows) == repr(again)  # repr, since NaN is not equal to NaN
    assert one.attrition == matrix.attrition


def test_a_bucket_may_be_empty(
    tmp_path: Path, hospital: dict[str, pa.Table], write_research: Write
) -> None:
    few = {view: rows.filter(pa.compute.field("patient") < 2) for view, rows in hospital.items()}
    matrix = build(write_research(tmp_path, few, 3), tmp_path, TASK, SPEC)
    assert {row["patient"] for row in matrix.read().to_pylist()} == {0, 1}
    assert matrix.read().schema.names[-1] == "lace"


def test_the_same_tables_and_specs_are_built_once(
    matrix: FeatureMatrix, tmp_path: Path, hospital: dict[str, pa.Table], write_research: Write
) -> None:
    again = build(write_research(tmp_path, hospital, 3), tmp_path, TASK, SPEC)
    assert matrix.sealed.fresh
    assert not again.sealed.fresh
    assert open_matrix(tmp_path).sealed == again.sealed
    elsewhere = tmp_path / "elsewhere"
    rebuilt = build(write_research(elsewhere, hospital, 3), elsewhere, TASK, SPEC)
    assert rebuilt.sealed.digest == matrix.sealed.digest
    longer = build(
        write_research(tmp_path, hospital, 3), tmp_path, replace(TASK, horizon=60 * DAY), SPEC
    )
    assert longer.sealed.key != matrix.sealed.key


def test_progress_is_told_by_bucket(
    tmp_path: Path, hospital: dict[str, pa.Table], write_research: Write
) -> None:
    told: list[tuple[int, int | None, str]] = []
    tables = write_research(tmp_path, hospital, 2)
    build(tables, tmp_path, TASK, SPEC, progress=lambda *step: told.append(step))
    assert told == [(1, 2, "buckets"), (2, 2, "buckets")]


def test_a_score_named_like_a_feature_is_refused(
    tmp_path: Path, hospital: dict[str, pa.Table], write_research: Write
) -> None:
    named = replace(TASK, scores=(replace(TASK.scores[0], name="age"),))
    with pytest.raises(FhirloomError, match="name of a feature"):
        build(write_research(tmp_path, hospital, 1), tmp_path, named, SPEC)


def test_a_missing_matrix_is_said(tmp_path: Path) -> None:
    with pytest.raises(FhirloomError) as caught:
        open_matrix(tmp_path)
    assert caught.value.code == "bad-input"
