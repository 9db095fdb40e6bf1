"""The streamed export: several gzip files a type, counted, equal to the byte, and the truth."""

from __future__ import annotations

import gzip
from collections import Counter
from pathlib import Path

import orjson
import pyarrow.parquet as pq
import pytest

from exports.sandbox.population import (
    Hospital,
    hospital_resources,
    patient_record,
    write_export,
)
from exports.sandbox.rotating import ExportedFiles

HOSPITAL = Hospital(patients=25)
ROWS_PER_FILE = 400


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hospital")


@pytest.fixture(scope="module")
def exported(root: Path) -> ExportedFiles:
    return write_export(HOSPITAL, root / "files", root / "truth", rows_per_file=ROWS_PER_FILE)


def lines(path: Path) -> list[bytes]:
    return gzip.decompress(path.read_bytes()).splitlines()


def test_the_files_hold_what_is_said_of_them(root: Path, exported: ExportedFiles) -> None:
    assert {path.name for path in (root / "files").iterdir()} == {
        file.name for file in exported.files
    }
    for file in exported.files:
        read = [orjson.loads(line) for line in lines(root / "files" / file.name)]
        assert len(read) == file.rows <= ROWS_PER_FILE
        assert {resource["resourceType"] for resource in read} == {file.type}
    assert sum(file.type == "Observation" for file in exported.files) > 4


def test_the_files_hold_every_row_of_every_patient(root: Path, exported: ExportedFiles) -> None:
    expected = Counter(orjson.dumps(each) for each in hospital_resources(HOSPITAL))
    for index in range(HOSPITAL.patients):
        record = patient_record(HOSPITAL, index)
        expected.update(orjson.dumps(each) for each in record.resources + record.late)
    written = Counter(line for file in exported.files for line in lines(root / "files" / file.name))
    assert written == expected
    assert sum(exported.rows.values()) == expected.total()


def test_late_copies_are_in_a_later_file(root: Path, exported: ExportedFiles) -> None:
    files: dict[bytes, set[str]] = {}
    for file in exported.files:
        for line in lines(root / "files" / file.name):
            files.setdefault(line, set()).add(file.name)
    late = [
        orjson.dumps(each)
        for index in range(HOSPITAL.patients)
        for each in patient_record(HOSPITAL, index).late
    ]
    assert late
    assert all(len(files[line]) > 1 for line in late)


def test_equal_hospitals_give_equal_bytes(
    root: Path, exported: ExportedFiles, tmp_path: Path
) -> None:
    again = write_export(HOSPITAL, tmp_path / "f", tmp_path / "t", rows_per_file=ROWS_PER_FILE)
    assert again == exported
    for file in exported.files:
        assert (tmp_path / "f" / file.name).read_bytes() == (
            root / "files" / file.name
        ).read_bytes()
    for name in ("risks.parquet", "identifiers.parquet"):
        assert (tmp_path / "t" / name).read_bytes() == (root / "truth" / name).read_bytes()


def test_the_truth_is_written_for_every_patient(root: Path, exported: ExportedFiles) -> None:
    truths = [patient_record(HOSPITAL, index).truth for index in range(HOSPITAL.patients)]
    risks = pq.read_table(root / "truth" / "risks.parquet").to_pylist()
    assert risks == [
        {"encounter_id": each.encounter_id, "risk": each.risk}
        for truth in truths
        for each in truth.risks
    ]
    identifiers = pq.read_table(root / "truth" / "identifiers.parquet")
    assert identifiers.column_names == ["patient_id", "class", "location", "value", "resource_id"]
    of_patients = [row for row in identifiers.to_pylist() if row["patient_id"]]
    assert len(of_patients) == sum(len(truth.identifiers) for truth in truths)
    assert {
        row["location"].partition(".")[0]
        for row in identifiers.to_pylist()
        if not row["patient_id"]
    } == {"Practitioner"}


def test_progress_counts_patients(tmp_path: Path) -> None:
    heard: list[tuple[int, int | None, str]] = []
    write_export(
        Hospital(patients=3),
        tmp_path / "f",
        tmp_path / "t",
        rows_per_file=1000,
        progress=lambda done, total, unit: heard.append((done, total, unit)),
    )
    assert heard == [(1, 3, "patients"), (2, 3, "patients"), (3, 3, "patients")]
