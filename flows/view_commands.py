"""The commands that have to do with views: how far they meet the standard, and any view's rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import click

from exports.errors import FhirloomError
from flows.answering import EPILOG, answers
from flows.options import WORK, read_json
from flows.work import Work, at_work, open_work


@click.group()
def view() -> None:
    """ViewDefinitions of SQL on FHIR v2."""


@view.command(epilog=EPILOG)
@click.argument(
    "folder", metavar="TESTS_DIR", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option(
    "--engine", type=click.Choice(["evaluator", "duckdb"]), default="evaluator", show_default=True
)
@click.option("--out", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@answers
def conformance(folder: Path, engine: Literal["evaluator", "duckdb"], out: Path | None) -> None:
    """Run the official test files in TESTS_DIR, and write the standard report to FILE.

    The evaluator is to pass them all. DuckDB hands over to it what it does not claim: told apart
    here, and not passed in the report.
    """
    from deid.sql_on_fhir.evaluator.conformance import run_cases

    told = run_cases(folder, engine)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(told.report, indent=1) + "\n")
    line = f"{engine}: {told.count('passed')} of {told.total} passed"
    click.echo(f"{line}, {told.count('failed')} failed, {told.count('unclaimed')} handed over")
    if told.count("failed"):
        raise FhirloomError(
            "proof-failed",
            "An engine gave other rows than the standard asks for",
            where=str(folder),
            fix="Write the report with --out: it tells which cases.",
        )


@view.command(epilog=EPILOG)
@click.argument("definition", metavar="VIEW.json", type=click.Path(path_type=Path))
@click.option(
    "--ndjson",
    metavar="DIR",
    required=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder of NDJSON, plain or gzip.",
)
@click.option(
    "--out",
    metavar="FILE",
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    help="A new file below WORK/phi, *.parquet or *.ndjson.",
)
@WORK
@answers
def run(definition: Path, ndjson: Path, out: Path, work: Path) -> None:
    """Run any view on identified data. Its rows are identified too: they stay in WORK/phi."""
    asked = read_json(definition, "VIEW.json")
    folder = open_work(work)
    with at_work(folder):
        place = _within(folder, out)
        from deid.sql_on_fhir.evaluator import engines
        from deid.sql_on_fhir.evaluator.definition import read_definition
        from deid.sql_on_fhir.evaluator.output import write_rows

        columns = read_definition(asked).columns
        found, engine = engines.run(asked, engines.ndjson_files(ndjson))
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_rows(found, columns, place)
    click.echo(f"{len(found)} rows, by {engine}: {out}")


def _within(work: Work, out: Path) -> Path:
    """Where `out` really is; raises `FhirloomError` (bad-input) where no view may be written."""
    from deid.sql_on_fhir.evaluator.output import FORMATS

    place, why = out.resolve(), ""
    if not place.is_relative_to(work.phi.resolve()):
        why = "A view's rows are identified data: they may lie in the work folder's phi/ alone"
    elif place.suffix not in FORMATS:
        why = f"Rows are written as {' or '.join(FORMATS)}"
    elif place.exists():
        why = "There is such a file already"
    if why:
        raise FhirloomError(
            "bad-input", why, where="--out", fix=f"Name a new file below {work.phi}."
        )
    return place
