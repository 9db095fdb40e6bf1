"""The `fhirloom` command. Only click and the standard library are imported at the top: `--help`
answers at once, and each command brings in what it needs.
"""

from __future__ import annotations

import json
import shlex
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from flows.answering import EPILOG, alone, answers, prepared, tell
from flows.attest_commands import attest
from flows.deid_commands import deid
from flows.ehr_commands import export, keys, sandbox
from flows.identity_commands import CROSSWALK_KEY, take_key
from flows.options import (
    JSON,
    NOTES,
    POLICY,
    SOURCE,
    STUDY,
    WORK,
    all_of,
    read_json,
    settings_of,
    wall_clock,
    with_full_paths,
)
from flows.server import AUTO
from flows.settings import kept_settings, load_settings
from flows.view_commands import view
from flows.work import Work, open_work


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fhirloom")
def main() -> None:
    """From a health system's FHIR records to a registered ONNX model, de-identified on the way."""


main.add_command(attest)
main.add_command(deid)
main.add_command(export)
main.add_command(keys)
main.add_command(sandbox)
main.add_command(view)


@main.command(epilog=EPILOG)
@all_of(SOURCE)
@all_of(STUDY)
@all_of(POLICY)
@all_of(NOTES)
@CROSSWALK_KEY
@WORK
@JSON
@answers
def run(work: Path, as_json: bool, crosswalk_key: str | None, **given: Any) -> None:
    """The whole path: export, de-identify, build features, train, register.

    Patients come from the embedded sandbox EHR, from a real server (--server) or from a folder
    of NDJSON (--ndjson). What was done before is not done again.
    """
    with prepared(work, settings_of(given)) as folder:
        take_key(work, crosswalk_key)
        click.echo("fhirloom: starting", err=True)
        from flows.orchestrator import prefect_server

        with prefect_server(folder.phi / "logs" / "prefect-server.log") as api:
            from flows.pipeline import run_pipeline

            facts = run_pipeline(folder.path, api)
    tell(facts, as_json)


@main.group()
def features() -> None:
    """The feature matrix."""


@features.command("build", epilog=EPILOG)
@all_of(STUDY)
@WORK
@JSON
@answers
def features_build(work: Path, as_json: bool, **given: str | None) -> None:
    """Build the feature matrix from the research tables: WORK/research/features."""
    chosen = with_full_paths({name: value for name, value in given.items() if value})
    with prepared(work, replace(load_settings(open_work(work).phi), **chosen)) as folder:
        facts = alone(folder.path, "FEATURES")
    tell(facts, as_json)


@main.command(epilog=EPILOG)
@WORK
@JSON
@answers
def train(work: Path, as_json: bool) -> None:
    """Train, evaluate, export to ONNX, bundle and register: WORK/research/bundles."""
    tell(alone(work, "TRAIN"), as_json)


@main.command(epilog=EPILOG)
@click.option("--bundle", metavar="DIR", required=True, type=click.Path(path_type=Path))
@click.option(
    "--prefetch",
    metavar="FILE",
    required=True,
    type=click.Path(path_type=Path),
    help="A CDS Hooks request, or a Bundle, as JSON.",
)
@click.option("--at", metavar="TIME", required=True, help="The facility's wall clock time.")
@JSON
@answers
def score(bundle: Path, prefetch: Path, at: str, as_json: bool) -> None:
    """The probability for one patient, from a CDS Hooks prefetch."""
    when, request = wall_clock(at, "--at"), read_json(prefetch, "--prefetch")
    from training.score import Scorer

    scored = Scorer(bundle).score(request, when)
    click.echo(json.dumps(asdict(scored)) if as_json else f"{scored.probability:.6f}")


@main.command(epilog=EPILOG)
@click.option("--cron", default="0 2 * * *", show_default=True, help="When to run.")
@click.option("--at-once", is_flag=True, help="Run immediately too.")
@all_of(SOURCE)
@all_of(STUDY)
@all_of(POLICY)
@all_of(NOTES)
@CROSSWALK_KEY
@WORK
@answers
def schedule(work: Path, cron: str, at_once: bool, crosswalk_key: str | None, **given: Any) -> None:
    """Run the whole path every night, until stopped: this command is all it takes.

    A server is asked for a new export each time, or with --since auto for what changed since the
    last. WORK/research/summary.json is that of the last run. Times are UTC.
    """
    settings = settings_of(given)
    if settings.server is not None and settings.server.since != AUTO:
        settings = replace(settings, server=replace(settings.server, fresh=True))
    # Each run takes the folder for itself when it is due.
    with prepared(work, settings) as folder:
        take_key(work, crosswalk_key)
        from flows.orchestrator import prefect_server

    with prefect_server(folder.phi / "logs" / "prefect-server.log", schedules=True) as api:
        from flows.nightly import serve

        click.echo(f"Runs at {cron!r} (UTC) until stopped with Ctrl-C.", err=True)
        with suppress(KeyboardInterrupt):
            serve(folder.path, cron, api, at_once=at_once)


@main.command("mlflow-ui")
@WORK
@answers
def mlflow_ui(work: Path) -> None:
    """Print the command that opens MLflow on the work folder's models."""
    from training.registry import tracking_uri

    folder = Work(work.absolute())
    store = tracking_uri(folder.released(kept_settings(folder.phi).policy))
    click.echo(f"mlflow ui --backend-store-uri {shlex.quote(store)}")
