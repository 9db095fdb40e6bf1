"""Every identifier of the input: found by a list of leaves that knows nothing of the views.

The list is `identifiers.json`. A leaf is matched by the last keys on its path, so an address is
one wherever it stands; below an extension every leaf is one. Of free text each capitalised word
is. Full dates are identifiers by their form (45 CFR 164.514(b)(2)(i)(C)).
"""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

from exports.landing.ndjson import load
from exports.landing.zone import LandingZone
from exports.progress import Progress, silent

SHORTEST: Final = 4
"""Characters; shorter values identify nobody by themselves and stand in every text."""
SHORTEST_NUMBER: Final = 6
"""Digits of the identifiers that numeric columns are held against."""

_DATE: Final = re.compile(r"\d{4}-\d{2}(-\d{2})?(T|$)")
_NOT_DIGITS: Final = re.compile(r"\D+")
_TOKEN: Final = re.compile(r"[^\W_]+")
_WORD: Final = re.compile(r"[^\W\d_]{4,}")
_CHUNK: Final = re.compile(r"[^\s,;()<>]*[\d@/][^\s,;()<>]*")
_REFERENCE: Final = re.compile(r"([A-Za-z0-9.-]{1,64})(?:/_history/[^/]+)?$")
_DEEPEST: Final = 3


@dataclass(frozen=True, slots=True)
class Identifier:
    """One value: whose it is (empty: nobody's in particular), its class A to R, and the value."""

    patient_id: str
    letter: str
    value: str


@lru_cache(2**16)
def normal(text: str) -> str:
    """The form in which strings are compared: NFKC, case folded, tokens joined by one space.

    Characters that are not seen (Unicode category Cf) are left out before.
    """
    seen = (
        "".join(c for c in text if unicodedata.category(c) != "Cf") if not text.isascii() else text
    )
    return " ".join(_TOKEN.findall(unicodedata.normalize("NFKC", seen).casefold()))


def digits(text: str) -> str:
    """The digits of a value without leading zeros, which is how numbers are compared."""
    return _NOT_DIGITS.sub("", text).lstrip("0")


def identifiers(landing: LandingZone, *, progress: Progress = silent) -> Iterator[Identifier]:
    """Every identifier in a landing zone, in the order of its files.

    Values repeat as they do in the input; words of free text come once.
    """
    paths = [path for kind in sorted(landing.rows()) for path in landing.paths(kind)]
    words: set[str] = set()
    for done, path in enumerate(paths):
        progress(done, len(paths), "files")
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for line in file:
                if line.strip():
                    yield from of_resource(load(line), words)
    progress(len(paths), len(paths), "files")


def of_resource(resource: dict[str, Any], words: set[str] | None = None) -> list[Identifier]:
    """The identifiers of one resource; `words` of free text that are known are passed over."""
    patient_id = _subject(resource)
    found = _Found([], [])
    _collect(resource, (), found, inside=False)
    identified = [Identifier(patient_id, letter, value) for letter, value in found.leaves]
    known = set() if words is None else words
    for text in found.texts:
        for word in _telling_words(text):
            if word not in known:
                known.add(word)
                identified.append(Identifier("", "R", word))
    return identified


def _telling_words(text: str) -> Iterator[str]:
    """Of free text, the words that may identify: capitalised ones, numbers, addresses."""
    yield from (word for word in _WORD.findall(text) if word[0].isupper())
    for chunk in _CHUNK.findall(text):
        told = chunk.strip(".:'\"")
        if len(told) >= SHORTEST:
            yield told


def _subject(resource: dict[str, Any]) -> str:
    if resource["resourceType"] == "Patient":
        return str(resource["id"])
    for key in ("subject", "patient", "beneficiary"):
        reference = resource.get(key)
        if isinstance(reference, dict) and "Patient/" in str(reference.get("reference", "")):
            return str(reference["reference"]).rsplit("Patient/", 1)[-1].split("/")[0]
    return ""


@dataclass(frozen=True)
class _Found:
    """Leaves as (class, value), and free texts."""

    leaves: list[tuple[str, str]]
    texts: list[str]


@dataclass(frozen=True)
class _List:
    """`identifiers.json`, its paths turned round: the last key first."""

    leaves: dict[tuple[str, ...], str]
    free_text: frozenset[str]
    not_identifiers: frozenset[tuple[str, ...]]


@cache
def _list() -> _List:
    read = json.loads((Path(__file__).parent / "identifiers.json").read_text())

    def turned(path: str) -> tuple[str, ...]:
        return tuple(reversed(path.split(".")))

    return _List(
        {turned(path): letter for path, letter in read["leaves"].items()},
        frozenset(read["free_text"]),
        frozenset(turned(path) for path in read["not_identifiers"]),
    )


def _collect(node: dict[str, Any], path: tuple[str, ...], found: _Found, *, inside: bool) -> None:
    """Add what stands below `node`: `path` holds its keys, the last one first.

    `inside` an extension every leaf counts but its own name and the names of code systems.
    """
    for key, child in node.items():
        extended = inside or key == "extension"
        for item in child if isinstance(child, list) else (child,):
            if isinstance(item, dict):
                _collect(item, (key, *path[: _DEEPEST - 2]), found, inside=extended)
            elif item is None or isinstance(item, (bool, float)):
                continue
            else:
                _leaf(str(item), (key, *path), found, inside=inside)


def _leaf(value: str, path: tuple[str, ...], found: _Found, *, inside: bool) -> None:
    if len(value) < SHORTEST:
        return
    letter = "R" if inside and path[0] not in ("url", "system") else _letter(path)
    if letter and path[0] == "reference":
        match = _REFERENCE.search(value)
        found.leaves.append((letter, match[1] if match else value))
    elif letter:
        found.leaves.append((letter, value))
    elif value[0] in "12" and _DATE.match(value):
        found.leaves.append(("C", value[:10]))
    if path[0] in _list().free_text:
        found.texts.append(_decoded(value) if path[0] == "data" else value)


def _decoded(data: str) -> str:
    try:
        return base64.b64decode(data).decode(errors="replace")
    except (binascii.Error, ValueError):
        return ""


@cache
def _letter(path: tuple[str, ...]) -> str:
    listed = _list()
    if path[:2] in listed.not_identifiers:
        return ""
    if path[0] == "value" and len(path) > 1 and path[1].endswith("dentifier"):
        return "R"
    heads = (path[:length] for length in range(len(path), 0, -1))
    return next((listed.leaves[head] for head in heads if head in listed.leaves), "")
