"""The commands of de-identification: `fhirloom deid` does it, its subcommands care for the rest."""

from __future__ import annotations

from pathlib import Path

import click

from flows.answering import EPILOG, alone, answers, tell
from flows.options import JSON, WORK


@click.group(epilog=EPILOG, invoke_without_command=True)
@click.option("--refreeze-vocabulary", is_flag=True, help="Count again which codes may appear.")
@WORK
@JSON
@click.pass_context
@answers
def deid(context: click.Context, work: Path, as_json: bool, refreeze_vocabulary: bool) -> None:
    """De-identify what was landed, and prove it: WORK/research/tables."""
    if context.invoked_subcommand is None:
        tell(alone(work, "REFREEZE" if refreeze_vocabulary else "DEID"), as_json)
