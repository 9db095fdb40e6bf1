"""The `fhirloom` command. Only click and the standard library are imported at the top: `--help`
answers at once, and each command brings in what it needs.
"""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from functools import wraps
from pathlib import Path
from typing import Any, Final, ParamSpec

import click

from exports.errors import FhirloomError, value_free
from flows import summary
from flows.exit_codes import INTERNAL, INTERRUPTED, MEANINGS, OF_ERROR
from flows.options import (
    JSON,
    SOURCE,
    STUDY,
    WORK,
    all_of,
    read_json,
    settings_of,
    wall_clock,
    with_full_paths,
)
from flows.quiet import quieten
from flows.settings import Settings, load_settings, save_settings
from flows.work import Work, at_work, open_work

P = ParamSpec("P")

EPILOG: Final = "\b\nExit codes:\n" + "\n".join(
    f"  {code}  {meaning}" for code, meaning in MEANINGS.items()
)


def _answers(command: Callable[P, None]) -> Callable[P, None]:
    """Turn an error into a line on standard error (JSON with `--json`) and an exit code."""

    @wraps(command)
    def answering(*args: P.args, **kwargs: P.kwargs) -> None:
        failure: FhirloomError
        try:
            return command(*args, **kwargs)
        except FhirloomError as error:
            failure = error
        except (click.ClickException, click.exceptions.Exit):
            raise
        except (KeyboardInterrupt, click.Abort):
            click.echo("fhirloom: stopped; the same command goes on from here", err=True)
            sys.exit(INTERRUPTED)
        except Exception as error:
            work = kwargs.get("work")
            failure = (
                value_free(error, stage="fhirloom", phi=work / "phi")
                if isinstance(work, Path)
                else _unexplained(error)
            )
        if kwargs.get("as_json"):
            click.echo(json.dumps({"error": failure.facts}), err=True)
        else:
            click.echo(f"fhirloom: {failure}", err=True)
        sys.exit(OF_ERROR.get(failure.code, INTERNAL))

    return answering


def _unexplained(error: Exception) -> FhirloomError:
    """A defect in a command without a work folder: there is no place that may hold its values."""
    return FhirloomError(
        "internal",
        f"{type(error).__name__} while scoring",
        where="score",
        fix="Check the request against the bundle's prefetch.json.",
    )


def _tell(facts: summary.Facts, as_json: bool) -> None:
    click.echo(summary.as_json(facts) if as_json else summary.as_text(facts))
    sys.exit(summary.exit_code(facts))


def _alone(work: Path, name: str) -> summary.Facts:
    """One stage on the work folder, without Prefect."""
    folder = open_work(work)
    quieten(folder.research)
    from flows import stages
    from flows.display import display

    with at_work(folder):
        return stages.run(getattr(stages, name), folder, display())


@contextmanager
def _prepared(work: Path, settings: Settings) -> Iterator[Work]:
    """The work folder, this command's alone while the block lasts, with the settings kept in it."""
    folder = open_work(work)
    quieten(folder.research)
    from flows import study

    study.check(settings)
    with at_work(folder):
        save_settings(settings, folder.phi)
        yield folder


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fhirloom")
def main() -> None:
    """From a health system's FHIR records to a registered ONNX model, de-identified on the way."""


@main.command(epilog=EPILOG)
@all_of(SOURCE)
@all_of(STUDY)
@WORK
@JSON
@_answers
def run(work: Path, as_json: bool, **given: Any) -> None:
    """The whole path: export, de-identify, build features, train, register.

    Patients come from the embedded sandbox EHR, from a real server (--server) or from a folder
    of NDJSON (--ndjson). What was done before is not done again.
    """
    with _prepared(work, settings_of(given)) as folder:
        click.echo("fhirloom: starting", err=True)
        from flows.orchestrator import prefect_server

        with prefect_server(folder.phi / "logs" / "prefect-server.log") as api:
            from flows.pipeline import run_pipeline

            facts = run_pipeline(folder.path, api)
    _tell(facts, as_json)


@main.group()
def sandbox() -> None:
    """The sandbox EHR: a synthetic hospital behind a FHIR Bulk Data server."""


@sandbox.command("serve", epilog=EPILOG)
@click.option("--patients", type=click.IntRange(1), default=2000, show_default=True)
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="[any]")
@WORK
@_answers
def sandbox_serve(work: Path, patients: int, seed: int, port: int) -> None:
    """Serve the sandbox EHR on loopback until stopped, for Bulk Data clients of any kind."""
    folder = open_work(work)
    from exports.sandbox.hospital_source import HospitalSource
    from exports.sandbox.population import Hospital
    from exports.sandbox.server import Sandbox, serve_forever

    def ready(ehr: Sandbox) -> None:
        click.echo(f"--server {ehr.base_url} --client-id {ehr.client_id} --key {ehr.key}")

    source = HospitalSource(Hospital(seed, patients), folder.phi / "truth" / "served")
    with suppress(KeyboardInterrupt):
        serve_forever(source, folder.sandbox, port=port, ready=ready)


@main.command(epilog=EPILOG)
@all_of(SOURCE)
@WORK
@JSON
@_answers
def export(work: Path, as_json: bool, **given: Any) -> None:
    """Land the patients' records in WORK/phi, by Bulk Data export or from a folder."""
    with _prepared(work, settings_of(given, study=False)) as folder:
        facts = _alone(folder.path, "EXPORT")
    _tell(facts, as_json)


@main.command(epilog=EPILOG)
@click.option("--refreeze-vocabulary", is_flag=True, help="Count again which codes may appear.")
@WORK
@JSON
@_answers
def deid(work: Path, as_json: bool, refreeze_vocabulary: bool) -> None:
    """De-identify what was landed, and prove it: WORK/research/tables."""
    _tell(_alone(work, "REFREEZE" if refreeze_vocabulary else "DEID"), as_json)


@main.group()
def features() -> None:
    """The feature matrix."""


@features.command("build", epilog=EPILOG)
@all_of(STUDY)
@WORK
@JSON
@_answers
def features_build(work: Path, as_json: bool, **given: str | None) -> None:
    """Build the feature matrix from the research tables: WORK/research/features."""
    chosen = with_full_paths({name: value for name, value in given.items() if value})
    with _prepared(work, replace(load_settings(open_work(work).phi), **chosen)) as folder:
        facts = _alone(folder.path, "FEATURES")
    _tell(facts, as_json)


@main.command(epilog=EPILOG)
@WORK
@JSON
@_answers
def train(work: Path, as_json: bool) -> None:
    """Train, evaluate, export to ONNX, bundle and register: WORK/research/bundles."""
    _tell(_alone(work, "TRAIN"), as_json)


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
@_answers
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
@WORK
@_answers
def schedule(work: Path, cron: str, at_once: bool, **given: Any) -> None:
    """Run the whole path every night, until stopped: this command is all it takes.

    A server is asked for a new export each time. WORK/research/summary.json is that of the last
    run. Times are UTC.
    """
    settings = settings_of(given)
    if settings.server is not None:
        settings = replace(settings, server=replace(settings.server, fresh=True))
    # Each run takes the folder for itself when it is due.
    with _prepared(work, settings) as folder:
        from flows.orchestrator import prefect_server

    with prefect_server(folder.phi / "logs" / "prefect-server.log", schedules=True) as api:
        from flows.nightly import serve

        click.echo(f"Runs at {cron!r} (UTC) until stopped with Ctrl-C.", err=True)
        with suppress(KeyboardInterrupt):
            serve(folder.path, cron, api, at_once=at_once)


@main.command("mlflow-ui")
@WORK
@_answers
def mlflow_ui(work: Path) -> None:
    """Print the command that opens MLflow on the work folder's models."""
    from training.registry import tracking_uri

    store = tracking_uri(Work(work.absolute()).research)
    click.echo(f"mlflow ui --backend-store-uri {shlex.quote(store)}")
