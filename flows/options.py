"""Options that several commands share, and the settings that they make."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import fields, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from exports.errors import FhirloomError
from flows.server import FILES, ServerSettings
from flows.server_options import SERVER
from flows.settings import Settings, check

Command = TypeVar("Command", bound=Callable[..., None])

WORK: Final = click.option(
    "--work",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("work"),
    show_default=True,
    help="Where all outputs go, in phi/ and research/.",
)
JSON: Final = click.option("--json", "as_json", is_flag=True, help="Print JSON for scripts.")

SANDBOX: Final = (
    click.option("--patients", type=click.IntRange(1), help="Size of the sandbox.  [2000]"),
    click.option("--seed", type=int, help="Seed of the sandbox.  [7]"),
)
FOLDER: Final = (
    click.option("--ndjson", metavar="DIR", help="A folder of NDJSON, plain or gzip."),
    click.option("--exported-at", metavar="TIME", help="When that folder was exported."),
)
WHO: Final = (
    click.option("--keep-test-patients", is_flag=True, help="Land those marked as test data too."),
    click.option("--leave-out", metavar="FILE", help="Patients not to land, one id a line."),
    click.option(
        "--leave-out-label",
        "labels",
        multiple=True,
        metavar="LABEL",
        help="Resources not to land, by security label, or a preset: part2, restricted.",
    ),
)
SOURCE: Final = SANDBOX + FOLDER + SERVER + WHO
STUDY: Final = (
    click.option("--task", metavar="NAME|YAML", help="What to predict.  [readmission_30d]"),
    click.option("--features", metavar="NAME|YAML", help="What to predict it by.  [readmission]"),
)
POLICY: Final = (
    click.option(
        "--limited-data-set/--safe-harbor",
        "limited",
        default=None,
        help="Keep dates and ZIP codes, in phi/limited alone and under a data use agreement "
        "(45 CFR 164.514(e)); or de-identify (164.514(b)(2)).  [--safe-harbor]",
    ),
    click.option(
        "--zip3-population",
        metavar="FILE",
        help="Tell three digits of ZIP codes, by this Census table of areas and their population "
        '("" for none).',
    ),
)
NOTES_MODEL: Final = click.option(
    "--notes-model",
    metavar="FILE",
    help="Search notes with a model on this disk too: a configuration of Presidio's NLP engine.",
)
NOTES: Final = (
    click.option("--notes", is_flag=True, help="Write free text too, for review: research/notes."),
    NOTES_MODEL,
)
BELONGS: Final = {
    "server": {field.name for field in fields(ServerSettings)} | {"everything"},
    "folder": {"ndjson", "exported_at"},
    "sandbox": {"patients", "seed"},
}
FOR_ALL: Final = {
    *("task", "features", "keep_test_patients", "leave_out", "labels"),
    *("limited", "zip3_population", "notes", "notes_model"),
}
SPELLED: Final = {
    "url": "server",
    "method": "source",
    "types": "type",
    "type_filters": "type-filter",
    "patient_ids": "patient",
    "scopes": "scope",
    "file_origins": "file-origin",
}


def all_of(options: Iterable[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    """One decorator for several options, in their order."""

    def decorate(command: Command) -> Command:
        for option in reversed(tuple(options)):
            command = option(command)
        return command

    return decorate


def settings_of(given: dict[str, Any], *, study: bool = True) -> Settings:
    """The settings of a command's options; the sandbox EHR where no other source is named.

    With `study`, the task and the features are in use, and a server is asked for no more than they
    need. Raises `click.UsageError` for a mix of sources, `FhirloomError` (bad-input) for what can't
    work.
    """
    chosen = {name: value for name, value in given.items() if value not in (None, "", False, ())}
    chosen |= {"seed": 0} if given["seed"] == 0 else {}
    source = "server" if "url" in chosen else "folder" if "ndjson" in chosen else "sandbox"
    foreign = chosen.keys() - BELONGS[source] - FOR_ALL
    if foreign:
        name = min(foreign)
        option = SPELLED.get(name, name.replace("_", "-"))
        raise click.UsageError(f"--{option} does not go with patients from the {source}.")
    everything = chosen.pop("everything", False)
    chosen = with_full_paths(chosen)
    policy = policy_named(chosen.pop("limited", None))
    if source == "server":
        asked = {name: chosen.pop(name) for name in BELONGS[source] & chosen.keys()}
        minimum = not everything and (study or bool({"task", "features"} & chosen.keys()))
        chosen["server"] = ServerSettings(**asked, minimum=minimum)
    # A server has a policy of its own: what a disagreement is.
    settings = Settings(**chosen, **policy)
    check(settings)
    return settings


def policy_named(limited: bool | None) -> dict[str, Any]:
    """The setting that --limited-data-set or --safe-harbor makes; none where neither is given."""
    if limited is None:
        return {}
    return {"policy": "limited-data-set" if limited else "safe-harbor"}


def with_policy(kept: Settings, limited: bool | None, zip3_population: str | None) -> Settings:
    """The settings of a work folder with another policy, or another population file.

    A limited data set uses no such file and has no notes: what was kept of them is let go. Raises
    `FhirloomError` (bad-input) for what can't work.
    """
    chosen = policy_named(limited)
    if zip3_population == "" or (limited and zip3_population is None):
        chosen["zip3_population"] = ""
    elif zip3_population is not None:
        chosen |= with_full_paths({"zip3_population": zip3_population})
    if limited:
        chosen |= {"notes": False, "notes_model": ""}
    settings = replace(kept, **chosen)
    check(settings)
    return settings


def with_full_paths(chosen: dict[str, Any]) -> dict[str, Any]:
    """The options with paths that hold wherever a scheduled run starts."""
    paths = {*FILES, "ndjson", "leave_out", "zip3_population", "notes_model"} | {
        name for name in ("task", "features") if str(chosen.get(name, "")).endswith("yaml")
    }
    return {
        name: str(Path(value).absolute())
        if name in paths or (name == "proxy" and "://" not in value)
        else value
        for name, value in chosen.items()
    }


def wall_clock(written: str, option: str) -> datetime:
    """A time as the facility's clocks show it; an offset is left off, as it is of FHIR times.

    Raises `FhirloomError` (bad-input).
    """
    try:
        return datetime.fromisoformat(written).replace(tzinfo=None)
    except ValueError:
        raise FhirloomError(
            "bad-input",
            "That is no time",
            where=option,
            fix="Write it like 2026-01-31T14:00:00.",
        ) from None


def read_json(path: Path, option: str) -> dict[str, Any]:
    """A JSON object from a file; raises `FhirloomError` (bad-input), and never quotes it."""
    try:
        read = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        read = None
    if not isinstance(read, dict):
        raise FhirloomError(
            "bad-input",
            "There is no JSON object to read",
            where=option,
            fix="Give the path of a JSON file.",
        )
    return read
