"""`fhirloom view`: the standard report, and rows that stay in the identified zone."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from flows.cli import main
from flows.exit_codes import BAD_INPUT, FAILED_PROOF

PATIENTS = [
    {"resourceType": "Patient", "id": "p1", "name": [{"given": ["Ann", "Bo"]}]},
    {"resourceType": "Observation", "id": "o1"},
    {"resourceType": "Patient", "id": "p2"},
]


def view(path: str) -> dict[str, Any]:
    columns = [{"name": "id", "path": "id"}, {"name": "first", "path": path}]
    return {"resource": "Patient", "select": [{"column": columns}]}


COMPILED, HANDED_OVER = view("name.given.first()"), view("name.given.join('+')")


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["view", *map(str, arguments)])


def suite(folder: Path, expected: str) -> Path:
    folder.mkdir()
    tests = [
        {"title": "first", "view": COMPILED, "expect": [{"id": "p1", "first": expected}]},
        {"title": "join", "view": HANDED_OVER, "expect": [{"id": "p1", "first": "Ann+Bo"}]},
    ]
    told = {"title": "s", "resources": PATIENTS[:2], "tests": tests}
    (folder / "s.json").write_text(json.dumps(told))
    return folder


def test_the_report_tells_what_passed(tmp_path: Path) -> None:
    folder = suite(tmp_path / "tests", "Ann")
    for engine, passed, line in (
        ("evaluator", True, "2 of 2 passed, 0 failed, 0 handed over"),
        ("duckdb", False, "1 of 2 passed, 0 failed, 1 handed over"),
    ):
        report = tmp_path / engine / "report.json"
        done = invoke("conformance", folder, "--engine", engine, "--out", report)
        assert (done.exit_code, done.stdout) == (0, f"{engine}: {line}\n")
        assert json.loads(report.read_text()) == {
            "s.json": {
                "tests": [
                    {"name": "first", "result": {"passed": True}},
                    {"name": "join", "result": {"passed": passed}},
                ]
            }
        }


@pytest.mark.parametrize("engine", ["evaluator", "duckdb"])
def test_a_wrong_row_fails(tmp_path: Path, engine: str) -> None:
    done = invoke("conformance", suite(tmp_path / "tests", "Bo"), "--engine", engine)
    assert done.exit_code == FAILED_PROOF
    assert "1 failed" in done.stdout


def test_a_folder_without_cases_is_refused(tmp_path: Path) -> None:
    assert invoke("conformance", tmp_path).exit_code == BAD_INPUT
    (tmp_path / "x.json").write_text("[]")
    assert invoke("conformance", tmp_path).exit_code == BAD_INPUT


def asked(tmp_path: Path, definition: dict[str, Any], out: Path) -> list[object]:
    source = tmp_path / "ndjson"
    source.mkdir(exist_ok=True)
    (source / "a.ndjson").write_text("\n".join(map(json.dumps, PATIENTS[:2])))
    (source / "b.ndjson.gz").write_bytes(gzip.compress(json.dumps(PATIENTS[2]).encode()))
    path = tmp_path / "view.json"
    path.write_text(json.dumps(definition))
    return ["run", path, "--ndjson", source, "--out", out, "--work", tmp_path / "work"]


@pytest.mark.parametrize(
    ("definition", "engine", "first", "second"),
    [(COMPILED, "duckdb", "Ann", None), (HANDED_OVER, "evaluator", "Ann+Bo", "")],
)
@pytest.mark.parametrize("suffix", ["parquet", "ndjson"])
def test_any_view_runs_within_phi(
    tmp_path: Path, definition: dict[str, Any], engine: str, first: str, second: Any, suffix: str
) -> None:
    out = tmp_path / "work" / "phi" / "views" / f"rows.{suffix}"
    done = invoke(*asked(tmp_path, definition, out))
    assert done.exit_code == 0, done.stderr
    assert f"2 rows, by {engine}" in done.stdout
    if suffix == "parquet":
        rows = pq.read_table(out).to_pylist()
    else:
        rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert sorted(rows, key=lambda row: row["id"]) == [
        {"id": "p1", "first": first},
        {"id": "p2", "first": second},
    ]
    assert out.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in out.parent.iterdir()] == [out.name]
    assert invoke(*asked(tmp_path, definition, out)).exit_code == BAD_INPUT


def test_rows_leave_phi_by_no_way(tmp_path: Path) -> None:
    work = tmp_path / "work"
    (work / "phi").mkdir(parents=True)
    (work / "research").mkdir()
    (work / "phi" / "door").symlink_to(work / "research")
    ways = ("research/x.parquet", "phi/../x.parquet", "phi/door/x.parquet", "phi/x.csv")
    for way in ways:
        done = invoke(*asked(tmp_path, COMPILED, work / way))
        assert done.exit_code == BAD_INPUT
        assert "--out" in done.stderr
    assert not [*work.rglob("x.*")]


def test_a_line_that_is_no_resource_is_refused_without_its_words(tmp_path: Path) -> None:
    out = tmp_path / "work" / "phi" / "x.parquet"
    arguments = asked(tmp_path, HANDED_OVER, out)
    (tmp_path / "ndjson" / "a.ndjson").write_text('{"resourceType": "Patient"}\n{"id": "Ann')
    done = invoke(*arguments)
    assert done.exit_code == BAD_INPUT
    assert "file 1" in done.stderr
    assert "line 2" in done.stderr
    assert "Ann" not in done.stderr
    assert not out.exists()
