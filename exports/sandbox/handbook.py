"""The page of the documentation that tells what servers do, and what fhirloom does then.

It is made of the tables that the sandbox and the client act by, so it can't tell anything else:
`python -m exports.sandbox.handbook` writes it to the standard output.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any, Final

import orjson

from exports.bulk.profile import FOLDER, GENERIC, profile_names
from exports.sandbox.faults import FAULTS
from exports.sandbox.mischief.exchange import EVERYWHERE, Fault, Place

PLACES: Final[dict[Place, str]] = {
    "discovery": "Discovery",
    "token": "Tokens",
    "kick-off": "Kick-off",
    "status": "Status and manifest",
    "file": "Files",
    "end": "The end",
}
HEAD: Final = """\
# What a server may do, and what fhirloom does then

The sandbox EHR can do each of these by name (`fhirloom sandbox serve --fault NAME`, several at
once), and a test runs the client against every one: it has to end with the same records, or, where
the table says so, with a clear failure and nothing lost. This page is made from the table that the
sandbox acts by (`make docs`).
"""
VENDORS: Final = """\
## Vendors

What is known of a vendor's servers beforehand, each habit with its reason. A server is recognised
by its CapabilityStatement, or named with `--vendor`. A parameter that it rejects is left out only
with `--allow-wider`, and is then applied here, before anything is kept.
"""


def page() -> str:
    """The whole page, as Markdown."""
    return "\n".join([HEAD, *_faults(), VENDORS, *_vendors()])


def _faults() -> Iterator[str]:
    for place, title in PLACES.items():
        there = [fault for fault in FAULTS.values() if _first_place(fault) == place]
        yield f"## {title}\n"
        yield "| name | what the server does | what fhirloom does |\n|---|---|---|"
        for fault in there:
            failure = "**Clear failure.** " if fault.outcome == "clear failure" else ""
            yield f"| `{fault.name}` | {fault.what} | {failure}{fault.then} |"
        yield ""


def _first_place(fault: Fault) -> Place:
    if fault.where == EVERYWHERE:
        return "status"
    return next(place for place in PLACES if place in fault.where)


def _vendors() -> Iterator[str]:
    for name in sorted(profile_names(), key=lambda name: (name == GENERIC, name)):
        habits: dict[str, Any] = orjson.loads((FOLDER / f"{name}.json").read_bytes())
        yield f"### {habits.pop('title')} (`{name}`)\n"
        yield "| habit | is | because |\n|---|---|---|"
        for habit, known in habits.items():
            yield f"| {habit.replace('_', ' ')} | {_told(known['is'])} | {known['why']} |"
        yield ""


def _told(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_told, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"`{value}`" if isinstance(value, str) else str(value)


if __name__ == "__main__":
    sys.stdout.write(page())
