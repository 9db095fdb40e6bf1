"""The closed-domain proof: every value that is about to be released is one its column may hold.

It reads the Parquet files that were written, not what wrote them, and holds each value against its
column's declared domain: surrogates against the crosswalk, times and ages against the timeline that
the crosswalk gives the patient, codes against the frozen vocabulary, numbers against the range and
unit declared for their code, words against their closed list. Files, columns, types and metadata
have to be the declared ones, and no others.

Each run carries its negative controls: for every column a copy of a row, with one value outside
that column's domain, goes through the very same query, and has to be found there.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from deid.engine import bind, connect, fetch
from deid.extract import DAYS, RARE
from deid.geography import UNTOLD
from deid.identity.crosswalk import MOST_YEARS, OLDEST_AGE
from deid.identity.custody import Crosswalk
from deid.proofs.proof import Evidence, Verdict
from deid.rules import UNCAPPED, DomainColumn, ResearchView, Rules
from deid.sql_on_fhir.compiler import name, text
from deid.tables import BUCKETS, LOCATED
from deid.vocabulary import Vocabulary

OTHER: Final = "other"
"""What every word becomes that its closed list does not have."""
EXAMPLES: Final = 20
"""Values of a column that are logged in the PHI zone."""
ARROW_SCHEMA: Final = b"ARROW:schema"
"""The one key of Parquet metadata: the writer's own copy of the schema, which is compared whole."""

TIMELINES: Final = """
CREATE TEMP TABLE timelines AS
SELECT DISTINCT surrogate AS patient, old, year(zero) AS year,
    epoch(TIMESTAMP '1900-01-02')::BIGINT - epoch(zero)::BIGINT AS earliest,
    epoch(greatest(begins, TIMESTAMP '1900-01-02'))::BIGINT - epoch(zero)::BIGINT AS begins,
    epoch(ends)::BIGINT - epoch(zero)::BIGINT AS ends,
    epoch($1::TIMESTAMP)::BIGINT - epoch({censored_from})::BIGINT AS until
FROM patients
"""
"""What each patient's seconds may be: from the surrogate's first moment to its last, and up to
`until`, which is the export's moment minus the end of the anchor year; where dates are told, minus
the zero, which is everybody's."""


@dataclass(frozen=True)
class ClosedColumn:
    """A column as it has to be: `inside` is SQL over its row `t` and that patient's timeline `w`.

    `planted` is SQL for a value outside the domain; a `required` column has a value in every row.
    """

    name: str
    domain: str
    kind: pa.DataType
    inside: str
    planted: str
    required: bool = False

    @property
    def outside(self) -> str:
        """SQL that is true where the value is not in the domain, and never null."""
        there = f"t.{name(self.name)} IS NOT NULL"
        held = f"coalesce({self.inside}, false)"
        return f"NOT ({there} AND {held})" if self.required else f"({there} AND NOT {held})"


@dataclass
class Closure:
    """What the proof found, without values; `values` holds those, for `phi/logs` alone.

    `checked` counts values by table and column, `outside` those that may not be there by place.
    """

    checked: dict[str, int] = field(default_factory=dict)
    domains: Counter[str] = field(default_factory=Counter)
    outside: dict[str, int] = field(default_factory=dict)
    planted: int = 0
    found: int = 0
    values: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Nothing is outside its domain, and every planted value was seen to be."""
        return not self.outside and 0 < self.planted == self.found

    def broken(self, place: str, shown: str) -> None:
        """Count what is wrong with the files themselves."""
        self.outside[place] = self.outside.get(place, 0) + 1
        self.values.append(f"{place}: {shown}")

    def facts(self) -> dict[str, Any]:
        """What may be told outside the PHI zone."""
        return {
            "columns": len(self.checked),
            "values_checked": dict(sorted(self.domains.items())),
            "values_outside": sum(self.outside.values()),
            "negative_controls_planted": self.planted,
            "negative_controls_found": self.found,
        }


def closed_domain(
    folder: Path, walk: Crosswalk, vocabulary: Vocabulary, rules: Rules, *, spill: Path
) -> Closure:
    """Check research tables that stand in `folder`; `spill` is a folder of the PHI zone."""
    result = Closure()
    spill.mkdir(mode=0o700, parents=True, exist_ok=True)
    _strangers(folder, rules, result)
    with connect(spill) as connection:
        words = pa.array([*sorted(vocabulary.codes - {RARE}), RARE], pa.string())
        bind(
            connection,
            {
                "patients": walk.read("patients"),
                "issued_encounters": walk.read("encounters"),
                "words": pa.table({"word": words}),
                "ranges": ranges(rules),
            },
        )
        censored_from = "zero" if rules.policy.dated else "make_date(year(zero) + 1, 1, 1)"
        timelines = TIMELINES.format(censored_from=censored_from)
        connection.execute(timelines, [walk.exported])
        for view in rules.views:
            files = _files(folder, view)
            columns = closed_columns(view, rules)
            if _formed(files, view, columns, result):
                _check(connection, files, view, columns, result)
    shutil.rmtree(spill)
    return result


def closed_columns(view: ResearchView, rules: Rules) -> list[ClosedColumn]:
    """The columns that a view's table has, in order, each with its domain."""
    own = bool(view.of("own encounter"))
    columns = [_surrogate("patient", "w.patient IS NOT NULL", required=True)]
    if view.timed:
        late = "t.known_at BETWEEN coalesce(t.time, w.earliest) AND least(w.until, w.ends)"
        columns += [
            _seconds("time", required=own),
            _seconds("known_at", late, required=True),
        ]
    else:
        until = "t.observed_until = w.until AND t.observed_until >= 0"
        columns += [
            ClosedColumn(
                "anchor_year", "anchor year", pa.int16(), "t.anchor_year = w.year", "1899", True
            ),
            _seconds("observed_until", until, required=True),
        ]
    return [*columns, *(_closed(item, rules) for item in view.columns if item.kind in LOCATED)]


def _closed(column: DomainColumn, rules: Rules) -> ClosedColumn:
    value = f"t.{name(column.name)}"
    match column.kind:
        case "encounter" | "own encounter":
            known = "t.encounter IN (SELECT surrogate FROM issued_encounters)"
            return _surrogate("encounter", known, required=column.kind == "own encounter")
        case "offset":
            return _seconds(column.name)
        case "age" if column.argument == UNCAPPED:
            inside = f"{value} BETWEEN 0 AND {MOST_YEARS}"
            return ClosedColumn(column.name, "age", pa.int16(), inside, str(MOST_YEARS + 1))
        case "date":
            return ClosedColumn(
                column.name, "date", pa.date32(), f"{value} {DAYS}", "DATE '1849-12-31'"
            )
        case "zip":
            inside = f"regexp_full_match({value}, '[0-9]{{5}}')"
            return ClosedColumn(column.name, "ZIP", pa.string(), inside, "'0213'")
        case "zip3":
            return _zip3(column, rules.policy.zip3 or ())
        case "age":
            young = f"{value} BETWEEN 0 AND {OLDEST_AGE - 1}"
            inside = f"CASE WHEN w.old > 0 THEN {value} = {OLDEST_AGE} ELSE {young} END"
            return ClosedColumn(column.name, "age", pa.int16(), inside, str(OLDEST_AGE + 1))
        case "number":
            inside = f"{value} BETWEEN q.low AND q.high"
            return ClosedColumn(column.name, "number", pa.float64(), inside, "1e300")
        case "unit":
            inside, domain = "q.unit IS NOT NULL", "unit"
        case "code":
            inside, domain = f"{value} IN (SELECT word FROM words)", "code"
        case _:
            labels = sorted({*rules.enums[column.argument].values(), OTHER})
            inside, domain = f"{value} IN ({', '.join(map(text, labels))})", "closed list"
    return ClosedColumn(column.name, domain, pa.string(), inside, "'outside of every list'")


def _zip3(column: DomainColumn, told: Sequence[str]) -> ClosedColumn:
    """Planted are three digits that are written like the others, and may not be told."""
    inside = f"t.{name(column.name)} IN ({', '.join(map(text, (UNTOLD, *told)))})"
    planted = next(area for number in range(1, 1000) if (area := f"{number:03d}") not in told)
    return ClosedColumn(column.name, "ZIP3", pa.string(), inside, text(planted))


def _surrogate(column: str, inside: str, *, required: bool) -> ClosedColumn:
    return ClosedColumn(column, "surrogate", pa.int64(), inside, "-1", required)


def _seconds(column: str, inside: str = "", *, required: bool = False) -> ClosedColumn:
    value = f"t.{name(column)}"
    within = inside or f"{value} >= w.begins AND {value} < w.ends AND {value} <= w.until"
    return ClosedColumn(column, "seconds", pa.int64(), within, str(2**62), required)


def ranges(rules: Rules) -> pa.Table:
    """What a number may be, by code and unit; under a RARE code there is none."""
    rows = [
        (code, declared["unit"], float(declared["low"]), float(declared["high"]))
        for code, declared in rules.quantities.items()
    ]
    schema = {"code": pa.string(), "unit": pa.string(), "low": pa.float64(), "high": pa.float64()}
    columns = zip(*rows, strict=True) if rows else ((),) * len(schema)
    return pa.table(dict(zip(schema, map(list, columns), strict=True)), pa.schema(schema))


def _files(folder: Path, view: ResearchView) -> list[Path]:
    return [folder / view.name / f"bucket-{bucket:03d}.parquet" for bucket in range(BUCKETS)]


def _strangers(folder: Path, rules: Rules, result: Closure) -> None:
    """Whatever stands in the folder and is neither a declared table nor one of its files."""
    declared = {path for view in rules.views for path in _files(folder, view)}
    declared |= {folder / view.name for view in rules.views}
    for path in sorted(set(folder.rglob("*")) - declared):
        result.broken("a file that no view declares", str(path.relative_to(folder)))


def _formed(
    files: list[Path], view: ResearchView, columns: list[ClosedColumn], result: Closure
) -> bool:
    """Whether every file has exactly the declared columns and types, and no metadata of its own."""
    declared = pa.schema([(column.name, column.kind) for column in columns])
    before = sum(result.outside.values())
    for path in files:
        if not path.exists():
            result.broken(f"{view.name}: a bucket is missing", path.name)
            continue
        with pq.ParquetFile(path) as file:
            found, keys = file.schema_arrow, set(file.metadata.metadata or {})
        if not found.equals(declared):
            result.broken(f"{view.name}: columns that were not declared", str(found))
        elif keys - {ARROW_SCHEMA} or not found.equals(declared, check_metadata=True):
            result.broken(f"{view.name}: metadata that was not declared", found.to_string())
    return sum(result.outside.values()) == before


def _check(
    connection: duckdb.DuckDBPyConnection,
    files: list[Path],
    view: ResearchView,
    columns: list[ClosedColumn],
    result: Closure,
) -> None:
    """Count each column's values and those outside, in one pass with the controls."""
    rows = checked_sql(files, view, columns)
    counts = ", ".join(
        f"count(*) FILTER (filled_{at}) AS filled_{at}, "
        f"count(*) FILTER (outside_{at}) AS outside_{at}"
        for at in range(len(columns))
    )
    counted = fetch(connection, f"SELECT planted, {counts} FROM ({rows}) GROUP BY planted")
    found = {row["planted"]: row for row in counted.to_pylist()}
    for at, column in enumerate(columns):
        place = f"{view.name}.{column.name}"
        real = found.get(-1, {})
        result.checked[place] = real.get(f"filled_{at}", 0)
        result.domains[column.domain] += result.checked[place]
        result.planted += 1
        result.found += found[at][f"outside_{at}"] > 0
        if outside := real.get(f"outside_{at}", 0):
            result.outside[place] = outside
            shown = fetch(
                connection,
                f"SELECT DISTINCT {name(column.name)}::VARCHAR AS shown FROM ({rows}) "
                f"WHERE planted = -1 AND outside_{at} LIMIT {EXAMPLES}",
            )
            result.values += [f"{place}: {value}" for value in shown["shown"].to_pylist()]


def checked_sql(files: list[Path], view: ResearchView, columns: list[ClosedColumn]) -> str:
    """Every row, with `filled_N` and `outside_N` for the column in place N, and the controls.

    `planted` is -1 for a released row, and else the place of the column with a planted value.
    """
    listed = ", ".join(text(str(path)) for path in files)
    source = f"read_parquet([{listed}], hive_partitioning = false)"
    # A table without rows has its controls all the same: nulls, but for the planted value.
    pattern = f"FROM (SELECT 1 AS one) LEFT JOIN (FROM {source} LIMIT 1) ON true"
    controls = [
        f"SELECT * REPLACE ({column.planted} AS {name(column.name)}), {at} AS planted FROM pattern"
        for at, column in enumerate(columns)
    ]
    verdicts = ", ".join(
        f"t.{name(column.name)} IS NOT NULL AS filled_{at}, {column.outside} AS outside_{at}"
        for at, column in enumerate(columns)
    )
    return (
        f"WITH pattern AS MATERIALIZED (SELECT * EXCLUDE one {pattern}), "
        f"tried AS (SELECT *, -1 AS planted FROM {source} UNION ALL {' UNION ALL '.join(controls)})"
        f" SELECT t.*, {verdicts} FROM tried AS t LEFT JOIN timelines AS w USING (patient)"
        f"{_quantity(view)}"
    )


def _quantity(view: ResearchView) -> str:
    if not view.of("number"):
        return ""
    code, unit = name(view.code.name), name(view.of("unit")[0].name)
    return f" LEFT JOIN ranges AS q ON t.{code} = q.code AND t.{unit} = q.unit"


def verdict(evidence: Evidence) -> Verdict:
    """The proof over tables that are not released yet."""
    closed = closed_domain(
        evidence.folder,
        evidence.crosswalk,
        evidence.vocabulary,
        evidence.rules,
        spill=evidence.spill,
    )
    failure = "The check of closed domains did not find its own negative controls"
    if closed.outside:
        places = "; ".join(sorted(closed.outside))
        failure = f"What was to be released is outside its closed domains ({places})"
    return Verdict("closed domain", closed.holds, closed.facts(), failure, tuple(closed.values))
