"""The leak scan, from what is released and the lines that came, to its verdict."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deid.proofs import identifiers, leak_scan, phrases, released
from deid.proofs.identifiers import of_resource
from deid.proofs.leak_scan import Scan, blocks_of, scan
from deid.proofs.suspects import Suspects
from exports.landing.ndjson import DamagedGzip
from exports.landing.zone import land_folder
from exports.sandbox.population import Hospital, patient_record
from tests.deid.resources import Resource, encounter, patient, write_ndjson

MRN = patient(identifier=[{"value": "00812345"}])
SMITH = {"resourceType": "Patient", "id": "p1", "name": [{"family": "Smith", "given": ["John"]}]}
Rows = dict[str, Sequence[object]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "tables"
    made.mkdir()
    return made


def lines(*resources: Resource) -> list[bytes]:
    return [b"\n".join(orjson.dumps(resource) for resource in resources)]


def write(folder: Path, table: pa.Table) -> None:
    folder.mkdir(exist_ok=True)
    pq.write_table(table, folder / "bucket-000.parquet")


def scanned(folder: Path, rows: Rows, *resources: Resource, table: str = "visit") -> Scan:
    """A scan of one table of patient 7 (p1), with a resource before that makes the control."""
    write(folder / table, pa.table({"patient": [7] * len(next(iter(rows.values()))), **rows}))
    patients = pa.table({"patient_id": ["p1"], "surrogate": pa.array([7], pa.int64())})
    first = {"resourceType": "Basic", "id": "the-first-of-all"}
    return scan(folder, lines(first, *resources), patients, frozenset({"loinc:smith"}))


@pytest.mark.parametrize(
    ("text", "leaks"),
    [
        ("ward SMITH, east", True),
        ("ward Smithson", False),
        ("\N{FULLWIDTH LATIN CAPITAL LETTER S}mith", True),
        ("Smi\u00adth", True),
        ("loinc:smith", False),  # a published code of the vocabulary
        ("local:smith", True),  # a site's own
    ],
)
def test_strings_are_compared_as_whole_tokens_in_one_normal_form(
    folder: Path, text: str, leaks: bool
) -> None:
    found = scanned(folder, {"ward": [text]}, SMITH)
    assert found.control_found
    assert found.clean is not leaks


@pytest.mark.parametrize("text", ["Wu, Li", "Li Wu", "WU LI", "seen by Wu Li today"])
def test_a_name_is_one_in_any_order(folder: Path, text: str) -> None:
    named = {"resourceType": "Basic", "id": "b1", "author": {"display": "Li Wu"}}
    assert not scanned(folder, {"ward": [text]}, named).clean
    assert scanned(folder, {"ward": ["Wu Lin"]}, named).clean


@pytest.mark.parametrize(
    "text",
    [
        *("2024-01-31", "01/31/2024", "31/01/2024", "31 Jan 2024", "20240131", "Jan 31, 2024"),
        *("January 31st, 2024", "31-JAN-2024", "31JAN2024", "2024-01-31T08:00:00Z", "1.31.24"),
        *("2024 Jan 31", "01312024", "31. January 2024", "admitted 1/31/2024 by car"),
    ],
)
def test_a_date_is_one_in_every_usual_form(folder: Path, text: str) -> None:
    stay = encounter("e1", "2024-01-31T10:00:00-05:00")
    assert "(class C" in next(iter(scanned(folder, {"ward": [text]}, stay).string_hits))
    assert scanned(folder, {"ward": [text.replace("31", "30")]}, stay).clean


def test_a_date_in_a_note_is_found_too(folder: Path) -> None:
    note = {"resourceType": "Basic", "id": "b1", "note": [{"text": "seen on 1/31/2024 by me"}]}
    assert not scanned(folder, {"ward": ["2024-01-31"]}, note).clean


def test_digits_hide_behind_no_punctuation_and_no_words(folder: Path) -> None:
    phone = patient(telecom=[{"value": "(413) 555-0147"}])
    for text in ("413.555.0147", "call 413 555 0147 or 0148", "4135550147"):
        assert not scanned(folder, {"ward": [text]}, phone).clean
    assert scanned(folder, {"ward": ["413 555 0148"]}, phone).clean


def test_a_number_is_held_against_the_patients_own_identifiers(folder: Path) -> None:
    found = scanned(folder, {"value": [812345.0]}, MRN)
    assert found.number_hits == {"visit.value": 1}
    assert found.expected_by_chance == pytest.approx(1 / 900_000)
    assert scanned(folder, {"value": [812346.0]}, MRN).clean
    assert scanned(folder, {"value": [812345.5]}, MRN).clean
    assert not scanned(folder, {"value": [-812345]}, MRN).clean
    assert not scanned(folder, {"value": [None, 812345]}, MRN).clean
    assert scanned(folder, {"value": [812345]}, {**MRN, "id": "p2"}).clean
    dated = patient(birthDate="1950-06-15")
    assert scanned(folder, {"value": [19500615]}, dated).clean


def test_a_number_with_leading_zeros_is_the_same_number(folder: Path) -> None:
    padded = patient(identifier=[{"value": "000812345"}])
    assert scanned(folder, {"value": [812345]}, padded).number_hits
    assert scanned(folder, {"ward": ["no. 812345"]}, padded).string_hits


def test_column_names_and_metadata_are_scanned(folder: Path) -> None:
    assert scanned(folder, {"smith": [1]}, SMITH).string_hits == {"metadata of visit (class A)": 1}
    table = pa.table({"patient": [7], "ward": ["east"]}).replace_schema_metadata({"by": "Smith"})
    write(folder / "visit", table)
    patients = pa.table({"patient_id": ["p1"], "surrogate": pa.array([7], pa.int64())})
    assert not scan(folder, lines(SMITH), patients, frozenset()).clean


def test_every_table_is_scanned(folder: Path) -> None:
    scanned(folder, {"ward": ["Smith"]}, SMITH, table="another")
    found = scanned(folder, {"value": [812345]}, SMITH, MRN)
    assert found.string_hits == {"another.ward (class A)": 1}
    assert found.number_hits == {"visit.value": 1}


def test_what_cannot_be_scanned_does_not_pass(folder: Path) -> None:
    when = scanned(folder, {"born": [date(1950, 6, 15)]}, MRN)
    assert "visit.born (type date32[day] cannot be scanned)" in when.string_hits


def test_long_texts_hide_nothing(folder: Path) -> None:
    long = "seen with her daughter at the old mill by the river in May"
    told = {"resourceType": "Basic", "id": "b1", "author": [{"display": long}]}
    assert scanned(folder, {"ward": [long]}, told).string_hits


def test_lines_that_were_not_read_do_not_pass(folder: Path) -> None:
    write(folder / "visit", pa.table({"patient": [7]}))
    patients = pa.table({"patient_id": ["p1"], "surrogate": pa.array([7], pa.int64())})
    assert scan(folder, lines(SMITH), patients, frozenset(), lines_due=1).clean
    assert not scan(folder, lines(SMITH), patients, frozenset(), lines_due=2).clean
    assert not scan(folder, [], patients, frozenset()).clean


def test_a_file_that_breaks_off_is_no_clean_scan(tmp_path: Path) -> None:
    hospital = Hospital(seed=5, patients=1)
    source = write_ndjson(tmp_path / "source", patient_record(hospital, 0).resources)
    landing = land_folder(source, tmp_path / "phi")
    path = landing.paths("Patient")[0]
    whole = path.read_bytes()
    rows = sum(landing.rows().values())
    assert sum(block.count(b"\n") + 1 for block in blocks_of(landing)) == rows
    path.write_bytes(
        whole[: len(whole) // 2] if path.suffix == ".gz" else gzip.compress(whole)[:-9]
    )
    with pytest.raises(DamagedGzip):
        list(blocks_of(landing))


def test_blocks_are_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hospital = Hospital(seed=5, patients=1)
    made = patient_record(hospital, 0).resources
    landing = land_folder(write_ndjson(tmp_path / "source", made), tmp_path / "phi")
    monkeypatch.setattr(leak_scan, "BLOCK", 2000)
    read = [orjson.loads(line) for block in blocks_of(landing) for line in block.split(b"\n")]
    assert sorted(item["id"] for item in read) == sorted(item["id"] for item in made)


def test_the_scan_finds_what_a_plain_walk_finds(folder: Path) -> None:
    hospital = Hospital(seed=7, patients=4)
    records = [patient_record(hospital, index) for index in range(hospital.patients)]
    resources = [resource for record in records for resource in record.resources]
    every = [item for resource in resources for item in of_resource(resource)]
    told = sorted({item.value for item in every})[::50]
    ids = sorted({item.patient_id for item in every} - {""})
    numbers = sorted(
        (item.patient_id, int(number))
        for item in every
        if item.patient_id
        and item.letter != "C"
        and 6 <= len(number := identifiers.digits(item.value)) <= 18
    )[::20]
    surrogates = {key: n for n, key in enumerate(ids)}
    owners = [surrogates[key] for key, _ in numbers]
    values = [number for _, number in numbers]
    write(folder / "visit", pa.table({"patient": owners, "value": values}))
    write(folder / "note", pa.table({"patient": [0] * len(told), "text": told}))
    patients = pa.table({"patient_id": ids, "surrogate": pa.array(range(len(ids)), pa.int64())})
    found = scan(folder, lines(*resources), patients, frozenset())
    strings = phrases.phrases_of(released.released_strings(folder))
    walked: dict[str, int] = {}
    for item in every:
        for place, note in strings.told(item).items():
            key = f"{place} (class {item.letter}{note})"
            walked[key] = walked.get(key, 0) + 1
    assert found.string_hits == walked
    assert found.number_hits == {"visit.value": len(set(numbers))}
    assert not found.clean


def _unfolded(text: str) -> str:
    return " ".join(identifiers._TOKEN.findall(text))


@pytest.mark.parametrize(
    ("module", "name", "instead"),
    [
        (phrases, "normal", _unfolded),  # neither case nor NFKC
        (phrases, "normal", lambda text: text.casefold()),  # no tokens
        (phrases, "digits", lambda text: ""),
        (phrases, "LONGEST_PHRASE", 0),
        (phrases, "dates_told", lambda tokens: set()),
        (released, "_text_values", lambda path: iter(())),
        (released, "parquet_files", lambda folder: []),
        (leak_scan, "of_resource", lambda resource: []),
        (Suspects, "among", lambda self, block: []),
        (leak_scan, "unscannable", lambda folder, permitted: iter(())),
    ],
)
def test_each_weakening_of_the_scan_is_seen(
    folder: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, instead: object
) -> None:
    """What is released leaks in many ways, each seen by one part of the scan alone."""
    stay = encounter("e1", "2024-01-31T10:00:00-05:00", identifier=[{"value": "(413) 555-0147"}])
    rows: Rows = {
        "ward": ["east\u00a0wing \N{FULLWIDTH LATIN CAPITAL LETTER S}MITH, 2"],
        "phone": ["x413.555.0147"],
        "seen": ["Jan 31, 2024"],
        "born": [date(1950, 6, 15)],
    }
    whole = scanned(folder, rows, SMITH, stay).string_hits
    assert len(whole) == len(rows)
    monkeypatch.setattr(module, name, instead)
    assert scanned(folder, rows, SMITH, stay).string_hits != whole


def test_a_search_that_is_blind_for_numbers_does_not_find_its_control(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert scanned(folder, {"value": [1]}, MRN).clean
    monkeypatch.setattr("deid.proofs.numbers.NumberSet.lines", lambda self, digits: set())
    blind = scanned(folder, {"value": [1]}, MRN)
    assert not blind.control_found
    assert not blind.clean
