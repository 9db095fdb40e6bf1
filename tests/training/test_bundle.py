from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from exports.errors import FhirloomError
from exports.sealed import MANIFEST, Sealed, hash_file, hash_json
from training.bundle import bundle, verify_bundle
from training.train import TrainedModel


@pytest.fixture(scope="module")
def made(trained: TrainedModel, tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    folder = tmp_path_factory.mktemp("parts")
    (folder / "views").mkdir()
    (folder / "views" / "patient.json").write_text('{"name": "patient"}')
    parts: dict[str, Path | bytes] = {
        "features.yaml": b"features: []\n",
        "views": folder / "views",
    }
    return bundle(trained, parts, folder / "research")


@pytest.fixture
def copy(made: Sealed, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.path, tmp_path / "copy"))


def test_a_bundle_holds_the_model_and_every_part(made: Sealed) -> None:
    listed = json.loads((made.path / MANIFEST).read_text())["files"]
    assert set(listed) == {
        "model.onnx",
        "model_card.md",
        "evaluation.json",
        "thresholds.json",
        "golden.parquet",
        "features.yaml",
        "views/patient.json",
    }
    assert verify_bundle(made.path).digest == made.digest


def test_the_same_model_and_parts_give_the_same_bundle(
    trained: TrainedModel, made: Sealed, tmp_path: Path
) -> None:
    parts = {"views/patient.json": b'{"name": "patient"}', "features.yaml": b"features: []\n"}
    assert bundle(trained, parts, tmp_path).digest == made.digest
    assert not bundle(trained, parts, tmp_path).fresh
    assert bundle(trained, {**parts, "more": b""}, tmp_path).digest != made.digest


def test_the_card_tells_use_figures_and_limits(made: Sealed, trained: TrainedModel) -> None:
    card = (made.path / "model_card.md").read_text()
    auroc = trained.evaluation["model"]["auroc"]["value"]
    for text in ("Readmissions to other hospitals are unseen", "patient-clustered", f"{auroc:.3f}"):
        assert text in card


def change(name: str) -> Callable[[Path], str]:
    def fault(folder: Path) -> str:
        content = bytearray((folder / name).read_bytes())
        content[len(content) // 2] ^= 1
        (folder / name).write_bytes(content)
        return name

    return fault


def remove(folder: Path) -> str:
    (folder / "thresholds.json").unlink()
    return "thresholds.json"


def add(folder: Path) -> str:
    (folder / "views" / "extra.json").write_text("{}")
    return "views/extra.json"


def edit_facts(folder: Path) -> str:
    manifest = json.loads((folder / MANIFEST).read_text())
    manifest["facts"]["recipe"] = "other"
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return MANIFEST


def remove_manifest(folder: Path) -> str:
    (folder / MANIFEST).unlink()
    return MANIFEST


FAULTS = [
    *map(change, ("model.onnx", "model_card.md", "evaluation.json", "golden.parquet")),
    change("views/patient.json"),
    remove,
    add,
    edit_facts,
    remove_manifest,
]


@pytest.mark.parametrize("fault", FAULTS)
def test_damage_is_found_and_the_file_named(fault: Callable[[Path], str], copy: Path) -> None:
    name = fault(copy)
    with pytest.raises(FhirloomError) as caught:
        verify_bundle(copy)
    assert caught.value.code == "bad-input"
    assert caught.value.where == name


def test_golden_vectors_must_be_reproduced_even_where_all_hashes_agree(copy: Path) -> None:
    golden = pq.read_table(copy / "golden.parquet")
    moved = pa.array(
        [value + 1e-5 for value in golden.column("probability").to_pylist()], pa.float32()
    )
    at = golden.column_names.index("probability")
    pq.write_table(golden.set_column(at, "probability", moved), copy / "golden.parquet")
    manifest = json.loads((copy / MANIFEST).read_text())
    manifest["files"]["golden.parquet"] = hash_file(copy / "golden.parquet")
    manifest["digest"] = hash_json({name: manifest[name] for name in ("key", "files", "facts")})
    (copy / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(FhirloomError) as caught:
        verify_bundle(copy)
    assert (caught.value.code, caught.value.where) == ("parity-failed", "golden.parquet")


@pytest.mark.parametrize("name", ["../outside", "/outside", "model.onnx", "manifest.json"])
def test_a_part_stays_inside_and_takes_no_name_of_the_bundles(
    name: str, trained: TrainedModel, tmp_path: Path
) -> None:
    with pytest.raises(FhirloomError) as caught:
        bundle(trained, {name: b""}, tmp_path)
    assert caught.value.where == name
