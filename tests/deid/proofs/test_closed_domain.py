"""The closed-domain proof holds for what the rules write, and fails for each thing they must not.

Once by the files: one value, column, type, file or metadata entry is changed in what was written.
Once by the rules: a rule is broken, and the run as a whole has to refuse.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import deid.extract
import deid.tables
from deid.deidentify import Deidentified, deidentify
from deid.identity.custody import open_crosswalk
from deid.proofs import closed_domain as proof
from deid.proofs.closed_domain import Closure, closed_columns, closed_domain
from deid.rules import DomainColumn, load_rules
from exports.errors import FhirloomError
from exports.landing.zone import land_folder
from tests.deid.resources import (
    Deidentify,
    Resource,
    condition,
    encounter,
    observation,
    patient,
    write_ndjson,
)

DECLARED = frozenset({"loinc:2160-0", "loinc:2345-7", "icd10cm:I50*"})
EXPORTED = datetime(2024, 7, 3)
RESOURCES: list[Resource] = [
    patient(deceasedDateTime="2021-06-01T00:00:00", address=[{"state": "MA"}], gender="female"),
    encounter("e1", "2020-03-01T10:00:00", "2020-03-04T12:00:00"),
    condition("c1", recordedDate="2020-03-02", encounter={"reference": "Encounter/e1"}),
    observation("o1", "2020-03-02T08:00:00", encounter={"reference": "Encounter/e1"}),
    observation(
        "o2",
        "2020-03-02T09:00:00",
        code={"coding": [{"system": "http://loinc.org", "code": "2345-7"}]},
        valueQuantity={"value": 90, "code": "mg/dL", "comparator": "<"},
    ),
    # The same person from 90 on: a timeline with an end of its own.
    patient("old", birthDate="1930-06-15"),
    encounter("e2", "2020-03-01T10:00:00", "2020-03-02T10:00:00", who="old"),
    encounter("e3", "2021-03-01T10:00:00", "2021-03-02T10:00:00", who="old"),
]
YEAR = 366 * 86_400


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Deidentified, Path]:
    work = tmp_path_factory.mktemp("closed")
    source = write_ndjson(work / "source", RESOURCES)
    landing = land_folder(source, work / "phi", transaction_time=EXPORTED)
    return deidentify(landing, work, declared=DECLARED), work


Tried = Callable[[], Closure]


@pytest.fixture
def written(whole: tuple[Deidentified, Path], tmp_path: Path) -> Path:
    """A copy of the tables, to be spoiled."""
    folder = tmp_path / "tables"
    for table in whole[0].tables.names:
        shutil.copytree(whole[0].tables.sealed.path / table, folder / table)
    return folder


@pytest.fixture
def tried(whole: tuple[Deidentified, Path], written: Path, tmp_path: Path) -> Tried:
    """The proof over that copy."""
    done, work = whole
    walk = open_crosswalk(work / "phi" / "crosswalk")
    assert walk is not None
    spill = tmp_path / "spill"
    return lambda: closed_domain(written, walk, done.vocabulary, load_rules(), spill=spill)


def changed(folder: Path, table: str, column: str, value: Callable[[Any], Any]) -> None:
    """Change the first value of a column that there is, in whichever bucket it stands."""
    for path in sorted((folder / table).iterdir()):
        rows = pq.read_table(path)
        values = rows[column].to_pylist()
        for row, there in enumerate(values):
            if there is not None:
                values[row] = value(there)
                place = rows.schema.get_field_index(column)
                kind = rows.schema.field(column).type
                spoiled = rows.set_column(place, column, pa.array(values, kind))
                pq.write_table(spoiled, path)
                return
    raise AssertionError(f"{table}.{column} has no value to spoil")


def test_what_the_rules_write_is_closed_and_every_control_is_found(tried: Tried) -> None:
    closure = tried()
    assert closure.holds, closure.values
    columns = [item for view in load_rules().views for item in closed_columns(view, load_rules())]
    assert closure.planted == closure.found == len(columns) == closure.facts()["columns"]
    assert all(closure.domains[column.domain] for column in columns)
    assert closure.checked["observation.value"] == 2


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("patient", "patient", lambda known: known + 1),
        ("condition", "encounter", lambda known: known ^ 1),
        ("admission", "encounter", lambda _: None),
        ("observation", "time", lambda _: 5 * YEAR),
        ("admission", "time", lambda _: None),
        ("observation", "known_at", lambda _: 5 * YEAR),
        ("observation", "known_at", lambda _: -130 * YEAR),
        ("observation", "known_at", lambda _: None),
        ("admission", "time", lambda _: -130 * YEAR),
        ("patient", "death", lambda _: 5 * YEAR),
        ("patient", "observed_until", lambda until: until + 1),
        ("patient", "anchor_year", lambda year: year - 1),
        ("patient", "sex", lambda _: "Female"),
        ("patient", "state", lambda _: "Springfield"),
        ("observation", "comparator", lambda _: "=<"),
        ("observation", "code", lambda _: "loinc:2160-1"),
        ("observation", "code", lambda _: "2160-0"),
        ("observation", "unit", lambda _: "mg/dl"),
        ("observation", "unit", lambda _: "Cel"),
        ("observation", "value", lambda _: 812345.0),
        ("observation", "value", lambda _: float("nan")),
        ("observation", "value", lambda _: float("inf")),
        ("admission", "age", lambda _: 91),
        ("admission", "age", lambda _: -1),
    ],
)
def test_one_value_outside_its_domain_is_found(
    tried: Tried, written: Path, table: str, column: str, value: Callable[[Any], Any]
) -> None:
    changed(written, table, column, value)
    closure = tried()
    assert not closure.holds
    assert f"{table}.{column}" in closure.outside


def test_an_event_may_be_without_a_time_but_not_without_when_it_was_known(
    tried: Tried, written: Path
) -> None:
    changed(written, "observation", "time", lambda _: None)
    assert tried().holds


def test_ninety_is_the_age_of_that_timeline_alone(tried: Tried, written: Path) -> None:
    for path in (written / "admission").iterdir():
        rows = pq.read_table(path)
        ages = [{89: 90, 90: 89}.get(age, age) for age in rows["age"].to_pylist()]
        place = rows.schema.get_field_index("age")
        pq.write_table(rows.set_column(place, "age", pa.array(ages, pa.int16())), path)
    assert tried().outside == {"admission.age": 2}


def test_no_time_reaches_beyond_a_birthday_from_the_90th_on(tried: Tried, written: Path) -> None:
    for path in (written / "discharge").iterdir():
        rows = pq.read_table(path)
        # A year on is after the next birthday for who is 89 or older, and within everyone's window.
        moved = pa.array([time + YEAR for time in rows["time"].to_pylist()], pa.int64())
        for column in ("time", "known_at"):
            rows = rows.set_column(rows.schema.get_field_index(column), column, moved)
        pq.write_table(rows, path)
    assert tried().outside == {"discharge.time": 2, "discharge.known_at": 2}


def test_under_a_rare_code_there_is_no_number(tried: Tried, written: Path) -> None:
    changed(written, "observation", "code", lambda _: "RARE")
    assert set(tried().outside) == {"observation.value", "observation.unit"}


def spoil(written: Path, how: str) -> None:
    path = written / "condition" / "bucket-003.parquet"
    rows = pq.read_table(path)
    match how:
        case "extra column":
            rows = rows.append_column("name", pa.nulls(len(rows), pa.string()))
        case "missing column":
            rows = rows.drop_columns(["category"])
        case "other order":
            rows = rows.select(rows.column_names[::-1])
        case "other type":
            rows = rows.set_column(0, "patient", rows["patient"].cast(pa.string()))
        case "metadata":
            rows = rows.replace_schema_metadata({"by": "Quillfeather"})
        case "metadata of a column":
            told = rows.schema.field(0).with_metadata({"by": "Quillfeather"})
            rows = rows.cast(pa.schema([told, *list(rows.schema)[1:]]))
        case "extra file":
            path = written / "condition" / "notes.parquet"
        case "extra table":
            path = written / "ward" / "bucket-000.parquet"
            path.parent.mkdir()
        case "missing bucket":
            path.unlink()
            return
    pq.write_table(rows, path)


@pytest.mark.parametrize(
    "how",
    [
        *("extra column", "missing column", "other order", "other type", "metadata"),
        *("metadata of a column", "extra file", "extra table", "missing bucket"),
    ],
)
def test_files_hold_what_was_declared_and_nothing_more(
    tried: Tried, written: Path, how: str
) -> None:
    spoil(written, how)
    closure = tried()
    assert not closure.holds
    assert not any("Quillfeather" in place for place in closure.outside)


def test_a_check_that_is_blind_does_not_pass(tried: Tried, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proof.ClosedColumn, "outside", "false")
    closure = tried()
    assert closure.outside == {}
    assert not closure.holds


BROKEN_TABLES = {
    "encounter": ("17::BIGINT AS encounter", "condition.encounter"),
    "own encounter": ("17::BIGINT AS encounter", "admission.encounter"),
    "code": ("r.code AS code", "condition.code"),
    "age": ("(year(r.age) - year(p.birth))::SMALLINT AS age", "admission.age"),
    "offset": ("(epoch(r.death)::BIGINT) AS death", "patient.death"),
}


@pytest.mark.parametrize("kind", list(BROKEN_TABLES))
def test_a_broken_rule_releases_nothing(
    run: Deidentify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    sql, place = BROKEN_TABLES[kind]
    right = deid.tables._column

    def wrong(column: DomainColumn, known_at: str, time: str) -> str:
        return sql if column.kind == kind else right(column, known_at, time)

    monkeypatch.setattr(deid.tables, "_column", wrong)
    refused_at(run, tmp_path, place)


@pytest.mark.parametrize("kind", ["enum", "number", "unit"])
def test_a_rule_that_lets_through_what_it_reads_releases_nothing(
    run: Deidentify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    right = deid.extract.written_sql
    place = {"enum": "patient.state", "number": "observation.value", "unit": "observation.unit"}

    def wrong(column: DomainColumn, rules: Any) -> str:
        if column.kind == kind and column.name in ("state", "value", "unit"):
            return f'"{column.name}"'
        return right(column, rules)

    monkeypatch.setattr(deid.extract, "written_sql", wrong)
    refused_at(run, tmp_path, place[kind])


def test_a_window_that_is_too_long_releases_nothing(
    run: Deidentify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = deid.tables.windows
    monkeypatch.setattr(deid.tables, "windows", lambda *_: right(None))
    refused_at(run, tmp_path, "patient.observed_until")


def refused_at(run: Deidentify, tmp_path: Path, place: str) -> None:
    """The run fails for that place, in words that hold no value; nothing was released."""
    odd = [
        patient("p2", address=[{"state": "Quillshire"}], deceasedDateTime="2021-06-01"),
        encounter("e9", "2020-03-01T10:00:00", "2020-03-04T12:00:00", who="p2"),
        condition("c9", "Z99.9", who="p2", recordedDate="2020-03-02"),
        observation(
            "o9", "2020-03-02T08:00:00", who="p2", valueQuantity={"value": 9e8, "code": "mg/dL"}
        ),
        observation(
            "o8", "2020-03-02T08:00:00", who="p2", valueQuantity={"value": 1, "code": "quills"}
        ),
    ]
    with pytest.raises(FhirloomError) as refused:
        run([*RESOURCES, *odd], exported="2024-07-03T00:00:00")
    assert refused.value.code == "proof-failed"
    assert place in str(refused.value)
    assert "quill" not in str(refused.value).casefold()
    work = tmp_path / "work"
    assert not list((work / "research").rglob("*.parquet"))
    assert place in (work / "phi" / "logs" / f"{refused.value.ref}.log").read_text()
