"""The main job, whole: the sandbox EHR's Bulk Data export to a registered model and a score."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deid.identity.custody import open_crosswalk
from exports.landing.zone import open_landing
from exports.sealed import CURRENT, Stage, sealing
from features.matrix import FeatureMatrix, bucket_path, open_matrix
from flows import summary
from flows.exit_codes import COMPLETE
from tests.flows.test_killed import KILLED, chain_of_kills, digests
from training.bundle import verify_bundle
from training.train import TrainedModel, train

Command = Callable[..., "subprocess.CompletedProcess[str]"]
PATIENTS = 2000
ORDERED = ("MedicationRequest", "Medication")
"""Orders, and the drugs that some refer to: `_include` sends these along."""
MARGIN = 0.08
"""How far below the true risk's the model's AUROC may significantly lie."""
NOTEBOOK = Path(__file__).parents[2] / "notebooks" / "readmission.ipynb"


@dataclass(frozen=True)
class Run:
    work: Path
    arguments: tuple[str | Path, ...]
    done: subprocess.CompletedProcess[str]

    @property
    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = json.loads(self.done.stdout)
        return facts


@pytest.fixture(scope="module")
def first(fhirloom: Command, prefect_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    work = tmp_path_factory.mktemp("main-job") / "work"
    shutil.copytree(prefect_home, work / "research" / "prefect")
    arguments = ("run", "--patients", str(PATIENTS), "--work", work, "--json")
    done = fhirloom(*arguments)
    assert done.returncode == COMPLETE, done.stderr
    return Run(work, arguments, done)


def test_every_row_is_accounted_for(first: Run) -> None:
    landing = first.facts["landing"]
    left_out = sum(landing["left_out"].values())
    assert landing["landed_rows"] == sum(landing["rows"].values())
    assert landing["server_rows"] == landing["landed_rows"] + left_out
    assert landing["rows"]["Patient"] >= PATIENTS
    for view in first.facts["views"]:
        lost = [*view["dropped"].values(), *view["quarantined"].values()]
        assert view["rows"] == view["kept"] + sum(lost)
        assert view["adds_up"]


def test_the_proofs_hold_and_their_control_was_found(first: Run) -> None:
    proofs = {proof["name"]: proof for proof in first.facts["proofs"]}
    assert all(proof["passed"] for proof in proofs.values())
    detail = proofs["leak scan"]["detail"]
    assert detail["negative_control_found"]
    assert detail["lines_of_the_input"] == first.facts["landing"]["landed_rows"]
    assert not detail["string_hits"]
    assert not detail["number_hits"]


def test_a_model_is_trained_proven_and_registered(first: Run) -> None:
    facts = first.facts
    model, cohort = facts["model"], facts["cohort"]
    assert cohort["attrition"][-1]["stays"] == cohort["index_events"]
    assert set(model["comparators"]) == {"lace", "oracle"}
    assert model["auroc"]["low"] < model["auroc"]["value"] < model["auroc"]["high"]
    assert model["auroc"]["high"] > 0.6
    assert model["parity"]["largest"] < 1e-6
    assert model["parity"]["rows"] == model["test"]["rows"]
    assert facts["registered"] == {
        "name": "readmission_30d",
        "version": 1,
        "alias": "challenger",
    }
    assert "<svg" in Path(facts["report"]).read_text()
    assert {"features.json", "prefetch.json", "vocabulary.json", "model.onnx"} <= {
        path.name for path in verify_bundle(Path(facts["bundle"])).path.iterdir()
    }


def test_the_summary_for_a_person_is_narrow_and_says_the_same(first: Run) -> None:
    text = summary.as_text(first.facts)
    paths = ("report", "attestation", "tables", "matrix", "bundle", "mlflow")
    lines = text.splitlines()
    assert max(len(line) for line in lines if not any(path in line for path in paths)) <= 80
    landing = first.facts["landing"]
    rows = f"{landing['server_rows']:,} rows on the server = {landing['landed_rows']:,} landed"
    assert rows in text
    assert "kept + dropped + quarantined = resources, in every view" in text
    assert "identifiers of the input found in the output" in text
    assert lines[-1] == "complete."


def test_progress_is_told_in_lines_where_nobody_watches(first: Run) -> None:
    told = first.done.stderr.splitlines()
    for stage in ("export", "deid", "features", "train"):
        assert f"{stage}: started" in told
        assert any(re.fullmatch(rf"{stage}: done in [\d.]+ s", line) for line in told)


def test_each_stage_tells_its_cost(first: Run) -> None:
    for cost in first.facts["stages"]:
        assert not cost["skipped"]
        assert min(cost["seconds"], cost["peak_mb"], cost["input_mb"]) > 0
        assert cost["mb_per_cpu_second"] > 0


def test_no_identifier_is_in_any_byte_of_the_research_zone(first: Run) -> None:
    (truth,) = (first.work / "phi" / "truth").glob("*/identifiers.parquet")
    table = pq.read_table(truth, columns=["class", "value"]).to_pylist()
    distinct = {row["value"] for row in table if row["class"] in "DEFGHI" and len(row["value"]) > 7}
    assert len(distinct) > PATIENTS
    # An e-mail address or a record number holds no character that JSON or a URL would escape away
    # from all of these forms.
    words = re.compile(rb"[0-9A-Za-z@+().\- ]{8,}")

    def those_in(content: bytes) -> set[str]:
        seen = {word.decode() for word in words.findall(content)}
        parts = {part for word in seen for part in (word, word.strip(), *word.split())}
        return distinct & parts

    research = [path for path in (first.work / "research").rglob("*") if path.is_file()]
    assert {path.name for path in research} >= {"prefect.db", "mlflow.db", "report.html"}
    assert not {str(path) for path in research if those_in(path.read_bytes())}
    delivered = open_landing(first.work / "phi").paths("Patient")
    assert len(those_in(b"".join(gzip.decompress(path.read_bytes()) for path in delivered))) > 100


def test_a_second_run_skips_what_is_sealed(first: Run, fhirloom: Command) -> None:
    again = json.loads(fhirloom(*first.arguments).stdout)
    assert all(cost["skipped"] for cost in again["stages"])
    for name in ("landing", "tables", "matrix", "bundle", "report", "registered", "model"):
        assert again[name] == first.facts[name]


def test_the_model_is_near_the_true_risk_and_never_above_it(first: Run) -> None:
    """By the interval of the difference over patients: the split is as random as the surrogates."""
    told = (first.work / "research" / "models" / CURRENT / "evaluation.json").read_text()
    difference = json.loads(told)["comparators"]["oracle"]["model_minus_this"]
    assert difference["high"] > -MARGIN
    assert difference["low"] <= 0, "better than the truth: the future leaks in"


def test_with_shuffled_labels_the_model_falls_to_chance(first: Run, tmp_path: Path) -> None:
    matrix = open_matrix(first.work / "research")
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
    # Four standard errors at some hundred events: the split follows the random surrogates, and an
    # interval would miss chance in one run of twenty.
    assert abs(result.evaluation["model"]["auroc"]["value"] - 0.5) < 0.12


def test_one_patient_is_scored_from_a_prefetch_as_in_the_batch(
    first: Run, fhirloom: Command, tmp_path: Path
) -> None:
    """The last index event of the matrix, by its own resources alone, through the command line."""
    event = open_matrix(first.work / "research").read().slice(0, 1).to_pylist()[0]
    walk = open_crosswalk(first.work / "phi" / "crosswalk")
    assert walk is not None
    timeline = next(
        row for row in walk.read("patients").to_pylist() if row["surrogate"] == event["patient"]
    )
    request = {
        "hook": "encounter-discharge",
        "prefetch": prefetch(first.work, timeline["patient_id"]),
    }
    file = tmp_path / "request.json"
    file.write_text(json.dumps(request))
    at = (timeline["zero"] + timedelta(seconds=event["time"])).isoformat()
    bundle = first.facts["bundle"]
    ran = fhirloom("score", "--bundle", bundle, "--prefetch", file, "--at", at, "--json")
    assert ran.returncode == 0, ran.stderr
    scored = json.loads(ran.stdout)
    assert 0 < scored["probability"] < 1
    for name, value in scored["features"].items():
        assert value == (None if np.isnan(event[name]) else event[name]), name


def test_killed_around_all_that_training_seals(first: Run, tmp_path: Path) -> None:
    work = tmp_path / "work"
    shutil.copytree(first.work, work, symlinks=True)
    unbroken = digests(work)
    for made in ("models", "bundles", "reports", "mlflow"):
        shutil.rmtree(work / "research" / made)
    ends = chain_of_kills(work, "-", *["before", "after"] * 3)
    assert ends == [KILLED] * 6 + ["0"]
    assert digests(work) == unbroken


def test_the_notebook_runs_on_what_the_main_job_left(first: Run, tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)  # type: ignore[no-untyped-call]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code), "strip the outputs"
    environment = {**os.environ, "FHIRLOOM_WORK": str(first.work), "IPYTHONDIR": str(tmp_path)}
    client = nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3")
    client.execute(cwd=str(NOTEBOOK.parent), env=environment)
    assert "AUROC" in str(code[-1].outputs)


def prefetch(work: Path, patient_id: str) -> dict[str, Any]:
    found: dict[tuple[str, str], dict[str, Any]] = {}
    landing = open_landing(work / "phi")
    for kind in ("Patient", "Encounter", "Condition", "Observation", *ORDERED):
        for path in landing.paths(kind):
            for line in gzip.decompress(path.read_bytes()).splitlines():
                if kind == "Medication" or patient_id.encode() in line:
                    resource = json.loads(line)
                    key = (kind, resource["id"])
                    if key not in found or _updated(found[key]) < _updated(resource):
                        found[key] = resource
    patient = found.pop(("Patient", patient_id))
    entries = [{"resource": resource} for resource in found.values()]
    return {"patient": patient, "rest": {"resourceType": "Bundle", "entry": entries}}


def _updated(resource: dict[str, Any]) -> str:
    return str(resource["meta"]["lastUpdated"])
