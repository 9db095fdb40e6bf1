"""The commands that keep the crosswalk: who is removed, new surrogates, another key, whom one is.

Nothing that they print names a patient: only how many, and where it stands in `phi/`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import click

from exports.errors import FhirloomError
from flows.answering import EPILOG, answers
from flows.exit_codes import COMPLETE, MEANINGS
from flows.options import JSON, WORK
from flows.work import Work, at_work, open_work

CROSSWALK_KEY: Final = click.option(
    "--crosswalk-key",
    metavar="REF",
    help="Where the crosswalk's key lies: file:/path or env:NAME; kept for later runs.  [one of "
    "WORK/phi/keys]",
)
REASON: Final = click.option("--reason", metavar="TEXT", required=True, help="Why; it is noted.")


def take_key(work: Path, reference: str | None) -> None:
    """Keep the reference of the crosswalk's key for this run and later ones, where one is given."""
    if reference:
        from deid.identity.rekeying import use_key

        folder = open_work(work)
        with at_work(folder):
            use_key(folder.phi, reference)


@click.command("remove-patient", epilog=EPILOG)
@click.argument("patients", metavar="[ID]...", nargs=-1)
@click.option(
    "--file",
    "listed",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="One id or system|value a line: what stands on a command line, others can see.",
)
@REASON
@click.option("--purge", is_flag=True, help="Remove earlier sealed folders that hold them, too.")
@click.option("--purge-landing", is_flag=True, help="--purge, and do not land them any more.")
@CROSSWALK_KEY
@WORK
@JSON
@answers
def remove_patient(
    patients: tuple[str, ...],
    listed: Path | None,
    reason: str,
    purge: bool,
    purge_landing: bool,
    crosswalk_key: str | None,
    work: Path,
    as_json: bool,
) -> None:
    """Leave patients out of all that is made from now on, under whichever of their ids.

    Their surrogates are retired. What was released before does not change: this tells which sealed
    folders hold them, and --purge removes those. Models trained on them are named, not removed.
    What was landed stays in phi/landing. Without an ID, --purge is for whoever was removed before.
    """
    with _held(work, crosswalk_key) as folder:
        from deid.identity.removal import remove_patients

        given = _patients(patients, listed)
        if not given and not (purge or purge_landing):
            raise click.UsageError("Name a patient: an ID, or --file.")
        done = remove_patients(
            folder.path, given, reason, purged=purge or purge_landing, at_landing=purge_landing
        )
    gone = "removed" if done.purged else "still there: --purge removes it"
    _tell(
        asdict(done),
        [
            f"{done.ordered} ids newly removed, of {done.removed} in all",
            *([f"{done.unknown} of those given are not known here"] if done.unknown else []),
            *(f"holds removed patients, {gone}: {place}" for place in done.holding),
            *(f"made from such, left as it is: {place}" for place in done.made_from),
            "`fhirloom deid` makes tables without them.",
        ],
        as_json,
    )


@click.command(epilog=EPILOG)
@REASON
@CROSSWALK_KEY
@WORK
@JSON
@answers
def rotate(reason: str, crosswalk_key: str | None, work: Path, as_json: bool) -> None:
    """Give every patient and encounter a new surrogate, from the next tables on.

    Two recipients of tables from before and after can't join them by surrogate. Rows still look
    alike: times, codes and numbers stay, so that whoever has both can match patients by those.
    """
    with _held(work, crosswalk_key) as folder:
        from deid.identity.rotation import rotate_surrogates

        renewed = rotate_surrogates(folder.phi, reason)
    _tell(
        {"renewed": renewed},
        [f"{renewed} surrogates renewed", "`fhirloom deid` makes tables with the new ones."],
        as_json,
    )


@click.command(epilog=EPILOG)
@click.argument("surrogates", metavar="SURROGATE...", nargs=-1, required=True)
@REASON
@click.option("--time", type=int, metavar="SECONDS", help="An offset: which moment it was.")
@click.option(
    "--out",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A new file below WORK/phi, *.json.  [one of WORK/phi/reidentified]",
)
@CROSSWALK_KEY
@WORK
@JSON
@answers
def reidentify(
    surrogates: tuple[str, ...],
    reason: str,
    time: int | None,
    out: Path | None,
    crosswalk_key: str | None,
    work: Path,
    as_json: bool,
) -> None:
    """Write whom surrogates stand for, of patients or encounters, to a file of WORK/phi.

    Each use is noted in phi/logs/reidentify.ndjson first: who, when, why and which surrogates.
    """
    with _held(work, crosswalk_key) as folder:
        from deid.identity.lookup import reidentify as look_up

        asked, place = _numbers(surrogates), _inside_phi(folder, out)
        found = look_up(folder.phi, asked, reason, out=place, time=time)
    _tell(
        {"found": found.found, "unknown": found.unknown, "path": str(found.path)},
        [f"{found.found} found, {found.unknown} unknown: {found.path}"],
        as_json,
    )


@click.command(epilog=EPILOG)
@click.option("--new-key", metavar="REF", required=True, help="file:/path or env:NAME.")
@CROSSWALK_KEY
@WORK
@JSON
@answers
def rekey(new_key: str, crosswalk_key: str | None, work: Path, as_json: bool) -> None:
    """Encrypt the crosswalk with another key, and keep that key's reference for later runs.

    Nothing has to be made again. Copies that were taken before still open with the old key.
    """
    with _held(work, None) as folder:
        from deid.identity.rekeying import rekey as encrypt_again

        done = encrypt_again(folder.phi, new_key, old=crosswalk_key)
    _tell({"encrypted": done}, [f"{done} crosswalks encrypted with the new key"], as_json)


IDENTITY: Final = (remove_patient, rotate, reidentify, rekey)


@contextmanager
def _held(work: Path, crosswalk_key: str | None) -> Iterator[Work]:
    folder = open_work(work)
    with at_work(folder):
        take_key(work, crosswalk_key)
        yield folder


def _tell(facts: dict[str, Any], lines: Sequence[str], as_json: bool) -> None:
    outcome = {"exit_code": COMPLETE, "outcome": MEANINGS[COMPLETE]}
    click.echo(json.dumps({**outcome, **facts}, indent=1) if as_json else "\n".join(lines))


def _patients(named: Sequence[str], listed: Path | None) -> frozenset[str]:
    """The patients of a command line and of a file; raises `FhirloomError` (bad-input)."""
    from exports.landing.screening import Screen, patients_listed

    in_file = Screen.of(patients_file=listed).opted_out if listed else frozenset()
    return patients_listed(named, where="ID") | in_file


def _numbers(surrogates: Sequence[str]) -> list[int]:
    if all(each.isascii() and each.isdigit() and int(each) < 2**63 for each in surrogates):
        return [int(each) for each in surrogates]
    raise FhirloomError(
        "bad-input",
        "A surrogate is a whole number, and one of those given is not",
        where="SURROGATE",
        fix="Copy it from the column `patient` or `encounter` of a research table.",
    )


def _inside_phi(work: Work, out: Path | None) -> Path | None:
    """Where the answer may be written; raises `FhirloomError` (bad-input) for any other place."""
    if out is None:
        return None
    place = out.resolve()
    inside = place.is_relative_to(work.phi.resolve()) and place.suffix == ".json"
    if inside and not place.exists():
        return place
    raise FhirloomError(
        "bad-input",
        "Who a surrogate stands for may be written to a new file of the identified zone alone",
        where="--out",
        fix=f"Name a new *.json below {work.phi}.",
    )
