"""A ViewDefinition that means harm is refused, or yields its declared columns and nothing else."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deid.engine import bind, connect, fetch, memory_file
from deid.extract import extract_sql, quantity_table
from deid.rules import ResearchView, load_rules, research_view
from deid.sql_on_fhir.view import DOMAIN_TAG, load_view, parse_view
from exports.errors import FhirloomError

RULES = load_rules()
FAMILY = "Quillfeather"
PATIENT = {"resourceType": "Patient", "id": "p1", "gender": "female", "name": [{"family": FAMILY}]}
SQL = [
    "x'; DROP TABLE quantities; --",
    "x') UNION ALL SELECT content FROM read_text('/etc/passwd') --",
    "x\" FROM source; ATTACH '/tmp/x' AS \"y",
    "x'||(SELECT name[1].family FROM source)||'",
    "$$; COPY quantities TO '/tmp/x'; $$",
    "x\\'); SELECT 1; --",
    "\u0000'; --",
]


def view(**changed: Any) -> dict[str, Any]:
    """The shipped patient view with one more column, which `changed` tells."""
    source = copy.deepcopy(dict(RULES.view("patient").view.source))
    tag = {"name": DOMAIN_TAG, "value": changed.pop("domain", "enum: sex")}
    column = {"name": "more", "path": "gender", "tag": [tag]} | changed.pop("column", {})
    return source | {"select": [*source["select"], {"column": [column]}]} | changed


def run(asked: dict[str, Any]) -> tuple[ResearchView, list[dict[str, Any]]] | None:
    """The rows of a view, or None where it is refused."""
    try:
        found = research_view(parse_view(asked), RULES.enums)
        query = extract_sql(found, RULES, ["memory:///none"])
    except FhirloomError as refused:
        assert refused.code == "bad-input"
        return None
    with memory_file(json.dumps(PATIENT).encode()) as file, connect() as connection:
        bind(connection, {"quantities": quantity_table(RULES)})
        query = extract_sql(found, RULES, [file])
        rows = fetch(connection, query).to_pylist()
        tables = fetch(connection, "SELECT table_name FROM duckdb_tables()")["table_name"]
        assert tables.to_pylist() == []
        assert connection.execute("SELECT count(*) > 0 FROM quantities").fetchall() == [(True,)]
    return found, rows


def harmless(asked: dict[str, Any], *, refused: bool) -> None:
    done = run(asked)
    assert (done is None) is refused
    if done is not None:
        found, rows = done
        [row] = rows
        fixed = {"id", "patient_id", "encounter_id", "file", "dropped", "time", "known"}
        assert {*row} <= fixed | {column.name for column in found.columns}
        assert FAMILY not in json.dumps(row, default=str)


@pytest.mark.parametrize("text", SQL)
def test_sql_in_any_place_is_refused_or_a_plain_value(text: str) -> None:
    literal = text.replace("\\", "\\\\").replace("'", "\\'")
    harmless(view(column={"path": text}), refused=True)
    harmless(view(column={"path": f"`{text}`"}), refused=True)
    harmless(view(column={"path": f"managingOrganization.getReferenceKey(`{text}`)"}), refused=True)
    harmless(view(column={"path": f"deceased.ofType(`{text}`)"}), refused=True)
    harmless(view(column={"path": f"contained.ofType(`{text}`).id.first()"}), refused=True)
    harmless(view(column={"name": text}), refused=True)
    harmless(view(name=text), refused=True)
    harmless(view(resource=text), refused=True)
    harmless(view(domain=text), refused=True)
    harmless(view(domain=f"else: {text}"), refused=True)
    harmless(view(domain=f"code: {text}"), refused=True)
    harmless(view(where=[{"path": text}]), refused=True)
    harmless(view(domain=f"drop: {text}"), refused=False)
    asked = f"extension('{literal}').value.ofType(string).first()"
    harmless(view(column={"path": asked}), refused=False)
    asked = f"name.where(family = '{literal}').use.first()"
    harmless(view(column={"path": asked}), refused=False)
    constant = [{"name": "c", "valueString": text}]
    harmless(view(column={"path": "gender = %c"}, constant=constant), refused=False)


@settings(max_examples=25, deadline=None)
@given(st.text(max_size=30))
def test_whatever_is_a_literal_stays_one(text: str) -> None:
    constant = [{"name": "c", "valueString": text}]
    harmless(
        view(column={"path": "name.where(family = %c).use.first()"}, constant=constant),
        refused=False,
    )


@pytest.mark.parametrize(
    "name",
    [
        *("../observation", "a/b", "a.b", "A", "ä", "select", "order", "from", "", "x" * 64),
        *("patients", "vocabulary", "rules", "windows", ".hidden", "a b", "1a", "a\n"),
    ],
)
def test_a_view_is_called_as_a_table_and_a_folder_can_be(name: str) -> None:
    harmless(view(name=name), refused=True)


@pytest.mark.parametrize(
    "name", ["patient_id", "dropped", "time", "known", "file", "content", "sex", "Sex", "a b", ""]
)
def test_a_column_is_called_as_nothing_else_is(name: str) -> None:
    harmless(view(column={"name": name}), refused=True)


@pytest.mark.parametrize(
    "broken",
    [
        {"name": 5},
        {"resource": None},
        {"select": "gender"},
        {"select": [5]},
        {"select": [{"column": [{"name": "x", "path": 5}]}]},
        {"select": [{"column": [{"name": "x", "path": "gender", "tag": "y"}]}]},
        {"select": [{"forEach": ["name"], "column": []}]},
        {"where": [{"path": {"a": "b"}}]},
        {"constant": [{"name": "c"}]},
        {"constant": [{"name": "c", "valueString": {"a', (SELECT 1) AS b, '": "x"}}]},
        {"constant": [{"name": "c", "valueString": ["a', (SELECT 1)"]}]},
        {"constant": [{"name": "c", "valueDecimal": float("nan")}]},
        {"constant": 5},
    ],
)
def test_what_is_no_view_definition_is_refused(tmp_path: Path, broken: dict[str, Any]) -> None:
    path = tmp_path / "view.json"
    path.write_text(json.dumps(view() | broken))
    with pytest.raises(FhirloomError, match="Not a ViewDefinition"):
        load_view(path)


@pytest.mark.parametrize(
    "path", ["(" * 5000, "name" + ".given" * 5000, "name[" + "9" * 5000 + "].use", "not(" * 900]
)
def test_a_path_without_end_is_refused(path: str) -> None:
    harmless(view(column={"path": path}), refused=True)


def test_a_view_that_resolves_needs_another_to_resolve_by(tmp_path: Path) -> None:
    for part in ("views", "domains"):
        (tmp_path / part).mkdir()
        for file in (RULES.folder / part).iterdir():
            (tmp_path / part / file.name).write_bytes(file.read_bytes())
    (tmp_path / "views" / "drug.json").unlink()
    with pytest.raises(FhirloomError, match="no view resolves `Medication`"):
        load_rules(tmp_path)
