"""No identifier that the sandbox plants stands in any file of an attestation."""

from __future__ import annotations

import re
from pathlib import Path

import pyarrow.parquet as pq

from deid.deidentify import deidentify
from deid.rules import load_rules
from exports.landing.zone import land_folder
from exports.sandbox.population import Hospital, write_export

WORD = re.compile(r"[^\W_]+")
STYLE = re.compile(r"<style>.*?</style>", re.DOTALL)
"""Some people are called White, and there is white space in style sheets."""
SHORTEST = 4
"""Characters; shorter names are syllables of any text."""


def words(text: str) -> str:
    told = STYLE.sub("", text).casefold()
    return f" {' '.join(WORD.findall(told))} "


def planted_in(text: str, planted: set[str]) -> set[str]:
    """The values that stand in a text, as whole words in their order."""
    spoken = words(text)
    return {value for value in planted if words(value) in spoken}


def test_no_planted_identifier_is_in_any_file_of_it(tmp_path: Path) -> None:
    ndjson, truth = tmp_path / "ndjson", tmp_path / "truth"
    ndjson.mkdir()
    write_export(Hospital(seed=7, patients=8), ndjson, truth, rows_per_file=1000)
    work = tmp_path / "work"
    rules = load_rules().only({"observation", "condition"})
    done = deidentify(
        land_folder(ndjson, work / "phi"), work, declared=["loinc:2160-0"], truth=truth, rules=rules
    )
    rows = pq.read_table(truth / "identifiers.parquet", columns=["class", "value"]).to_pylist()
    values = {row["value"] for row in rows if len(row["value"]) >= SHORTEST}
    values |= {row["value"][:10] for row in rows if row["class"] == "C"}
    assert len(values) > 200
    files = [path for path in done.attestation.sealed.path.rglob("*") if path.is_file()]
    texts = [path.read_text() for path in files if path.suffix != ".sig"]
    assert len(texts) > 8
    assert {value for text in texts for value in planted_in(text, values)} == set()
    for value in sorted(values)[::50]:
        assert value in planted_in(f"<td>{value}</td>{texts[0]}", values)
