"""Declarative files read strictly: every complaint names the file, the item and the fix."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from exports.errors import FhirloomError

_UNITS: Final = {"h": 3600, "d": 86400}


@dataclass(frozen=True)
class Declaration:
    """One mapping of a declarative file, read field by field; `where` says which one it is."""

    where: str
    fields: Mapping[str, Any]

    def error(self, what: str, fix: str) -> FhirloomError:
        """A complaint about this mapping, to be raised by the caller."""
        return FhirloomError("bad-input", what, where=self.where, fix=fix)

    def only(self, *known: str) -> None:
        """Refuse fields that nobody reads: a misspelt one would be ignored in silence."""
        unknown = sorted(set(self.fields) - set(known))
        if unknown:
            raise self.error(
                f"Unknown field {unknown[0]!r}", f"The fields are: {', '.join(known)}."
            )

    def text(self, name: str) -> str:
        """A field that must be text."""
        value = self.fields.get(name)
        if not isinstance(value, str) or not value.strip():
            raise self.error(f"{name!r} must be text", "Write it, in quotes if YAML needs them.")
        return value.strip()

    def texts(self, name: str) -> tuple[str, ...]:
        """A field that must be a list of texts, at least one; sorted, without repeats."""
        value = self.fields.get(name)
        if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
            raise self.error(
                f"{name!r} must be a list of texts", "Write [A, B], in quotes if YAML needs them."
            )
        return tuple(sorted(set(value)))

    def number(self, name: str) -> float:
        """A field that must be a number."""
        value = self.fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(f"{name!r} must be a number", "Write a number, without quotes.")
        return float(value)

    def mapping(self, name: str) -> Declaration:
        """A field that must be a mapping."""
        return declaration(f"{self.where}, {name}", self.fields.get(name))

    def items(self, name: str) -> list[Any]:
        """A field that must be a list, at least one long."""
        value = self.fields.get(name)
        if not isinstance(value, list) or not value:
            raise self.error(f"{name!r} must be a list", "List at least one.")
        return value

    def seconds(self, name: str) -> int:
        """A duration in hours or days, such as `48h` or `30d`, as seconds."""
        match = re.fullmatch(r"([1-9]\d{0,5})([hd])", str(self.fields.get(name)))
        if match is None:
            raise self.error(f"{name!r} must be a duration", "Write hours or days: 48h, 30d.")
        return int(match[1]) * _UNITS[match[2]]


def declaration(where: str, value: object) -> Declaration:
    """`value` as a `Declaration`; raises `FhirloomError` where it is not a mapping of names."""
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise FhirloomError(
            "bad-input", "A mapping of names is needed", where=where, fix="Write `name: value`."
        )
    return Declaration(where, value)


def duration(seconds: int) -> str:
    """Seconds in the form that `Declaration.seconds` reads; whole hours only."""
    return f"{seconds // 86400}d" if seconds % 86400 == 0 else f"{seconds // 3600}h"


def read_declaration(path: Path) -> Declaration:
    """The mapping in a YAML file.

    Raises `FhirloomError` (bad-input) where the file is missing, or is not a YAML mapping.
    """
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise FhirloomError(
            "bad-input",
            f"The file can't be read as YAML ({type(error).__name__})",
            where=path.name,
            fix="Check that it exists and is valid YAML.",
        ) from None
    return declaration(path.name, value)
