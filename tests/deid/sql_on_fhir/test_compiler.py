"""Views compiled to DuckDB, run over NDJSON: the FHIRPath subset, repetition, and its refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deid.engine import connect, fetch, memory_file
from deid.sql_on_fhir.compiler import compile_view
from deid.sql_on_fhir.fhirpath import parse
from deid.sql_on_fhir.view import parse_view
from exports.errors import FhirloomError

OFFICIAL = Path(__file__).parents[3].parent / "shared" / "sql-on-fhir" / "tests"

ANSWERED = 45
"""Of the 98 official cases at hand, those that the compiler answers; it refuses the others."""

PATIENTS = [
    {
        "resourceType": "Patient",
        "id": "p1",
        "active": True,
        "gender": "female",
        "birthDate": "1950-06-15",
        "name": [
            {"use": "official", "family": "O'Neil", "given": ["Ann", "B"]},
            {"use": "old", "family": "Smith"},
        ],
        "telecom": [{"system": "phone", "value": "1"}, {"system": "email", "value": "a@b"}],
        "contact": [{"telecom": [{"value": "2"}, {"value": "3"}]}, {"telecom": [{"value": "4"}]}],
    },
    {"resourceType": "Patient", "id": "p2", "active": False},
]


def run(select: list[dict[str, Any]], resource: str = "Patient", **more: Any) -> list[Any]:
    view = parse_view({"name": "view", "resource": resource, "select": select, **more})
    lines = "\n".join(json.dumps(item) for item in PATIENTS).encode()
    with memory_file(lines) as file, connect() as connection:
        rows: list[Any] = fetch(connection, compile_view(view).over([file])).to_pylist()
    return rows


def column(path: str, name: str = "x") -> dict[str, Any]:
    return {"column": [{"name": name, "path": path}]}


@pytest.mark.parametrize(
    ("path", "values"),
    [
        ("getResourceKey()", ["p1", "p2"]),
        ("gender", ["female", None]),
        ("name.family.first()", ["O'Neil", None]),
        ("name.where(use = 'old').family.first()", ["Smith", None]),
        ("name.where(family = 'O\\'Neil').given.first()", ["Ann", None]),
        ("name[1].family", ["Smith", None]),
        ("name.given[1]", ["B", None]),
        ("name.exists()", [True, False]),
        ("name.exists(use = 'nickname')", [False, False]),
        ("name.empty()", [False, True]),
        ("active.not()", [False, True]),
        ("contact.telecom.value[2]", ["4", None]),
        ("gender = 'female' and active", [True, False]),
        ("name.where($this.use = %use).family.first()", ["Smith", None]),
    ],
)
def test_paths(path: str, values: list[Any]) -> None:
    constants = [{"name": "use", "valueString": "old"}]
    assert [row["x"] for row in run([column(path)], constant=constants)] == values


def test_for_each_repeats_and_or_null_keeps_the_rest() -> None:
    who = column("id", "who")
    names = {"column": [{"name": "family", "path": "family"}]}
    assert run([who, {"forEach": "name", **names}]) == [
        {"who": "p1", "family": "O'Neil"},
        {"who": "p1", "family": "Smith"},
    ]
    assert run([who, {"forEachOrNull": "name", **names}])[2] == {"who": "p2", "family": None}


def test_siblings_multiply_and_unions_add_up() -> None:
    names = {"forEach": "name", **column("family", "family")}
    phones = {"forEach": "telecom", **column("value", "value")}
    assert len(run([names, phones])) == 4
    inner = {"forEach": "contact", "select": [{"forEach": "telecom", **column("value", "value")}]}
    union = run([column("id", "who"), {"unionAll": [phones, inner]}])
    assert sorted(row["value"] for row in union) == ["1", "2", "3", "4", "a@b"]


def test_where_filters_rows() -> None:
    assert run([column("id")], where=[{"path": "active = true"}]) == [{"x": "p1"}]


def test_only_what_is_named_is_read() -> None:
    view = {"name": "v", "resource": "Patient", "select": [column("name.family.first()")]}
    assert compile_view(parse_view(view)).columns == {"name": 'STRUCT("family" VARCHAR)[]'}


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("nickname", "an element that Patient lacks"),
        ("name.family", "several values"),
        ("name.family.trace('x')", "outside the supported subset"),
        ("%unknown", "undeclared constant"),
        ("gender.code", "an element that code lacks"),
        ("deceased.ofType(Quantity)", "not a choice"),
        ("name.where(use = 'x'", "cannot be read"),
        ("gender; DROP TABLE x", "cannot be read"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(path: str, why: str) -> None:
    with pytest.raises(FhirloomError, match=why):
        run([column(path)])


@given(st.text(max_size=20))
def test_no_constant_breaks_out_of_its_literal(value: str) -> None:
    constants = [{"name": "c", "valueString": value}]
    rows = run([column("gender = %c")], constant=constants)
    assert rows[0]["x"] == (value == "female")


@given(st.text(alphabet="abc.()[]'=<>! $%_0123456789and", max_size=30))
def test_the_parser_reads_or_refuses_and_nothing_else(text: str) -> None:
    try:
        parse(text)
    except FhirloomError as refused:
        assert refused.code == "bad-input"


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="the official cases are not part of the project")
def test_an_official_case_is_answered_right_or_refused() -> None:
    """SQL on FHIR v2's own suite: never a wrong row, and no fewer answers than before."""
    right = 0
    for path in sorted(OFFICIAL.glob("*.json")):
        suite = json.loads(path.read_text())
        for test in suite["tests"]:
            kind = test["view"].get("resource")
            resources = [item for item in suite["resources"] if item["resourceType"] == kind]
            if "expect" in test and (rows := _answered(test["view"], resources)) is not None:
                assert sorted(map(_canonical, rows)) == sorted(map(_canonical, test["expect"]))
                right += 1
    assert right >= ANSWERED


def _answered(view: dict[str, Any], resources: list[Any]) -> list[Any] | None:
    try:
        query = compile_view(parse_view({"name": "official", **view}))
    except (FhirloomError, KeyError):
        return None
    lines = "\n".join(map(json.dumps, resources)).encode()
    with memory_file(lines) as file, connect() as connection:
        rows: list[Any] = fetch(connection, query.over([file])).to_pylist()
    return rows


def _canonical(row: dict[str, Any]) -> str:
    return json.dumps(row, sort_keys=True)
