"""The commands that have to do with an EHR: export from one, be known to one, be one."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import click

from exports.errors import FhirloomError
from flows.answering import EPILOG, alone, answers, prepared, tell
from flows.options import JSON, SOURCE, STUDY, WORK, all_of, settings_of
from flows.server import AUTO, instant
from flows.settings import load_settings
from flows.work import at_work, open_work


@click.group(invoke_without_command=True, epilog=EPILOG)
@all_of(SOURCE)
@all_of(STUDY)
@WORK
@JSON
@click.pass_context
def export(context: click.Context, /, work: Path, as_json: bool, **given: Any) -> None:
    """Land the patients' records in WORK/phi: from a server, a folder or the sandbox.

    A server is asked for all that it has, or with --task or --features for no more than these
    need. Stopped at any moment, the same command goes on from there.
    """
    if context.invoked_subcommand is None:
        _export(work=work, as_json=as_json, **given)


@answers
def _export(work: Path, as_json: bool, **given: Any) -> None:
    with prepared(work, settings_of(given, study=False)) as folder:
        facts = alone(folder.path, "EXPORT")
    tell(facts, as_json)


@export.command(epilog=EPILOG)
@WORK
@JSON
@answers
def cancel(work: Path, as_json: bool) -> None:
    """Give up the export that WORK has under way: at its server, and what was downloaded."""
    folder = open_work(work)
    with at_work(folder):
        settings = load_settings(folder.phi)
        asked = settings.server
        if asked is None or asked.method == "search":
            raise FhirloomError(
                "bad-input",
                "The patients of this work folder come from no server's export",
                where=str(work),
                fix="Name the work folder of the export to cancel with --work.",
            )
        from exports.bulk.export import cancel as give_up
        from exports.increments.increment import cancel_increment
        from flows.sources import request_of

        request = request_of(settings, asked)
        way = cancel_increment if asked.since == AUTO else give_up
        confirmed = way(request, folder.phi).confirmed
    if as_json:
        click.echo(json.dumps({"cancelled": True, "confirmed": confirmed}))
    else:
        click.echo("cancelled" + ("" if confirmed else "; the server did not confirm it"))


@click.command(epilog=EPILOG)
@click.argument("folder", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@click.option("--algorithm", type=click.Choice(["ES384", "RS384"]), default="ES384")
@click.option("--kid", metavar="ID", default="", help="The key's id.  [its thumbprint]")
@answers
def keys(folder: Path, algorithm: Literal["ES384", "RS384"], kid: str) -> None:
    """Make a key pair for SMART Backend Services in DIR, and print what to register: its JWKS.

    The private key stays in DIR, for its owner alone. A key that is there is kept and shown.
    """
    from exports.connection.keys import PRIVATE_NAME, make_keys, public_jwks

    private = folder / PRIVATE_NAME
    if not private.is_file():
        private = make_keys(folder, algorithm, kid).private
    click.echo(f"private key: {private}", err=True)
    click.echo(json.dumps(public_jwks(private), indent=1))


@click.group()
def sandbox() -> None:
    """The sandbox EHR: a synthetic hospital behind a FHIR Bulk Data server."""


@sandbox.command("serve", epilog=EPILOG)
@click.option("--patients", type=click.IntRange(1), default=2000, show_default=True)
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="[any]")
@click.option("--version", type=click.Choice(["STU2", "STU3", "STU4"]), default="STU2")
@click.option("--login", type=click.Choice(["smart", "basic", "bearer", "none"]), default="smart")
@click.option("--no-export", is_flag=True, help="FHIR search only.")
@click.option("--fault", "faults", metavar="NAME", multiple=True, help="See `sandbox faults`.")
@click.option("--rate", type=click.FloatRange(0, 1), help="How often a fault strikes.")
@click.option("--one-job", is_flag=True, help="Refuse a second export meanwhile.")
@click.option("--page-files", type=int, default=0, help="Files on a page of a manifest.  [all]")
@click.option("--at", metavar="TIME", default="", help="Serve the hospital as it was then.")
@WORK
@answers
def serve(
    work: Path, patients: int, seed: int, port: int, no_export: bool, at: str, **manners: Any
) -> None:
    """Serve the sandbox EHR on loopback until stopped, for Bulk Data clients of any kind."""
    folder = open_work(work)
    from exports.sandbox.hospital_source import HospitalSource
    from exports.sandbox.manner import Manner
    from exports.sandbox.population import Hospital
    from exports.sandbox.server import Sandbox, serve_forever

    def ready(ehr: Sandbox) -> None:
        told = {"--server": ehr.base_url, "--client-id": ehr.client_id, "--key": ehr.key}
        told |= {"--user": ehr.user, "--password-file": ehr.password_file}
        told |= {"--bearer-file": ehr.bearer_file}
        click.echo(" ".join(f"{option} {value}" for option, value in told.items() if value))

    told = folder.phi / "truth" / "served"
    source = HospitalSource(Hospital(seed, patients), told, at=instant(at, "--at"))
    manner = Manner(exports=not no_export, seed=seed, **manners)
    with suppress(KeyboardInterrupt):
        serve_forever(source, folder.sandbox, port=port, manner=manner, ready=ready)


@sandbox.command(epilog=EPILOG)
@JSON
def faults(as_json: bool) -> None:
    """List the faults that the sandbox EHR can have, and what fhirloom does then."""
    from exports.sandbox.faults import FAULTS

    if as_json:
        told = {name: {"what": fault.what, "then": fault.then} for name, fault in FAULTS.items()}
        click.echo(json.dumps(told, indent=1))
    else:
        for name, fault in FAULTS.items():
            click.echo(f"{name}\n    {fault.what}\n    {fault.then}")
