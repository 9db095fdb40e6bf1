"""The commands of de-identification: `fhirloom deid` does it, its subcommands care for the rest."""

from __future__ import annotations

from pathlib import Path

import click

from flows.answering import EPILOG, alone, answers, prepared, tell
from flows.identity_commands import CROSSWALK_KEY, IDENTITY, take_key
from flows.notes_commands import notes
from flows.options import JSON, POLICY, WORK, all_of, with_policy
from flows.settings import load_settings
from flows.work import open_work


@click.group(epilog=EPILOG, invoke_without_command=True)
@click.option("--refreeze-vocabulary", is_flag=True, help="Count again which codes may appear.")
@all_of(POLICY)
@CROSSWALK_KEY
@WORK
@JSON
@click.pass_context
@answers
def deid(
    context: click.Context,
    work: Path,
    as_json: bool,
    refreeze_vocabulary: bool,
    limited: bool | None,
    zip3_population: str | None,
    crosswalk_key: str | None,
) -> None:
    """De-identify what was landed, and prove it: WORK/research/tables.

    With --limited-data-set nothing is de-identified: tables with dates, birth dates and ZIP codes
    go to WORK/phi/limited, and so does all that later commands make, until --safe-harbor.
    """
    if context.invoked_subcommand is not None:
        return
    take_key(work, crosswalk_key)
    stage = "REFREEZE" if refreeze_vocabulary else "DEID"
    if limited is None and zip3_population is None:
        facts = alone(work, stage)
    else:
        kept = load_settings(open_work(work).phi)
        with prepared(work, with_policy(kept, limited, zip3_population)) as folder:
            facts = alone(folder.path, stage)
    tell(facts, as_json)


for command in (*IDENTITY, notes):
    deid.add_command(command)
