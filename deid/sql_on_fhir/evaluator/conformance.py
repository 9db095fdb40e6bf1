"""The official test files of SQL on FHIR v2, run on either engine, and the standard report.

Formats: the specification's `tests.schema.json` and `test-report.schema.json`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from deid.engine import memory_file
from deid.sql_on_fhir.evaluator.definition import read_definition
from deid.sql_on_fhir.evaluator.engines import answer, compiled
from deid.sql_on_fhir.evaluator.rows import Row, evaluate
from exports.errors import FhirloomError

Engine = Literal["evaluator", "duckdb"]
Outcome = Literal["passed", "failed", "unclaimed"]


@dataclass(frozen=True)
class Conformance:
    """How each case of each file came out, by file name and in order: pairs of title, outcome."""

    files: Mapping[str, tuple[tuple[str, Outcome], ...]]

    def count(self, outcome: Outcome) -> int:
        """How many cases came out so; `unclaimed` ones the engine leaves to the evaluator."""
        return sum(each == outcome for cases in self.files.values() for _, each in cases)

    @property
    def total(self) -> int:
        """How many cases there are."""
        return sum(map(len, self.files.values()))

    @property
    def report(self) -> dict[str, Any]:
        """The standard test report."""
        return {
            file: {
                "tests": [
                    {"name": title, "result": {"passed": outcome == "passed"}}
                    for title, outcome in cases
                ]
            }
            for file, cases in self.files.items()
        }


def run_cases(folder: Path, engine: Engine) -> Conformance:
    """Run every case of a folder's test files.

    Raises `FhirloomError` (bad-input) for a folder without any, and for a file that is none.
    """
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            suite = json.loads(path.read_text())
            cases = [(test["title"], test) for test in suite["tests"]]
            found[path.name] = tuple(
                (str(title), _outcome(test, suite["resources"], engine)) for title, test in cases
            )
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
            raise _no_cases(path, "Not a test file of SQL on FHIR v2") from None
    if not found:
        raise _no_cases(folder, "There are no test files")
    return Conformance(found)


def _no_cases(path: Path, what: str) -> FhirloomError:
    return FhirloomError(
        "bad-input", what, where=str(path), fix="Give the `tests` folder of SQL on FHIR v2."
    )


def _outcome(test: Mapping[str, Any], resources: list[Any], engine: Engine) -> Outcome:
    view = test["view"]
    try:
        found = evaluate(view, resources) if engine == "evaluator" else _by_query(view, resources)
    except FhirloomError:
        return "passed" if test.get("expectError") else "failed"
    if found is None:
        return "unclaimed"
    if test.get("expectError") or not same_rows(found, test.get("expect", found)):
        return "failed"
    columns = [column.name for column in read_definition(view).columns]
    return "passed" if test.get("expectColumns", columns) == columns else "failed"


def _by_query(view: Mapping[str, Any], resources: list[Any]) -> list[Row] | None:
    """DuckDB's rows, or None where it hands the view over."""
    query = compiled(view)
    if query is None:
        return None
    with memory_file("\n".join(map(json.dumps, resources)).encode()) as file:
        return answer(query, view["resource"], [file])


def same_rows(left: Iterable[Row], right: Iterable[Row]) -> bool:
    """Whether both have the same rows, as often, in whatever order; 1 and 1.0 are the same."""
    return Counter(map(_canonical, left)) == Counter(map(_canonical, right))


def _canonical(row: Row) -> str:
    return json.dumps(_leveled(row), sort_keys=True)


def _leveled(value: Any) -> Any:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, list):
        return [_leveled(each) for each in value]
    if isinstance(value, dict):
        return {key: _leveled(each) for key, each in value.items()}
    return value
