"""Each view over resources written by hand: the rows that they become, beside them in `golden/`.

`<view>.ndjson` is what goes in, with the patient and the stay that all of it belongs to, and
`<view>.rows` what comes out: a line for each row, in order, of the columns that have a value.
"""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from deid.live import LiveReader
from deid.rules import load_rules
from deid.vocabulary import Vocabulary

GOLDEN = Path(__file__).parent / "golden"
CODES = frozenset(
    {
        *("rxnorm:313782", "rxnorm:1191", "rxnorm:197361", "rxnorm:1", "ndc:0069-2587-10"),
        *("snomed:26643006", "actcode:FF", "cvx:140", "route:IM", "snomed:91936005"),
        *("snomed:247472004", "loinc:57698-3", "snomed:38341003", "sopt:121"),
        *("specimentype:BLD", "snomed:108252007", "careplan:assess-plan", "snomed:229065009"),
        *("goalcategory:dietary", "snomed:289169006", "snomed:72506001", "loinc:2160-0"),
        *("loinc:9269-2", "loinc:72166-2", "snomed:8517006", "loinc:94531-1", "loinc:85354-9"),
        *("loinc:8480-6", "loinc:8462-4"),
    }
)
VIEWS = sorted(path.stem for path in GOLDEN.glob("*.rows"))


@pytest.fixture(scope="module")
def tables() -> dict[str, list[dict[str, Any]]]:
    resources = [
        json.loads(line)
        for path in sorted(GOLDEN.glob("*.ndjson"))
        for line in path.read_text().splitlines()
    ]
    reader = LiveReader(load_rules(), Vocabulary(GOLDEN, CODES))
    live = reader.read(resources, datetime(2021, 1, 1))
    return {view: table.to_pylist() for view, table in live.tables.items()}


def told(rows: list[dict[str, Any]]) -> str:
    """Rows as lines, without surrogates, which differ each time."""
    kept = [
        {
            column: "e1" if column == "encounter" else value
            for column, value in row.items()
            if value is not None and column != "patient"
        }
        for row in rows
    ]
    return "".join(json.dumps(row) + "\n" for row in kept)


@pytest.mark.parametrize("view", VIEWS)
def test_the_rows_of(tables: dict[str, list[dict[str, Any]]], view: str) -> None:
    assert told(tables[view]) == (GOLDEN / f"{view}.rows").read_text()


def test_every_view_with_rows_to_try_has_its_golden_ones() -> None:
    tried = {path.stem for path in GOLDEN.glob("*.ndjson")} - {"drug", "encounter", "patient"}
    assert tried == {*VIEWS}
    older = {"admission", "condition", "discharge", "note", "patient", "procedure"}
    assert {view.name for view in load_rules().views} == tried | older


def test_nothing_but_declared_columns_and_no_word_of_a_text_comes_out(
    tables: dict[str, list[dict[str, Any]]],
) -> None:
    everything = json.dumps(tables).casefold()
    assert not any(word in everything for word in ("quill", "4711", "acc-1", "2397", "5137"))
