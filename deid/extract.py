"""Step 0 of de-identification: the views' rows, read once from NDJSON, still identified.

All that can be decided without the crosswalk is decided here: the newest version of each
resource, moments, closed lists, units. What is left for `deid.tables` is surrogates, offsets and
the vocabulary. The rows lie in `phi/extract`, a Parquet file a view:

    id, patient_id, encounter_id   as delivered, but for the case of UUIDs
    file                           place of the file in which the row stood, among the type's
    dropped                        why the row is not to be kept, or null
    time, known                    TIMESTAMP, facility-local wall clock, or null
    and the view's written columns
    of a `resolves` column         whether the reference led to a resource; null without one

Auxiliary views come first, so that the others find what they refer to; they have no patient.
"""

from __future__ import annotations

import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from deid.balance import balance, landed, totals, unread
from deid.engine import bind, connect, copy_to, fetch
from deid.geography import zip3_sql, zip_sql
from deid.quarantine import set_apart
from deid.rules import WRITTEN, DomainColumn, ResearchView, Rules
from deid.sql_on_fhir.compiler import compile_view, name, text
from exports.landing.zone import LandingZone
from exports.progress import Progress, silent
from exports.sealed import Sealed, Stage, find_sealed, sealing

VERSION: Final = 3
RARE: Final = "RARE"
"""What every code becomes that may not appear."""
DAYS: Final = "BETWEEN DATE '1850-01-01' AND DATE '2199-12-31'"
"""Whole dates that may be written at all, by a policy that lets them be."""
_SPELLED: Final = "{} spelled"
"""Names the column of a code's spelling; no view's column has a blank in its name."""
DECIMALS: Final = 6
"""Converted quantities are rounded, so that a unit's detour leaves no trace in the last bits."""


def extract(
    landing: LandingZone, phi: Path, rules: Rules, *, progress: Progress = silent
) -> Sealed:
    """Read each view over the landing zone into `phi/extract/<key>/<view>.parquet`.

    The manifest's facts hold the balance of each view in `views`, and in `files` by the name of
    each landed file the balance of each view over it (`deid.balance`). A view that resolves
    references also has `unresolved`: resources whose reference leads to nobody.
    """
    stage = Stage("extract", VERSION, {"landing": landing.sealed.digest}, rules.hash)
    if found := find_sealed(phi / "extract", stage):
        return found
    with sealing(phi / "extract", stage, mode=0o700) as draft:
        spill = draft.path / "spill"
        spill.mkdir()
        connection = connect(spill)
        bind(connection, {"quantities": quantity_table(rules)})
        views = (*rules.auxiliary, *rules.views)
        by_view: dict[str, dict[str, Any]] = {}
        by_file: dict[str, Any] = {file.name: {"views": {}} for file in landing.files}
        for done, view in enumerate(views):
            progress(done, len(views), "views")
            target = draft.path / f"{view.name}.parquet"
            apart = _copy(connection, view, rules, landing, target, spill)
            files = balance(connection, target, landed(landing, view.view.resource), apart)
            for file, counted in files:
                by_file[file.name]["views"][view.name] = counted
            total = totals(counted for _, counted in files)
            by_view[view.name] = total | _unresolved(connection, view, target)
            if view.auxiliary:
                bind(connection, {view.name: target})
        connection.close()
        shutil.rmtree(spill)
        for file, counted in unread(landing, rules):
            by_file[file.name]["views"][f"no view of {file.type}"] = counted
        draft.facts |= {"views": by_view, "files": by_file}
    progress(len(views), len(views), "views")
    return draft.result


def _copy(
    connection: duckdb.DuckDBPyConnection,
    view: ResearchView,
    rules: Rules,
    landing: LandingZone,
    target: Path,
    spill: Path,
) -> Mapping[int, int]:
    """Write a view's rows; returns how many lines had to be set apart, by the file's place."""
    files = [str(path) for path in landing.paths(view.view.resource)]
    if not files:
        files = [str(spill / "none.ndjson")]
        Path(files[0]).touch()
    try:
        copy_to(connection, _ordered(view, rules, files), target)
        return {}
    except (duckdb.InvalidInputException, duckdb.ConversionException):
        files, apart = set_apart(view, files, spill)
        shutil.move(spill / f"{view.name}.bad.ndjson", target.parent)
        copy_to(connection, _ordered(view, rules, files), target)
        return apart


def _unresolved(
    connection: duckdb.DuckDBPyConnection, view: ResearchView, extracted: Path
) -> dict[str, int]:
    if not view.of("resolves"):
        return {}
    reference = name(view.of("resolves")[0].name)
    counted = fetch(
        connection,
        f"SELECT count(DISTINCT id) FILTER (dropped IS NULL AND NOT {reference}) AS unresolved "
        f"FROM read_parquet({text(str(extracted))})",
    )
    return {"unresolved": counted["unresolved"][0].as_py()}


def _ordered(view: ResearchView, rules: Rules, files: Sequence[str]) -> str:
    """The view's rows in an order that makes equal inputs equal files."""
    return f"{extract_sql(view, rules, files)} ORDER BY ALL"


def extract_sql(view: ResearchView, rules: Rules, files: Sequence[str]) -> str:
    """The query that reads a research view's rows.

    Expects the table `quantities`, and for a view that resolves references the auxiliary one's.
    """
    query = _newest(view, files)
    for column in view.of("code"):
        query = _spelled(query, column, rules)
    if view.of("number"):
        code, unit = written_sql(view.code, rules), name(view.of("unit")[0].name)
        query = (
            f"SELECT * FROM ({query}) LEFT JOIN quantities "
            f"ON {code} = quantity_code AND coalesce({unit}, '') = quantity_unit"
        )
    picked = [
        f"{name(view.key.name)} AS id",
        "file",
        f"{_dropped(view)} AS dropped",
        *(
            f"{written_sql(column, rules)} AS {name(column.name)}"
            for column in view.columns
            if column.kind in WRITTEN | {"birth"}
        ),
    ]
    if not view.auxiliary:
        picked[1:1] = [
            f"{name(view.of('patient')[0].name)} AS patient_id",
            f"{_encounter(view)} AS encounter_id",
            f"{_time(view, rules)} AS time",
            f"{_first(_own_known(view), _over(rules))} AS known",
        ]
    resolving = rules.resolving(view)
    if resolving is not None:
        reference = name(view.of("resolves")[0].name)
        rows = f"SELECT {', '.join((*picked, reference))} FROM ({query})"
        return _resolved(rows, view, resolving)
    return f"SELECT {', '.join(picked)} FROM ({query})"


def _newest(view: ResearchView, files: Sequence[str]) -> str:
    """The rows of each resource's newest version, `file` being its file's place among `files`.

    Of versions that were written at the same instant one is taken, the same one every time: a
    withdrawn one if there is any, then by content.
    """
    key, updated = name(view.key.name), name(view.of("updated")[0].name)
    raw = compile_view(view.view, content="content", file="path").over(files)
    places = ", ".join(f"({text(path)}, {place})" for place, path in enumerate(files))
    stand_ins: dict[str, list[str]] = defaultdict(list)
    for column in view.of("else"):
        stand_ins[column.argument].append(name(column.name))
    filled = ", ".join(
        f"coalesce({name(column)}, {', '.join(others)}) AS {name(column)}"
        for column, others in stand_ins.items()
    )
    columns = f"* REPLACE ({filled})" if filled else "*"
    return (
        f"SELECT DISTINCT {columns} FROM (SELECT * EXCLUDE (path), {version_sql(updated)} "
        f"AS version, {_dropped(view)} IS NULL AS standing FROM ({raw}) "
        f"JOIN (VALUES {places}) AS places(path, file) USING (path)) WHERE true "
        f"QUALIFY dense_rank() OVER (PARTITION BY {key} "
        "ORDER BY version DESC, standing, content, file) = 1"
    )


def _resolved(rows: str, view: ResearchView, resolving: ResearchView) -> str:
    """Rows with the codes of the resources that they refer to, where they have none themselves."""
    code, reference = name(view.code.name), name(view.of("resolves")[0].name)
    theirs = name(resolving.code.name)
    return (
        f"SELECT * EXCLUDE (found_id, found_code) REPLACE (coalesce({code}, found_code) AS {code}, "
        f"CASE WHEN {code} IS NULL AND {reference} IS NOT NULL THEN found_id IS NOT NULL END "
        f"AS {reference}) "
        # A resource without a code of its own has one row without; contained ones come beside it.
        f"FROM (FROM ({rows}) QUALIFY {code} IS NOT NULL "
        f"OR NOT bool_or({code} IS NOT NULL) OVER (PARTITION BY id)) "
        f"LEFT JOIN (SELECT id AS found_id, {theirs} AS found_code FROM {resolving.name} "
        f"WHERE dropped IS NULL) ON {code} IS NULL AND {reference} = found_id"
    )


def version_sql(updated: str) -> str:
    """When a version was written, as an instant that always compares: unknown is oldest."""
    return f"coalesce(TRY_CAST({updated} AS TIMESTAMPTZ), TIMESTAMPTZ '1900-01-01 00:00:00+00')"


def written_sql(column: DomainColumn, rules: Rules) -> str:
    """SQL that brings one raw column into its domain, as far as that needs no crosswalk."""
    raw = name(column.name)
    match column.kind:
        case "enum":
            labels = rules.enums[column.argument]
            # One list of those that stay as they are: a branch for each would take longer to plan.
            kept = ", ".join(text(code) for code, label in labels.items() if code == label)
            whens = [f"WHEN {raw}::VARCHAR IN ({kept}) THEN {raw}::VARCHAR"] if kept else []
            whens += [
                f"WHEN {raw}::VARCHAR = {text(code)} THEN {text(label)}"
                for code, label in labels.items()
                if code != label
            ]
            return f"CASE {' '.join(whens)} WHEN {raw} IS NOT NULL THEN 'other' END"
        case "code":
            return name(_SPELLED.format(column.name))
        case "number":
            converted = f"round({raw} * quantity_factor + quantity_shift, {DECIMALS})"
            return (
                f"CASE WHEN {converted} BETWEEN quantity_low AND quantity_high THEN {converted} END"
            )
        case "unit":
            return "canonical_unit"
        case "birth":
            return f"TRY_CAST(rpad({raw}, 10, '-01') AS DATE)"
        case "zip3":
            return zip3_sql(raw, rules.policy.zip3 or ())
        case "zip":
            return zip_sql(raw)
        case "date":
            day = f"CASE WHEN length({raw}) = 10 THEN TRY_CAST({raw} AS DATE) END"
            return f"CASE WHEN {day} {DAYS} THEN {day} END"
        case _:
            return f"plausible(moment({raw}))"


def quantity_table(rules: Rules) -> pa.Table:
    """One row for each code and unit that may be written: how to get to the code's one unit."""
    rows = [
        {
            "quantity_code": code,
            "quantity_unit": unit,
            "quantity_factor": float(factor),
            "quantity_shift": float(shift),
            "quantity_low": float(declared["low"]),
            "quantity_high": float(declared["high"]),
            "canonical_unit": declared["unit"],
        }
        for code, declared in rules.quantities.items()
        for unit, (factor, shift) in {declared["unit"]: (1, 0), **declared["convert"]}.items()
    ]
    return pa.Table.from_pylist(rows)


def _spelled(query: str, column: DomainColumn, rules: Rules) -> str:
    """Rows with a code as `<system>:<code>` in a column of its own, spelled once for all uses."""
    raw, uri = name(column.name), name(column.argument or "system")
    system, word = name(f"{column.name} system"), name(f"{column.name} word")
    spelled = name(_SPELLED.format(column.name))
    whens = " ".join(f"WHEN {text(long)} THEN {text(s)}" for long, s in rules.systems.items())
    code = f"CASE WHEN {system} = 'icd10cm' THEN dotted_icd(upper({raw})) ELSE {raw} END"
    # One pattern over the whole word: a branch for each system would repeat the code in each.
    forms = text("|".join(f"{short}:{form}" for short, form in rules.code_forms.items()))
    return (
        f"SELECT *, CASE WHEN regexp_full_match({word}, {forms}) THEN {word} "
        f"WHEN {raw} IS NOT NULL THEN '{RARE}' END AS {spelled} "
        f"FROM (SELECT *, {system} || ':' || {code} AS {word} "
        f"FROM (SELECT *, CASE {uri} {whens} ELSE 'local' END AS {system} FROM ({query})))"
    )


def _encounter(view: ResearchView) -> str:
    columns = view.of("encounter") + view.of("own encounter")
    return name(columns[0].name) if columns else "NULL::VARCHAR"


def _dropped(view: ResearchView) -> str:
    cases = [
        f"WHEN {name(column.name)}::VARCHAR = {text(value)} THEN {text(_reason(column, value))}"
        for column in view.of("drop")
        for value in map(str.strip, column.argument.split(","))
    ]
    return f"CASE {' '.join(cases)} END" if cases else "NULL::VARCHAR"


def _reason(column: DomainColumn, value: str) -> str:
    """What a dropped row is counted under: the value, or of a flag what it is called."""
    return column.name.replace("_", " ") if value == "true" else value


def _own_known(view: ResearchView) -> list[DomainColumn]:
    return [column for column in view.of("known_at") if not column.argument]


def _time(view: ResearchView, rules: Rules) -> str:
    if rules.policy.dated:
        return _first(view.of("time"), "moment")
    macros = {"reported": "remembered"}
    return _first(view.of("time"), *(macros.get(c.argument, "moment") for c in view.of("time")))


def _over(rules: Rules) -> str:
    """The macro for when a date is over: of a partial one, only where the calendar is told."""
    return "interval_end" if rules.policy.dated else "day_end"


def _first(columns: Sequence[DomainColumn], *macros: str) -> str:
    """The first column that has a value; there is one macro for all, or one for each."""
    each = macros if len(macros) == len(columns) else macros * len(columns)
    parts = [
        f"plausible({macro}({name(column.name)}))"
        for column, macro in zip(columns, each, strict=True)
    ]
    return f"coalesce({', '.join(parts)}, NULL)" if parts else "NULL::TIMESTAMP"
