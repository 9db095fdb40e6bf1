"""Options that several commands share, and the settings that they make."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import fields
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
BELONGS: Final = {
    "server": {field.name for field in fields(ServerSettings)} | {"everything"},
    "folder": {"ndjson", "exported_at"},
    "sandbox": {"patients", "seed"},
}
FOR_ALL: Final = {"task", "features", "keep_test_patients", "leave_out", "labels"}
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
    if source == "server":
        asked = {name: chosen.pop(name) for name in BELONGS[source] & chosen.keys()}
        minimum = not everything and (study or bool({"task", "features"} & chosen.keys()))
        chosen["server"] = ServerSettings(**asked, minimum=minimum)
    settings = Settings(**chosen)
    check(settings)
    return settings


def with_full_paths(chosen: dict[str, Any]) -> dict[str, Any]:
    """The options with paths that hold wherever a scheduled run starts."""
    paths = {*FILES, "ndjson", "leave_out"} | {
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
    except (OSError, ValueError):
        read = None
    if not isinstance(read, dict):
        raise FhirloomError(
            "bad-input",
            "There is no JSON object to read",
            where=option,
            fix="Give the path of a JSON file.",
        )
    return read
