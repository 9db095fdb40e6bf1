"""What stages leave behind is held against who the people of the input are."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deid.proofs import artifacts
from deid.proofs.artifacts import scan_artifacts
from exports.errors import FhirloomError
from exports.landing.zone import LandingZone, land_folder
from tests.deid.resources import encounter, patient, write_ndjson

PEOPLE = [
    patient(
        "p-83-bb",
        name=[{"family": "Quillfeather", "given": ["Grace", "Li"]}],
        identifier=[{"value": "MRN-00812345"}, {"value": "931-58-3948"}],
        telecom=[{"value": "(413) 555-0147"}],
        birthDate="1950-06-15",
        address=[{"city": "Springfield", "postalCode": "01103"}],
    ),
    patient("p2", name=[{"family": "Page", "given": ["May"]}]),
    {"resourceType": "Practitioner", "id": "dr", "name": [{"family": "Hamanová"}]},
    encounter("enc-5f3a-7", "2020-03-01T10:00:00-05:00", who="p-83-bb"),
]


@pytest.fixture
def landing(tmp_path: Path) -> LandingZone:
    return land_folder(write_ndjson(tmp_path / "source", PEOPLE), tmp_path / "phi")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Artifacts that tell nobody: words of ours, measures, hashes, a folder of a model."""
    made = tmp_path / "research"
    (made / "models").mkdir(parents=True)
    (made / "models" / "evaluation.json").write_text('{"auroc": 0.81234567, "rows": 28695}')
    (made / "report.html").write_text("<style>page</style><p class='butt'>A page of May</p>")
    return made


def text(told: str) -> Callable[[Path], object]:
    return lambda path: path.with_suffix(".txt").write_text(told)


def binary(told: str) -> Callable[[Path], object]:
    return lambda path: path.with_suffix(".onnx").write_bytes(b"\x08\xff" + told.encode() + b"\x00")


def store(told: str) -> Callable[[Path], object]:
    def write(path: Path) -> None:
        with closing(sqlite3.connect(path.with_suffix(".db"))) as made:
            made.execute("CREATE TABLE params (key TEXT, value TEXT)")
            made.execute("INSERT INTO params VALUES ('a', ?)", (told,))
            made.commit()

    return write


def parquet(told: str) -> Callable[[Path], object]:
    return lambda path: pq.write_table(pa.table({"a": [told]}), path.with_suffix(".parquet"))


def metadata(told: str) -> Callable[[Path], object]:
    table = pa.table({"a": [1]}).replace_schema_metadata({"by": told})
    return lambda path: pq.write_table(table, path.with_suffix(".parquet"))


def name(told: str) -> Callable[[Path], object]:
    return lambda path: (path.parent / f"{told}.txt").touch()


@pytest.mark.parametrize("write", [text, binary, store, parquet, metadata, name])
def test_a_name_is_found_in_every_kind_of_file(
    root: Path,
    landing: LandingZone,
    tmp_path: Path,
    write: Callable[[str], Callable[[Path], object]],
) -> None:
    assert scan_artifacts(root, landing, tmp_path / "phi")["files_scanned"] >= 2
    write("for-quillfeather,2")(root / "models" / "one")
    with pytest.raises(FhirloomError) as refused:
        scan_artifacts(root, landing, tmp_path / "phi")
    assert refused.value.code == "proof-failed"
    assert "quillfeather" not in str(refused.value).lower() or write is name
    assert "Quillfeather" in (tmp_path / "phi" / "logs" / f"{refused.value.ref}.log").read_text()


@pytest.mark.parametrize(
    "told",
    [
        *("May Page", "Page, May", "Grace Quillfeather", "HAMANOVA\u0301"),
        *("mrn-00812345", "931 58 3948", "931583948", "+1 413.555.0147", "4135550147"),
        *("1950-06-15", "June 15, 1950", "06/15/1950", "19500615", "springfield", "p-83-bb"),
    ],
)
def test_who_somebody_is_is_found_in_every_form(
    root: Path, landing: LandingZone, tmp_path: Path, told: str
) -> None:
    (root / "note.md").write_text(f"seen by {told} today")
    with pytest.raises(FhirloomError, match=r"note\.md"):
        scan_artifacts(root, landing, tmp_path / "phi")


def test_names_in_notes_are_made_up_and_all_else_there_is_held_against_people(
    root: Path, landing: LandingZone, tmp_path: Path
) -> None:
    notes = root / "notes" / "0123"
    notes.mkdir(parents=True)
    parquet("seen by May Page")(notes / "bucket-000")
    scan_artifacts(root, landing, tmp_path / "phi")
    (notes / "manifest.json").write_text('{"by": "May Page"}')
    with pytest.raises(FhirloomError, match=r"notes/0123/manifest\.json"):
        scan_artifacts(root, landing, tmp_path / "phi")


@pytest.mark.parametrize(
    "told", ["page", "may", "01103 rows", "0.4135550147", "1950", "Quillfeathers"]
)
def test_words_that_ship_and_numbers_of_reports_tell_nobody(
    root: Path, landing: LandingZone, tmp_path: Path, told: str
) -> None:
    (root / "note.md").write_text(f"seen by {told} today")
    scan_artifacts(root, landing, tmp_path / "phi")


def test_a_copy_of_a_shipped_file_tells_nobody_whenever_people_were_born(
    root: Path, landing: LandingZone, tmp_path: Path
) -> None:
    shipped = (Path(artifacts.__file__).parents[1] / "domains" / "code_dates.json").read_text()
    day = json.loads(shipped)["icd10cm:U07.1"]
    born = [patient("p", birthDate=day)]
    landing = land_folder(write_ndjson(tmp_path / "another", born), tmp_path / "another-phi")
    (root / "code_dates.json").write_text(shipped)
    scan_artifacts(root, landing, tmp_path / "phi")
    (root / "code_dates.json").write_text(f"{shipped} of {day}")
    with pytest.raises(FhirloomError, match=r"code_dates\.json"):
        scan_artifacts(root, landing, tmp_path / "phi")


def test_the_id_of_any_resource_is_found(root: Path, landing: LandingZone, tmp_path: Path) -> None:
    extract = tmp_path / "phi" / "extract" / "current"
    extract.mkdir(parents=True)
    pq.write_table(pa.table({"id": ["enc-5f3a-7", "5f3a-enc-7"]}), extract / "admission.parquet")
    (root / "note.md").write_text("stay 5F3A-ENC-7 was left out")
    with pytest.raises(FhirloomError, match=r"note\.md"):
        scan_artifacts(root, landing, tmp_path / "phi")


def test_what_cannot_be_read_does_not_pass(
    root: Path, landing: LandingZone, tmp_path: Path
) -> None:
    store("nobody")(root / "one")
    whole = (root / "one.db").read_bytes()
    (root / "one.db").write_bytes(whole[:4096] + b"\xff" * 4096)
    with pytest.raises(sqlite3.DatabaseError):
        scan_artifacts(root, landing, tmp_path / "phi")


def test_the_scan_finds_its_own_control(
    root: Path, landing: LandingZone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifacts, "told_in", lambda texts, identifier: set())
    with pytest.raises(FhirloomError, match="its own negative control"):
        scan_artifacts(root, landing, tmp_path / "phi")
