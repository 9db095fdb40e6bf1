"""DuckDB and the evaluator give the same rows, whatever becomes of a resource."""

from __future__ import annotations

import json
from collections import defaultdict
from copy import deepcopy
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest

from deid.engine import memory_file
from deid.proofs.examples import examples, filling
from deid.rules import PACKAGED, load_rules
from deid.sql_on_fhir.evaluator.conformance import same_rows
from deid.sql_on_fhir.evaluator.engines import answer, compiled
from deid.sql_on_fhir.evaluator.rows import evaluate
from deid.vocabulary import Vocabulary
from exports.sandbox.population import Hospital, patient_record

OFFICIAL = Path(__file__).parents[3].parent / "shared" / "sql-on-fhir" / "tests"
VIEWS = {path.stem: json.loads(path.read_text()) for path in (PACKAGED / "views").glob("*.json")}
STRANGE = [
    "",
    "x",
    " ",
    "O'Neil \"\\ \u00e9 \u2028",
    "2020",
    "Patient/1",
    "#in",
    "urn:uuid:1",
    0,
    1.5,
    -7,
]


@cache
def charts() -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = defaultdict(list)
    for index in range(6):
        for resource in patient_record(Hospital(7, 12), index).resources:
            found[resource["resourceType"]].append(resource)
    rules = load_rules()
    fill = filling(rules, Vocabulary(Path(), frozenset()))
    for kind in {view["resource"] for view in VIEWS.values()}:
        found[kind] += examples(kind, rules, fill)
    return found


def mutated(resource: Any, random: Random) -> Any:
    """One change somewhere: an element dropped, repeated, moved, or another value of its kind."""
    places: list[tuple[Any, Any]] = []

    def gather(node: Any) -> None:
        for key, child in list(node.items() if isinstance(node, dict) else enumerate(node)):
            if key != "resourceType":
                places.append((node, key))
            if isinstance(child, dict | list):
                gather(child)

    changed = deepcopy(resource)
    gather(changed)
    if not places:
        return changed
    holder, key = random.choice(places)
    value = holder[key]
    match random.choice(["drop", "repeat", "reverse", "other", "other", "extend"]):
        case "drop":
            del holder[key]
        case "repeat" if isinstance(value, list):
            value.append(deepcopy(random.choice(value))) if value else None
        case "reverse" if isinstance(value, list):
            value.reverse()
        case "extend" if isinstance(value, dict):
            value["extension"] = [{"url": "http://example.org/x", "valueString": "y"}]
        case _ if isinstance(value, bool):
            holder[key] = not value
        case _ if isinstance(value, str | int | float):
            holder[key] = random.choice(
                [each for each in STRANGE if type(each) is type(value)] or [value]
            )
    return changed


@pytest.mark.parametrize("name", sorted(VIEWS))
def test_both_engines_give_the_same_rows_of_mutated_resources(name: str) -> None:
    view, random, compared = VIEWS[name], Random(name), 0  # noqa: S311
    for _ in range(8):
        chosen = random.choices(charts()[view["resource"]], k=20)
        compared += agree(view, [mutated(mutated(each, random), random) for each in chosen])
    assert compared > 0


@pytest.mark.skipif(not OFFICIAL.is_dir(), reason="the official cases are not here")
@pytest.mark.parametrize("seed", range(2))
def test_both_engines_give_the_same_rows_of_mutated_official_cases(seed: int) -> None:
    random, compared = Random(seed), 0  # noqa: S311
    for path in sorted(OFFICIAL.glob("*.json")):
        suite = json.loads(path.read_text())
        for view in (test["view"] for test in suite["tests"] if not test.get("expectError")):
            alike = [
                each for each in suite["resources"] if each["resourceType"] == view["resource"]
            ]
            compared += agree(view, [mutated(each, random) for each in alike])
    assert compared > 20


def agree(view: dict[str, Any], resources: list[Any]) -> bool:
    """Whether DuckDB answers; if it does, the rows are the evaluator's."""
    query = compiled(view)
    if query is None:
        return False
    with memory_file("\n".join(map(json.dumps, resources)).encode()) as file:
        rows = answer(query, view["resource"], [file])
    if rows is None:  # the resources are not of the types that FHIR gives them
        return False
    assert same_rows(rows, evaluate(view, resources))
    return True
