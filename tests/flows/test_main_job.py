"""The main job, whole: the sandbox EHR's Bulk Data export to a registered model and a score."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from exports.landing import open_landing
from flows import summary
from flows.exit_codes import COMPLETE
from training.bundle import verify_bundle

Command = Callable[..., "subprocess.CompletedProcess[str]"]
PATIENTS = 650
"""The fewest, rounded, of whom there are enough readmissions to train and to test on."""


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
    assert landing["server_rows"] == landing["landed_rows"] == sum(landing["rows"].values())
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
    assert detail["identifiers_of_the_input"] > 100 * PATIENTS
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
    paths = ("report", "tables", "matrix", "bundle", "mlflow")
    lines = text.splitlines()
    assert max(len(line) for line in lines if not any(path in line for path in paths)) <= 80
    rows = first.facts["landing"]["landed_rows"]
    assert f"{rows:,} rows on the server = {rows:,} rows landed" in text
    assert "kept + dropped + quarantined = rows, in every view" in text
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


def test_a_patient_of_the_export_can_be_scored(
    first: Run, fhirloom: Command, tmp_path: Path
) -> None:
    resources = list(one_patient(first.work / "phi"))
    bundle = {"resourceType": "Bundle", "entry": [{"resource": each} for each in resources]}
    (tmp_path / "prefetch.json").write_text(json.dumps(bundle))
    arguments = ("--bundle", first.facts["bundle"], "--prefetch", tmp_path / "prefetch.json")
    done = fhirloom("score", *arguments, "--at", "2023-06-30T12:00:00", "--json")
    assert done.returncode == COMPLETE, done.stderr
    assert 0 < json.loads(done.stdout)["probability"] < 1


def one_patient(phi: Path) -> Iterator[dict[str, Any]]:
    """The resources of the landing zone's first patient."""
    landing, subject = open_landing(phi), ""
    for kind in ("Patient", "Encounter", "Condition", "Observation", "MedicationRequest"):
        for path in landing.paths(kind):
            for line in gzip.decompress(path.read_bytes()).splitlines():
                resource = json.loads(line)
                if kind == "Patient" and not subject:
                    subject = resource["id"]
                    yield resource
                elif resource.get("subject", {}).get("reference", "").endswith(f"/{subject}"):
                    yield resource
