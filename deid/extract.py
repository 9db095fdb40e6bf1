"""Step 0 of de-identification: the views' rows, read once from NDJSON, still identified.

All that can be decided without the crosswalk is decided here: the newest version of each
resource, moments, closed lists, units. What is left for `deid.tables` is surrogates, offsets and
the vocabulary. The rows lie in `phi/extract`, a Parquet file a view:

    id, patient_id, encounter_id   as delivered
    dropped                        why the row is not to be kept, or null
    time, known                    TIMESTAMP, facility-local wall clock, or null
    and the view's written columns
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import duckdb
import pyarrow as pa

from deid.engine import bind, connect, copy_to
from deid.quarantine import REASON, set_apart
from deid.rules import DomainColumn, ResearchView, Rules
from deid.sql_on_fhir.compiler import compile_view, name, text
from exports.landing.zone import LandingZone
from exports.progress import Progress, silent
from exports.sealed import Sealed, Stage, find_sealed, sealing

VERSION: Final = 1
RARE: Final = "RARE"
"""What every code becomes that may not appear."""
DECIMALS: Final = 6
"""Converted quantities are rounded, so that a unit's detour leaves no trace in the last bits."""


def extract(
    landing: LandingZone, phi: Path, rules: Rules, *, progress: Progress = silent
) -> Sealed:
    """Read each view over the landing zone into `phi/extract/<key>/<view>.parquet`.

    The manifest's facts hold, for each view, `rows` (resources read) and `quarantined` (by reason).
    """
    stage = Stage("extract", VERSION, {"landing": landing.sealed.digest}, rules.hash)
    if found := find_sealed(phi / "extract", stage):
        return found
    with sealing(phi / "extract", stage, mode=0o700) as draft:
        spill = draft.path / "spill"
        spill.mkdir()
        connection = connect(spill)
        bind(connection, {"quantities": quantity_table(rules)})
        rows = landing.rows()
        counts = {}
        for done, view in enumerate(rules.views):
            progress(done, len(rules.views), "views")
            resource = view.view.resource
            files = [str(path) for path in landing.paths(resource)]
            target = draft.path / f"{view.name}.parquet"
            if not files:
                files = [str(spill / "none.ndjson")]
                Path(files[0]).touch()
            quarantined: dict[str, int] = {}
            try:
                copy_to(connection, _ordered(view, rules, files), target)
            except duckdb.InvalidInputException:
                files, apart = set_apart(view, files, spill)
                shutil.move(spill / f"{view.name}.bad.ndjson", draft.path)
                quarantined[REASON] = apart
                copy_to(connection, _ordered(view, rules, files), target)
            counts[view.name] = {"rows": rows.get(resource, 0), "quarantined": quarantined}
        connection.close()
        shutil.rmtree(spill)
        draft.facts["views"] = counts
    progress(len(rules.views), len(rules.views), "views")
    return draft.result


def _ordered(view: ResearchView, rules: Rules, files: Sequence[str]) -> str:
    """The view's rows in an order that makes equal inputs equal files."""
    return f"{extract_sql(view, rules, files)} ORDER BY ALL"


def extract_sql(view: ResearchView, rules: Rules, files: Sequence[str]) -> str:
    """The query that reads a research view's rows; expects the table `quantities`."""
    resource, updated = (name(view.of(kind)[0].name) for kind in ("resource", "updated"))
    raw = compile_view(view.view, content="content").over(files)
    # Of versions that were written at the same instant one is taken, the same one every time: a
    # withdrawn one if there is any, then by content.
    newest = (
        f"SELECT DISTINCT * FROM (SELECT *, {version_sql(updated)} AS version, "
        f"{_dropped(view)} IS NULL AS standing FROM ({raw})) WHERE true "
        f"QUALIFY dense_rank() OVER (PARTITION BY {resource} "
        "ORDER BY version DESC, standing, content) = 1"
    )
    picked = [
        f"{resource} AS id",
        f"{name(view.of('patient')[0].name)} AS patient_id",
        f"{_encounter(view)} AS encounter_id",
        f"{_dropped(view)} AS dropped",
        f"{_first(view.of('time'), 'moment')} AS time",
        f"{_first(_own_known(view), 'interval_end')} AS known",
        *(
            f"{written_sql(column, rules)} AS {name(column.name)}"
            for column in view.columns
            if column.kind in ("birth", "enum", "code", "number", "unit", "age", "offset")
        ),
    ]
    if not view.of("number"):
        return f"SELECT {', '.join(picked)} FROM ({newest})"
    unit = name(view.of("unit")[0].name)
    coded = written_sql(view.of("code")[0], rules)
    return (
        f"SELECT {', '.join(picked)} FROM (SELECT *, {coded} AS coded FROM ({newest})) "
        f"LEFT JOIN quantities ON coded = quantity_code AND {unit} = quantity_unit"
    )


def version_sql(updated: str) -> str:
    """When a version was written, as an instant that always compares: unknown is oldest."""
    return f"coalesce(TRY_CAST({updated} AS TIMESTAMPTZ), TIMESTAMPTZ '1900-01-01 00:00:00+00')"


def written_sql(column: DomainColumn, rules: Rules) -> str:
    """SQL that brings one raw column into its domain, as far as that needs no crosswalk."""
    raw = name(column.name)
    match column.kind:
        case "enum":
            whens = " ".join(
                f"WHEN {text(code)} THEN {text(label)}"
                for code, label in rules.enums[column.argument].items()
            )
            return f"CASE {raw} {whens} ELSE CASE WHEN {raw} IS NOT NULL THEN 'other' END END"
        case "code":
            return _coded(raw, rules)
        case "number":
            converted = f"round({raw} * quantity_factor + quantity_shift, {DECIMALS})"
            return (
                f"CASE WHEN {converted} BETWEEN quantity_low AND quantity_high THEN {converted} END"
            )
        case "unit":
            return "canonical_unit"
        case "birth":
            return f"TRY_CAST(rpad({raw}, 10, '-01') AS DATE)"
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


def _coded(raw: str, rules: Rules) -> str:
    whens = " ".join(f"WHEN {text(uri)} THEN {text(s)}" for uri, s in rules.systems.items())
    system = f"CASE \"system\" {whens} ELSE 'local' END"
    code = f"CASE WHEN {system} = 'icd10cm' THEN dotted_icd(upper({raw})) ELSE {raw} END"
    formed = " ".join(
        f"WHEN {text(short)} THEN regexp_full_match({code}, {text(form)})"
        for short, form in rules.code_forms.items()
    )
    word = f"CASE WHEN CASE {system} {formed} END THEN {system} || ':' || {code} ELSE '{RARE}' END"
    return f"CASE WHEN {raw} IS NOT NULL THEN {word} END"


def _encounter(view: ResearchView) -> str:
    columns = view.of("encounter") + view.of("own encounter")
    return name(columns[0].name) if columns else "NULL::VARCHAR"


def _dropped(view: ResearchView) -> str:
    cases = [
        f"WHEN {name(column.name)} = {text(value.strip())} THEN {text(value.strip())}"
        for column in view.of("drop")
        for value in column.argument.split(",")
    ]
    return f"CASE {' '.join(cases)} END" if cases else "NULL::VARCHAR"


def _own_known(view: ResearchView) -> list[DomainColumn]:
    return [column for column in view.of("known_at") if not column.argument]


def _first(columns: Sequence[DomainColumn], macro: str) -> str:
    parts = [f"plausible({macro}({name(column.name)}))" for column in columns]
    return f"coalesce({', '.join(parts)}, NULL)" if parts else "NULL::TIMESTAMP"
