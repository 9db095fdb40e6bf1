"""The commands of attestations: check one, compare two, make the statement, know the key."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from exports.errors import FhirloomError
from flows.answering import EPILOG, answers
from flows.exit_codes import COMPLETE, FAILED_PROOF, UNSTATED
from flows.options import JSON, WORK
from flows.work import at_work, open_work

if TYPE_CHECKING:
    from deid.attestation.verify import Checked

DIR: Final = click.Path(path_type=Path)
NOT_STATED: Final = (
    "not stated: nobody has said to have no actual knowledge (45 CFR 164.514(b)(2)(ii)); "
    "`fhirloom attest state` asks"
)
LONGEST_LIST: Final = 12
"""Codes of one kind of change that a person is shown; `--json` has all."""


@click.group()
def attest() -> None:
    """Attestations of de-identification: WORK/research/attestation."""


@attest.command(epilog=EPILOG)
@click.argument("folder", metavar="DIR", type=DIR)
@click.option(
    "--key", metavar="PUBLIC.pem", type=DIR, help="The public key of who has to have signed."
)
@click.option(
    "--tables", metavar="DIR", type=DIR, help="The tables, if not beside the attestation."
)
@click.option("--require-statement", is_flag=True, help="Fail where nobody made the statement.")
@JSON
@answers
def verify(
    folder: Path, key: Path | None, tables: Path | None, require_statement: bool, as_json: bool
) -> None:
    """Check an attestation and its tables: signature, files, rows. Nothing of phi/ is needed.

    DIR is the attestation's folder, or the research/ that holds it. The key in the folder proves
    that nothing was changed since it signed; only --key proves whose signature it is.
    """
    from deid.attestation.verify import verify as check

    checked = check(folder, key=key, tables=tables)
    code = COMPLETE
    if checked.mismatches:
        code = FAILED_PROOF
    elif require_statement and checked.stated is False:
        code = UNSTATED
    if as_json:
        click.echo(json.dumps({"exit_code": code, **_facts(checked)}, indent=1))
    else:
        click.echo("\n".join(_told(checked)))
    sys.exit(code)


def _facts(checked: Checked) -> dict[str, Any]:
    return {
        "sound": not checked.mismatches,
        "origin_proven": checked.known and not checked.mismatches,
        "stated": checked.stated,
        "key": checked.key,
        "content": checked.digest,
        "files": checked.files,
        "rows": checked.rows,
        "attestation": str(checked.folder),
        "tables": str(checked.tables),
        "mismatches": list(checked.mismatches),
    }


def _told(checked: Checked) -> list[str]:
    if checked.mismatches:
        return [
            *(f"✗ {mismatch}" for mismatch in checked.mismatches),
            f"Broken: {len(checked.mismatches)} mismatches in {checked.folder}.",
        ]
    origin = (
        "Signed by the key that was given."
        if checked.known
        else "Unchanged since it was signed. By whom, only --key proves: this key stands beside it."
    )
    lines = [
        f"✓ {checked.files:,} files and {checked.rows:,} rows are those that were attested.",
        f"✓ {origin}",
        f"  key {checked.key}",
        f"  content {checked.digest}",
        f"  attestation {checked.folder}",
        f"  tables {checked.tables}",
    ]
    if checked.stated is False:
        lines.append(f"warning: {NOT_STATED}")
    return lines


@attest.command(epilog=EPILOG)
@click.option("--name", required=True, help="Who makes the statement.")
@click.option("--role", required=True, help="As what.")
@click.option("--yes", is_flag=True, help="It is so: needed where there is no terminal to ask at.")
@WORK
@JSON
@answers
def state(name: str, role: str, yes: bool, work: Path, as_json: bool) -> None:
    """State to have no actual knowledge that somebody could be identified.

    45 CFR 164.514(b)(2)(ii). It is recorded in WORK/phi for the current tables alone, and their
    attestation is issued again with it.
    """
    from deid.attestation.issue import issue
    from deid.attestation.statements import SENTENCE
    from deid.attestation.statements import state as record
    from deid.research import open_tables

    folder = open_work(work)
    with at_work(folder):
        tables = open_tables(folder.research).sealed
        if not yes:
            _ask(SENTENCE, name, role)
        said = record(folder.phi, tables.digest, name, role)
        issued = issue(tables, folder.phi)
    facts = {
        "statement": {"name": said.name, "role": said.role, "day": said.day},
        "tables": tables.digest,
        "attestation": str(issued.sealed.path),
    }
    told = f"Stated by {said.name}, {said.role}, on {said.day}.\nattestation {issued.page}"
    click.echo(json.dumps(facts, indent=1, ensure_ascii=False) if as_json else told)


def _ask(sentence: str, name: str, role: str) -> None:
    if not _at_terminal():
        raise FhirloomError(
            "bad-input",
            "The statement is a person's, and there is no terminal to ask at",
            where="attest state",
            fix="Give --yes, if whoever is named makes it.",
        )
    click.echo(f"{sentence}\n")
    if click.prompt(f"{name}, {role}: is it so? Type yes") != "yes":
        raise click.Abort


def _at_terminal() -> bool:
    return sys.stdin.isatty()


@attest.command(epilog=EPILOG)
@click.argument("before", metavar="DIR1", type=DIR)
@click.argument("after", metavar="DIR2", type=DIR)
@JSON
@answers
def diff(before: Path, after: Path, as_json: bool) -> None:
    """What changed from one attestation to another: rules, code, codes, rows, columns, proofs."""
    from deid.attestation.compare import compare

    found = compare(before, after)
    if as_json:
        click.echo(json.dumps(found, indent=1, ensure_ascii=False))
        return
    for section, changed in found.items():
        click.echo(section)
        for name, change in changed.items():
            if section == "codes":
                more = f", and {len(change) - LONGEST_LIST} more" * (len(change) > LONGEST_LIST)
                click.echo(f"  {len(change)} {name}: {', '.join(change[:LONGEST_LIST])}{more}")
            else:
                click.echo(f"  {name}: {_short(change['before'])} → {_short(change['after'])}")
    if not found:
        click.echo("Nothing changed.")


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"


@attest.command(epilog=EPILOG)
@click.option("--signing-key", metavar="REF", help="Sign with file:PATH or env:NAME from now on.")
@click.option("--out", metavar="PUBLIC.pem", type=DIR, help="Write the public key to a file.")
@WORK
@answers
def key(signing_key: str | None, out: Path | None, work: Path) -> None:
    """Show the key that signs attestations: its id, and the public half to hand out."""
    from deid.attestation import keys

    folder = open_work(work)
    with at_work(folder):
        if signing_key is not None:
            keys.use_key(folder.phi, signing_key)
        public = keys.signing_key(folder.phi).public_key()
    pem = keys.public_pem(public)
    if out is not None:
        out.write_bytes(pem)
    click.echo(f"{keys.key_id(public)}\n{pem.decode()}", nl=False)
