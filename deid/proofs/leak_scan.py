"""The leak scan: every string and number that is about to be released, against every identifier.

Strings: each distinct value of a text column, and every column, table and file name, Parquet
metadata entry and statistic, as whole tokens (every run of up to `LONGEST_PHRASE` tokens of it,
NFKC and case folded), against all identifiers of the input of four characters and more. Codes of
the frozen vocabulary are exempt where their system is a published one, and what `exceptions.json`
lists. Numbers: each whole value of a
patient's rows against the patient's own identifiers of six digits and more.

Each run carries a negative control: an identifier of the input among what is scanned, which has to
be found. A hit's place is reported, its value only in `phi/logs`.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from deid.engine import bind, connect, fetch
from deid.extract import RARE
from deid.proofs.identifiers import (
    SHORTEST,
    SHORTEST_NUMBER,
    Identifier,
    digits,
    identifiers,
    normal,
)
from deid.proofs.proof import Evidence, Verdict
from deid.rules import load_rules
from exports.progress import Progress, silent

LONGEST_PHRASE: Final = 8
"""Tokens in a run of an output string."""
CONTROL: Final = "negative control"
EXCEPTIONS: Final = Path(__file__).parent / "exceptions.json"
TIME_COLUMNS: Final = ("patient", "time", "known_at", "anchor_year", "observed_until", "encounter")
LONGEST_NUMBER: Final = 18
"""Digits that fit into 64 bits."""


@dataclass
class Scan:
    """What a scan found, without values: hits by place and class of identifier.

    `values` holds the hits themselves, for `phi/logs` alone.
    """

    identifiers: int = 0
    strings: int = 0
    numbers: int = 0
    string_hits: dict[str, int] = field(default_factory=dict)
    number_hits: dict[str, int] = field(default_factory=dict)
    expected_by_chance: float = 0.0
    controls_found: set[str] = field(default_factory=set)
    values: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """No hit, and the negative control was found."""
        return self.control_found and not self.string_hits and not self.number_hits

    @property
    def control_found(self) -> bool:
        """Whether an identifier was found that stood among the strings, and one among the numbers.

        Where no patient has a number of six digits, there is none to plant.
        """
        return self.controls_found >= {"string", "number"}

    def hit(self, place: str, identifier: Identifier, note: str = "") -> None:
        """Count a string hit; the control is what should be hit."""
        if place == CONTROL:
            self.controls_found.add("string")
            return
        told = f"{place} (class {identifier.letter}{note})"
        self.string_hits[told] = self.string_hits.get(told, 0) + 1
        self.values.append(f"{place}: {identifier.value}")

    def facts(self) -> dict[str, Any]:
        """What may be told outside the PHI zone."""
        return {
            "identifiers_of_the_input": self.identifiers,
            "strings_scanned": self.strings,
            "numbers_scanned": self.numbers,
            "string_hits": dict(sorted(self.string_hits.items())),
            "number_hits": dict(sorted(self.number_hits.items())),
            "number_hits_expected_by_chance": float(f"{self.expected_by_chance:.2g}"),
            "negative_control_found": self.control_found,
            "exceptions_version": _exceptions()["version"],
        }


def scan(
    folder: Path, found: Iterable[Identifier], patients: pa.Table, vocabulary: frozenset[str]
) -> Scan:
    """Scan research tables that stand in `folder`, before they are released.

    `found` yields the input's identifiers; `patients` has `patient_id` and `surrogate`;
    `vocabulary` is the set of exempt codes.
    """
    result = Scan()
    strings = released_strings(folder, vocabulary)
    result.strings = len(strings)
    found = iter(found)
    passed_over, planted = _control(found)
    phrases = _phrases({**strings, f"seen by {planted} today": CONTROL})
    own: set[tuple[str, int]] = set()
    for identifier in chain(passed_over, found):
        result.identifiers += 1
        form = normal(identifier.value)
        # A longer one would be found by its beginning.
        begin = form if form.count(" ") < LONGEST_PHRASE else _beginning(form)
        if len(form) >= SHORTEST and begin in phrases:
            for place in phrases[begin]:
                result.hit(place, identifier)
        number = digits(identifier.value)
        if SHORTEST_NUMBER <= len(number) <= LONGEST_NUMBER:
            if form != number and number in phrases:
                for place in phrases[number]:
                    result.hit(place, identifier, ", digits")
            if identifier.patient_id and identifier.letter != "C":
                own.add((identifier.patient_id, int(number)))
    for place in _unscannable(folder):
        result.string_hits[place] = 1
    _scan_numbers(folder, own, patients, result)
    return result


def _beginning(form: str) -> str:
    return " ".join(form.split(" ", LONGEST_PHRASE)[:LONGEST_PHRASE])


def _unscannable(folder: Path) -> Iterator[str]:
    """Columns of a type that nothing here looks into: they do not pass."""
    scanned = (pa.types.is_string, pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean)
    for path in sorted(folder.rglob("*.parquet")):
        for item in pq.read_schema(path):
            if not any(is_one(item.type) for is_one in scanned):
                yield f"{path.parent.name}.{item.name} (type {item.type} cannot be scanned)"


def released_strings(folder: Path, vocabulary: frozenset[str] = frozenset()) -> dict[str, str]:
    """Every string below `folder` that is not exempt, with the place where it stands."""
    strings: dict[str, str] = {}
    for path in sorted(folder.rglob("*.parquet")):
        table = path.parent.name
        strings |= {table: "table name", path.stem: "file name"}
        strings |= dict.fromkeys(_metadata_strings(path), f"metadata of {table}")
        for column, values in _text_values(path):
            place = f"{table}.{column}"
            for value in values:
                strings[value] = place
    exempt = vocabulary | _allowed()
    return {text: place for text, place in strings.items() if text not in exempt}


def _text_values(path: Path) -> Iterator[tuple[str, list[str]]]:
    schema = pq.read_schema(path)
    columns = [item.name for item in schema if pa.types.is_string(item.type)]
    table = pq.read_table(path, columns=columns)
    for column in columns:
        yield column, [value for value in pc.unique(table[column]).to_pylist() if value]


def _metadata_strings(path: Path) -> Iterator[str]:
    """Names, key-value metadata and statistics; the extremes of text columns are values too."""
    file = pq.ParquetFile(path)
    for name, kind in zip(file.schema_arrow.names, file.schema_arrow.types, strict=True):
        yield name
        yield str(kind)
    metadata = file.metadata
    yield metadata.created_by
    for key, value in (metadata.metadata or {}).items():
        if key != b"ARROW:schema":  # the serialized schema: its names are scanned above
            yield key.decode(errors="replace")
            yield value.decode(errors="replace")
    for group in range(metadata.num_row_groups):
        for column in range(metadata.num_columns):
            chunk = metadata.row_group(group).column(column)
            if chunk.is_stats_set and chunk.statistics.has_min_max:
                extremes = (chunk.statistics.min, chunk.statistics.max)
                yield from (text for text in extremes if isinstance(text, str))


@cache
def _exceptions() -> dict[str, Any]:
    read: dict[str, Any] = json.loads(EXCEPTIONS.read_text())
    return read


@cache
def _allowed() -> frozenset[str]:
    """The members of the lists that `exceptions.json` names, as the shipped rules hold them."""
    rules = load_rules()
    lists = {
        "labels": (label for labels in rules.enums.values() for label in labels.values()),
        "units": (declared["unit"] for declared in rules.quantities.values()),
        "names": chain(
            TIME_COLUMNS,
            (view.name for view in rules.views),
            (column.name for view in rules.views for column in view.columns),
        ),
        "writer": (f"parquet-cpp-arrow version {pa.cpp_version}",),
        "types": map(str, (pa.string(), pa.int16(), pa.int64(), pa.float64())),
    }
    named = chain.from_iterable(lists[item["list"]] for item in _exceptions()["allowed"])
    return frozenset(chain((RARE, "other"), named, _exceptions()["values"]))


def _phrases(strings: Mapping[str, str]) -> dict[str, set[str]]:
    """Every run of tokens in the strings, and their digits, with the places."""
    phrases: dict[str, set[str]] = defaultdict(set)
    for text, place in strings.items():
        tokens = normal(text).split()
        for start in range(len(tokens)):
            for end in range(start + 1, min(start + LONGEST_PHRASE, len(tokens)) + 1):
                phrases[" ".join(tokens[start:end])].add(place)
        number = digits(text)
        if len(number) >= SHORTEST_NUMBER:
            phrases[number].add(place)
    return dict(phrases)


def _control(found: Iterator[Identifier]) -> tuple[list[Identifier], str]:
    """The first identifier that the scan has to find, and what was read to get at it."""
    passed: list[Identifier] = []
    for identifier in found:
        passed.append(identifier)
        if len(normal(identifier.value)) >= SHORTEST:
            return passed, identifier.value
    return passed, ""


def _scan_numbers(
    folder: Path, own: set[tuple[str, int]], patients: pa.Table, result: Scan
) -> None:
    ids, numbers = zip(*sorted(own), strict=True) if own else ((), ())
    with connect() as connection:
        bind(
            connection,
            {
                "numbers": pa.table(
                    {"patient_id": pa.array(ids, pa.string()), "n": pa.array(numbers, pa.int64())}
                ),
                "patients": patients,
            },
        )
        connection.execute(
            "CREATE TEMP TABLE own AS SELECT DISTINCT surrogate AS patient, n, "
            "length(n::VARCHAR) AS size FROM numbers JOIN patients USING (patient_id)"
        )
        for table in sorted(path for path in folder.iterdir() if path.is_dir()):
            files = sorted(str(path) for path in table.glob("*.parquet"))
            for column in _numeric_columns(Path(files[0])):
                source = f"read_parquet({files})"
                hits = _numbers_hit(connection, source, column, result)
                if hits:
                    result.number_hits[f"{table.name}.{column}"] = hits
        connection.execute("CREATE TEMP TABLE control AS FROM own ORDER BY ALL LIMIT 1")
        if not own or _numbers_hit(connection, "control", "n", Scan()):
            result.controls_found.add("number")


def _numeric_columns(file: Path) -> list[str]:
    return [
        item.name
        for item in pq.read_schema(file)
        if pa.types.is_integer(item.type) or pa.types.is_floating(item.type)
    ]


def _numbers_hit(
    connection: duckdb.DuckDBPyConnection, source: str, column: str, result: Scan
) -> int:
    """How many (patient, whole value) of a column equal a number that identifies the patient."""
    least = 10 ** (SHORTEST_NUMBER - 1)
    row = fetch(
        connection,
        f"WITH released AS (SELECT DISTINCT patient, abs({column})::BIGINT AS n FROM {source} "
        f"WHERE abs({column}) >= {least} AND abs({column}) < 1e18 AND {column} = round({column})), "
        "sized AS (SELECT patient, length(n::VARCHAR) AS size, count(*) AS many FROM released "
        "GROUP BY ALL), owned AS (SELECT patient, size, count(*) AS many FROM own GROUP BY ALL) "
        "SELECT (SELECT count(*) FROM released) AS scanned, "
        "(SELECT count(*) FROM released SEMI JOIN own USING (patient, n)) AS hits, "
        "(SELECT sum(sized.many * owned.many / (9 * 10.0 ** (size - 1))) "
        "FROM sized JOIN owned USING (patient, size)) AS chance",
    ).to_pylist()[0]
    result.numbers += row["scanned"]
    result.expected_by_chance += row["chance"] or 0.0
    return int(row["hits"])


def verdict(evidence: Evidence, *, progress: Progress = silent) -> Verdict:
    """The proof over tables that are not released yet."""
    scanned = scan(
        evidence.folder,
        identifiers(evidence.landing, progress=progress),
        pq.read_table(evidence.crosswalk.patients, columns=["patient_id", "surrogate"]),
        evidence.vocabulary.published,
    )
    failure = "The leak scan did not find its own negative control"
    if places := sorted({**scanned.string_hits, **scanned.number_hits}):
        failure = f"Identifiers of the input stand in what was to be released ({'; '.join(places)})"
    return Verdict("leak scan", scanned.clean, scanned.facts(), failure, tuple(scanned.values))
