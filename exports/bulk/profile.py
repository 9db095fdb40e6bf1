"""What is known of a vendor's server beforehand: its habits, as data, each with its reason.

A profile is `exports/profiles/<name>.json`; a habit that it doesn't mention is that of `generic`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec

from exports.bulk.capability import Capability
from exports.errors import FhirloomError
from exports.request import ExportRequest, Level

FOLDER: Final = Path(__file__).parent / "profiles"
GENERIC: Final = "generic"

Parameter = Literal[
    "_type",
    "_since",
    "_until",
    "_typeFilter",
    "_elements",
    "patient",
    "includeAssociatedData",
    "organizeOutputBy",
    "allowPartialManifests",
]
Lists = Literal["comma", "repeat"]
Habit = TypeVar("Habit")


class _Known(msgspec.Struct, Generic[Habit], forbid_unknown_fields=True, frozen=True):
    value: Habit = msgspec.field(name="is")
    why: str


class _File(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    title: str
    known_by: _Known[tuple[str, ...]]
    levels: _Known[tuple[Level, ...]]
    rejects: _Known[frozenset[Parameter]]
    ignores: _Known[frozenset[Parameter]]
    lists: _Known[Lists]
    filters: _Known[Lists]
    filter_commas: _Known[Literal["plain", "percent"]]
    kick_off: _Known[Literal["GET", "POST"]]
    scopes: _Known[Literal["wildcard", "per-type"]]
    scope_version: _Known[Literal["v1", "v2", "offered"]]
    poll_seconds: _Known[tuple[float, float]]
    fixed_retry_after: _Known[bool]
    one_job: _Known[bool]
    deletes: _Known[bool]
    zoneless_is_utc: _Known[bool]


@dataclass(frozen=True)
class Profile:
    """The habits of one vendor's servers.

    `levels` can be exported. A parameter in `rejects` fails the kick-off, one in `ignores` changes
    nothing. `lists` (`_type`, `_elements`) and `filters` (`_typeFilter`) are told with commas or by
    repetition, commas within a filter as they are or as `%2C`. `poll_seconds` bound the pause
    between two polls; `fixed_retry_after`: the one that is asked for may be the same however little
    is left to do. `scopes` are asked for as a wildcard or for each type. `one_job`: a client
    has one job at a time. `deletes`: a job is to be deleted once its files are safe.
    `zoneless_is_utc`: a `transactionTime` without zone is one in UTC.
    """

    name: str
    title: str
    known_by: tuple[str, ...]
    levels: tuple[Level, ...]
    rejects: frozenset[Parameter]
    ignores: frozenset[Parameter]
    lists: Lists
    filters: Lists
    filter_commas: Literal["plain", "percent"]
    kick_off: Literal["GET", "POST"]
    scopes: Literal["wildcard", "per-type"]
    scope_version: Literal["v1", "v2", "offered"]
    poll_seconds: tuple[float, float]
    fixed_retry_after: bool
    one_job: bool
    deletes: bool
    zoneless_is_utc: bool

    @property
    def scope_style(self) -> str:
        """How scopes are asked for, in the words of `exports.connection.scopes.propose`."""
        return (
            self.scopes
            if self.scope_version == "offered"
            else f"{self.scopes} {self.scope_version}"
        )

    def check(self, request: ExportRequest) -> None:
        """Raises `FhirloomError` (bad-input) for a level that the vendor doesn't offer."""
        if request.level not in self.levels:
            raise FhirloomError(
                "bad-input",
                f"{self.title} has no {request.level} export, only {' and '.join(self.levels)}",
                where="level",
                fix="Ask for a level that it has, or name another vendor profile.",
            )


def profile_names() -> tuple[str, ...]:
    """The profiles that there are."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.json")))


@cache
def load_profile(name: str) -> Profile:
    """The profile of that name. Raises `FhirloomError` (bad-input) where there is none."""
    if name not in profile_names():
        raise FhirloomError(
            "bad-input",
            f"There is no vendor profile {name}" if name.isidentifier() else "No such profile",
            where="vendor",
            fix=f"There are: {', '.join(profile_names())}.",
        )
    return read_profile(name, (FOLDER / f"{name}.json").read_bytes())


def read_profile(name: str, content: bytes) -> Profile:
    """The profile in a file's content. Raises `FhirloomError` (bad-input) for a field unknown."""
    generic = msgspec.json.decode((FOLDER / f"{GENERIC}.json").read_bytes(), type=dict[str, Any])
    try:
        own = msgspec.json.decode(content, type=dict[str, Any])
        habits = msgspec.convert({**generic, "known_by": None, "title": None, **own}, _File)
    except msgspec.MsgspecError as wrong:
        raise FhirloomError(
            "bad-input",
            f"A vendor profile can't be read: {wrong}",
            where=name,
            fix="Write it like exports/profiles/generic.json.",
        ) from None
    return Profile(
        name=name,
        title=habits.title,
        known_by=habits.known_by.value,
        levels=habits.levels.value,
        rejects=habits.rejects.value,
        ignores=habits.ignores.value,
        lists=habits.lists.value,
        filters=habits.filters.value,
        filter_commas=habits.filter_commas.value,
        kick_off=habits.kick_off.value,
        scopes=habits.scopes.value,
        scope_version=habits.scope_version.value,
        poll_seconds=habits.poll_seconds.value,
        fixed_retry_after=habits.fixed_retry_after.value,
        one_job=habits.one_job.value,
        deletes=habits.deletes.value,
        zoneless_is_utc=habits.zoneless_is_utc.value,
    )


def profile_for(capability: Capability, override: str = "") -> Profile:
    """The profile of the server behind `capability`, or the one that `override` names."""
    if override:
        return load_profile(override)
    profiles = map(load_profile, profile_names())
    return next(
        (profile for profile in profiles if _recognises(profile, capability.identity)),
        load_profile(GENERIC),
    )


def _recognises(profile: Profile, identity: str) -> bool:
    return any(re.search(rf"\b{re.escape(word)}\b", identity) for word in profile.known_by)
