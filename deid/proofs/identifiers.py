"""Every identifier of the input: found by a list of leaves that knows nothing of the views.

The list is `identifiers.json`. A leaf is matched by the last keys on its path, so an address is
one wherever it stands; below an extension every leaf is one, and so is every text that no list
there bounds by a code. Of free text each capitalised word is, and whatever is written like a
number, a telephone or a date. Full dates are identifiers by their form (45 CFR
164.514(b)(2)(i)(C)).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, Final

from exports import references

SHORTEST: Final = 4
"""Characters; shorter values identify nobody by themselves and stand in every text."""
SHORTEST_NUMBER: Final = 6
"""Digits of the identifiers that numeric columns are held against."""

_DATE: Final = re.compile(r"\d{4}-\d{2}(-\d{2})?(T|$)")
_NOT_DIGITS: Final = re.compile(r"\D+")
_TOKEN: Final = re.compile(r"[^\W_]+")
_WORD: Final = re.compile(r"[^\W\d_]{4,}")
_WRITTEN: Final = re.compile(
    r"(?<![^\W_])(?:"
    r"\+?(?:1[ .-])?\(?\d{3}\)?[ .-]?\d{3}[ .-]\d{4}"  # telephone and fax
    r"|\d{1,2}(?:st|nd|rd|th)?\.? [A-Z][a-z]{2,8}\.?,? \d{4}"  # 31 January 2024
    r"|[A-Z][a-z]{2,8}\.? \d{1,2}(?:st|nd|rd|th)?,? \d{4}"  # January 31st, 2024
    r"|(?=[A-Z\d]*\d)[A-Z\d]{2,4}[ -](?=[A-Z\d]*\d)[A-Z\d]{2,4}"  # plates
    r")(?![^\W_])"
)
"""What a text writes with blanks inside."""
_CHUNK: Final = re.compile(r"[^\s,;()<>]*[\d@/][^\s,;()<>]*")
_REFERENCE: Final = re.compile(r"([A-Za-z0-9.-]+)(?:/_history/[^/]+)?$")
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


def of_resource(resource: dict[str, Any]) -> list[Identifier]:
    """The identifiers of one resource; the telling words of its free texts are nobody's own."""
    patient_id = _subject(resource)
    found = _Found([], [])
    _collect(resource, (), found, inside=False)
    words = {word for text in found.texts for word in _telling_words(text)}
    return [
        *(Identifier(patient_id, letter, value) for letter, value in found.leaves),
        *(Identifier("", "R", word) for word in sorted(words)),
    ]


def _telling_words(text: str) -> Iterator[str]:
    """Of free text, the words that may identify: capitalised ones, numbers, addresses."""
    yield from (word for word in _WORD.findall(text) if word[0].isupper())
    for chunk in _CHUNK.findall(text):
        told = chunk.strip(".:'\"")
        if len(told) >= SHORTEST:
            yield told
    yield from _WRITTEN.findall(text)


def _subject(resource: dict[str, Any]) -> str:
    if resource["resourceType"] == "Patient":
        return references.key(str(resource["id"]))
    for element in ("subject", "patient", "beneficiary"):
        reference = resource.get(element)
        named = reference.get("reference") if isinstance(reference, dict) else None
        if patient_id := references.referenced(named, "Patient"):
            return patient_id
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
    coded: frozenset[str]
    not_identifiers: frozenset[tuple[str, ...]]


@cache
def _list() -> _List:
    read = json.loads((Path(__file__).parent / "identifiers.json").read_text())

    def turned(path: str) -> tuple[str, ...]:
        return tuple(reversed(path.split(".")))

    return _List(
        {turned(path): letter for path, letter in read["leaves"].items()},
        frozenset(read["free_text"]),
        frozenset(read["coded"]),
        frozenset(turned(path) for path in read["not_identifiers"]),
    )


def _collect(node: dict[str, Any], path: tuple[str, ...], found: _Found, *, inside: bool) -> None:
    """Add what stands below `node`: `path` holds its keys, the last one first.

    `inside` an extension every leaf counts but its own name and the names of code systems.
    """
    waiting = [(node, path, inside)]
    while waiting:  # objects may nest more deeply than calls
        node, path, inside = waiting.pop()
        for key, child in node.items():
            extended = inside or key.endswith("xtension")
            for item in _flat(child):
                if isinstance(item, dict):
                    waiting.append((item, (key, *path[: _DEEPEST - 2]), extended))
                elif item is None or isinstance(item, (bool, float)):
                    continue
                else:
                    _leaf(item, (key, *path), found, inside=inside)


def _flat(child: Any) -> Iterator[Any]:
    waiting = [child]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting += reversed(item)
        else:
            yield item


def _leaf(leaf: str | int, path: tuple[str, ...], found: _Found, *, inside: bool) -> None:
    value, listed = str(leaf), _list()
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
    elif isinstance(leaf, str) and not _bounded(path):
        found.leaves.append(("R", value))
    if path[0] in listed.free_text and path[:2] not in listed.not_identifiers:
        found.texts.append(_decoded(value) if path[0] == "data" else value)


def _bounded(path: tuple[str, ...]) -> bool:
    """Whether a text is a code, a moment or free text: no identifier as a whole."""
    listed = _list()
    return (
        path[0] in listed.coded
        or path[0] in listed.free_text
        or path[0].endswith(("Date", "DateTime"))
        or path[:2] in listed.not_identifiers
    )


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
