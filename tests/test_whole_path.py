"""The main job, whole: the command that a user types, in a temporary folder, and what it leaves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deid.crosswalk import PATIENTS
from exports.landing import open_landing
from exports.sealed import CURRENT, Stage, sealing
from features.matrix import FeatureMatrix, bucket_path, open_matrix
from training.bundle import verify_bundle
from training.train import TrainedModel, train

PATIENTS_IN_SANDBOX = 2000
MARGIN = 0.05
"""How far below the true risk's the model's AUROC may significantly lie."""

NOTEBOOK = Path(__file__).parents[1] / "notebooks" / "readmission.ipynb"
FHIRLOOM = Path(sys.executable).parent / "fhirloom"


def fhirloom(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [FHIRLOOM, *arguments], capture_output=True, text=True, check=False, timeout=600
    )


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "work"
    ran = fhirloom("run", "--patients", str(PATIENTS_IN_SANDBOX), "--work", folder, "--json")
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout)["outcome"] == "complete"
    return folder


@pytest.fixture(scope="module")
def told(work: Path) -> Mapping[str, Any]:
    summary: dict[str, Any] = json.loads((work / "research" / "summary.json").read_text())
    return summary


def test_nothing_is_lost_on_the_way(told: Mapping[str, Any]) -> None:
    assert told["landing"]["server_rows"] == told["landing"]["landed_rows"] > 100_000
    for view in told["views"]:
        left = sum(view["dropped"].values()) + sum(view["quarantined"].values())
        assert view["rows"] == view["kept"] + left


def test_no_identifier_comes_through_and_the_control_is_found(told: Mapping[str, Any]) -> None:
    [scan] = [proof["detail"] for proof in told["proofs"] if proof["name"] == "leak scan"]
    assert scan["identifiers_of_the_input"] > 500_000
    assert scan["string_hits"] == scan["number_hits"] == {}
    assert scan["negative_control_found"]


def test_planted_identifiers_stand_nowhere_in_the_research_zone(work: Path) -> None:
    """Every byte that left the PHI zone, against the sandbox's own list of what it planted."""
    [planted] = (work / "phi" / "truth").rglob("identifiers.parquet")
    values = set(pq.read_table(planted)["value"].to_pylist())
    names = {value.encode() for value in values if len(value) >= 8 and not value.isascii()}
    numbers = {value.encode() for value in values if len(value) >= 8 and value.isdigit()}
    assert len(names) > 100
    assert len(numbers) > PATIENTS_IN_SANDBOX
    released = [path.read_bytes() for path in (work / "research").rglob("*.json")]
    released += [path.read_bytes() for path in (work / "research").rglob("*.html")]
    released += [path.read_bytes() for path in (work / "research").rglob("*.db")]
    text = b"\n".join(released)
    assert [value for value in names | numbers if value in text] == []


def test_the_model_is_near_the_true_risk_and_never_above_it(work: Path) -> None:
    """By the interval of the difference over patients: the split is as random as the surrogates."""
    model = json.loads((work / "research" / "models" / CURRENT / "evaluation.json").read_text())
    difference = model["comparators"]["oracle"]["model_minus_this"]
    assert difference["high"] > -MARGIN
    assert difference["low"] <= 0, "better than the truth: the future leaks in"


def test_with_shuffled_labels_the_model_falls_to_chance(work: Path, tmp_path: Path) -> None:
    matrix = open_matrix(work / "research")
    shuffled = np.random.default_rng(3).permutation(matrix.read()["label"].to_numpy())
    with sealing(tmp_path / "features", Stage("features", 1, {"shuffled": "labels"})) as draft:
        draft.facts |= matrix.sealed.facts
        start = 0
        for bucket in range(matrix.sealed.facts["buckets"]):
            rows = pq.read_table(matrix.path(bucket))
            labels = pa.array(shuffled[start : start + len(rows)])
            start += len(rows)
            column = rows.schema.get_field_index("label")
            pq.write_table(
                rows.set_column(column, "label", labels), bucket_path(draft.path, bucket)
            )
    result = train(FeatureMatrix(draft.result), tmp_path)
    assert isinstance(result, TrainedModel)
    chance = result.evaluation["model"]["auroc"]
    assert chance["low"] < 0.5 < chance["high"]


def test_the_graph_is_the_model_and_the_bundle_is_whole(
    work: Path, told: Mapping[str, Any]
) -> None:
    model = json.loads((work / "research" / "models" / CURRENT / "evaluation.json").read_text())
    parity = model["parity"]
    assert parity["rows"] == model["split"]["test"]["rows"]
    assert max(parity["largest"], parity["adversarial_largest"]) < 1e-6
    verify_bundle(work / "research" / "bundles" / CURRENT)


def test_it_is_registered_as_challenger(work: Path) -> None:
    from mlflow import MlflowClient

    from training.registry import tracking_uri

    client = MlflowClient(tracking_uri(work / "research"))
    version = client.get_model_version_by_alias("readmission_30d", "challenger")
    assert int(version.version) == 1


def test_one_patient_is_scored_from_a_prefetch_as_in_the_batch(work: Path, tmp_path: Path) -> None:
    """The last index event of the matrix, by its own resources alone, through the command line."""
    event = open_matrix(work / "research").read().slice(0, 1).to_pylist()[0]
    crosswalk = work / "phi" / "crosswalk" / CURRENT / "patients.parquet"
    timeline = next(
        row
        for row in pq.read_table(crosswalk, schema=PATIENTS).to_pylist()
        if row["surrogate"] == event["patient"]
    )
    request = {"hook": "encounter-discharge", "prefetch": prefetch(work, timeline["patient_id"])}
    file = tmp_path / "request.json"
    file.write_text(json.dumps(request))
    at = (timeline["zero"] + timedelta(seconds=event["time"])).isoformat()
    bundle = work / "research" / "bundles" / CURRENT
    ran = fhirloom("score", "--bundle", bundle, "--prefetch", file, "--at", at, "--json")
    assert ran.returncode == 0, ran.stderr
    scored = json.loads(ran.stdout)
    assert 0 < scored["probability"] < 1
    for name, value in scored["features"].items():
        assert value == (None if np.isnan(event[name]) else event[name]), name


def prefetch(work: Path, patient_id: str) -> dict[str, Any]:
    import gzip

    found: dict[tuple[str, str], dict[str, Any]] = {}
    landing = open_landing(work / "phi")
    for kind in ("Patient", "Encounter", "Condition", "Observation", "MedicationRequest"):
        for path in landing.paths(kind):
            for line in gzip.decompress(path.read_bytes()).splitlines():
                if patient_id.encode() in line:
                    resource = json.loads(line)
                    key = (kind, resource["id"])
                    if key not in found or _updated(found[key]) < _updated(resource):
                        found[key] = resource
    patient = found.pop(("Patient", patient_id))
    entries = [{"resource": resource} for resource in found.values()]
    return {"patient": patient, "rest": {"resourceType": "Bundle", "entry": entries}}


def _updated(resource: dict[str, Any]) -> str:
    return str(resource["meta"]["lastUpdated"])


def test_a_second_run_makes_nothing_again(work: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (work / "research").rglob("manifest.json")}
    ran = fhirloom("run", "--patients", str(PATIENTS_IN_SANDBOX), "--work", work)
    assert ran.returncode == 0, ran.stderr
    after = {path: path.stat().st_mtime_ns for path in (work / "research").rglob("manifest.json")}
    assert after == before


def test_the_notebook_runs_on_what_the_main_job_left(work: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code), "strip the outputs"
    environment = {**os.environ, "FHIRLOOM_WORK": str(work), "IPYTHONDIR": str(work / "ipython")}
    client = nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3")
    client.execute(cwd=str(NOTEBOOK.parent), env=environment)
    assert "AUROC" in str(code[-1].outputs)
    shutil.rmtree(work / "ipython", ignore_errors=True)
