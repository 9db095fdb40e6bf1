"""Every identifier of the input: found by a list of leaves that knows nothing of the views.

The list is `identifiers.json`. A leaf is matched by the last keys on its path, so an address is
one wherever it stands. Full dates are identifiers by their form (45 CFR 164.514(b)(2)(i)(C)).
"""

from __future__ import annotations

import gzip
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

import orjson

from exports.landing import LandingZone
from exports.progress import Progress, silent

SHORTEST: Final = 4
"""Characters; shorter values identify nobody by themselves and stand in every text."""
SHORTEST_NUMBER: Final = 6
"""Digits of the identifiers that numeric columns are held against."""

_DATE: Final = re.compile(r"\d{4}-\d{2}(-\d{2})?(T|$)")
_NOT_DIGITS: Final = re.compile(r"\D+")
_TOKEN: Final = re.compile(r"[^\W_]+")
_DEEPEST: Final = 3


@dataclass(frozen=True, slots=True)
class Identifier:
    """One value: whose it is (empty: nobody's in particular), its class A to R, and the value."""

    patient_id: str
    letter: str
    value: str


@lru_cache(2**16)
def normal(text: str) -> str:
    """The form in which strings are compared: NFKC, case folded, tokens joined by one space."""
    return " ".join(_TOKEN.findall(unicodedata.normalize("NFKC", text).casefold()))


def digits(text: str) -> str:
    """The digits of a value, which is how numbers are compared."""
    return _NOT_DIGITS.sub("", text)


def identifiers(landing: LandingZone, *, progress: Progress = silent) -> Iterator[Identifier]:
    """Every identifier in a landing zone, in the order of its files; repeats included."""
    paths = [path for kind in sorted(landing.rows()) for path in landing.paths(kind)]
    for done, path in enumerate(paths):
        progress(done, len(paths), "files")
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for line in file:
                if line.strip():
                    yield from of_resource(orjson.loads(line))
    progress(len(paths), len(paths), "files")


def of_resource(resource: dict[str, Any]) -> list[Identifier]:
    """The identifiers of one resource."""
    patient_id = _subject(resource)
    leaves: list[tuple[str, str]] = []
    _collect(resource, (), leaves)
    return [Identifier(patient_id, letter, value) for letter, value in leaves]


def _subject(resource: dict[str, Any]) -> str:
    if resource["resourceType"] == "Patient":
        return str(resource["id"])
    for key in ("subject", "patient", "beneficiary"):
        reference = resource.get(key)
        if isinstance(reference, dict) and "/" in str(reference.get("reference", "")):
            return str(reference["reference"]).rsplit("Patient/", 1)[-1].split("/")[0]
    return ""


@cache
def _rules() -> tuple[dict[tuple[str, ...], str], frozenset[str], frozenset[str]]:
    read = json.loads((Path(__file__).parent / "identifiers.json").read_text())
    leaves = {tuple(reversed(path.split("."))): letter for path, letter in read["leaves"].items()}
    last_keys = frozenset(path[0] for path in leaves)
    return leaves, last_keys, frozenset(read["not_identifiers"])


def _collect(node: dict[str, Any], path: tuple[str, ...], leaves: list[tuple[str, str]]) -> None:
    """Add (class, value) of the leaves below `node`; `path` holds its keys, the last one first."""
    _, last_keys, spared = _rules()
    if "url" in node and str(node["url"]).rsplit("/", 1)[-1] in spared:
        return
    for key, child in node.items():
        for item in child if isinstance(child, list) else (child,):
            if isinstance(item, dict):
                _collect(item, (key, *path[: _DEEPEST - 2]), leaves)
            elif isinstance(item, str) and len(item) >= SHORTEST:
                if key in last_keys and (letter := _letter((key, *path))):
                    value = item.rsplit("/", 1)[-1] if key == "reference" else item
                    leaves.append((letter, value))
                elif item[0] in "12" and _DATE.match(item):
                    leaves.append(("C", item[:10]))


@cache
def _letter(path: tuple[str, ...]) -> str:
    leaves, _, spared = _rules()
    if ".".join(reversed(path[:2])) in spared:
        return ""
    return next((leaves[path[:n]] for n in range(len(path), 0, -1) if path[:n] in leaves), "")
