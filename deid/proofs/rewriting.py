"""Rewriting a resource in everything that must not matter to the output.

What FHIR types as text, as an id, or as a URL is replaced, wherever a view could read it; what no
view can name is replaced whole. References follow their ids, and change their form. Dates move by
whole days, and are told in another zone: offsets are of the facility's wall clock. Codes, units,
numbers, states and the extensions that the views read stay as they are.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from functools import cache
from typing import Any, Final
from uuid import UUID

from deid.proofs.examples import Resource
from deid.sql_on_fhir import fhir_types
from deid.sql_on_fhir.fhir_types import Element

DATES: Final = frozenset({"date", "dateTime", "instant"})
MEANT: Final = frozenset(
    {
        ("Coding", "system"),
        ("Quantity", "system"),
        ("Quantity", "unit"),
        ("Age", "system"),
        ("Age", "unit"),
        ("Extension", "url"),
        ("Address", "state"),
    }
)
"""Text and URLs by type and element that say something clinical, or what may be said: they stay."""
ZONES: Final = ("Z", "+05:30", "-08:00", "+01:00")
SERVERS: Final = ("", "https://other.example/fhir/", "http://10.0.0.1:8080/r4/")

_ZIP: Final = re.compile(r"[0-9]{5}(?:[- ]?[0-9]{4})?")
_RESOLVABLE: Final = re.compile(r"[A-Za-z0-9.\-]{1,64}")
_POINTED: Final = re.compile(r"(?:[a-z]+://\S*/)?([A-Z][A-Za-z]+)/([^/\s?]+)(?:/_history/[^/]+)?")
_ZONED: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(\.\d+)?(?:Z|[+-]\d\d:\d\d)")


@dataclass
class Rewriting:
    """One way of rewriting, told by its `seed`; `known` are the URLs of extensions that views read.

    `digits` are the leading ones of a ZIP code that stay, and `dated` tells that dates do.
    `done` counts what was rewritten, by kind.
    """

    seed: str
    known: frozenset[str]
    digits: int = 0
    dated: bool = False
    done: Counter[str] = field(default_factory=Counter)

    def id(self, old: str) -> str:
        """The new id, everywhere the same; one that no reference can resolve stays one of those."""
        self.done["ids"] += 1
        new = str(UUID(bytes=self._digest("id", old)[:16]))
        return new if _RESOLVABLE.fullmatch(old) else f"{new}_"

    def resource(self, resource: Mapping[str, Any], days: int) -> Resource:
        """The resource rewritten; its dates move by `days`, and its fields change their order."""
        kind = str(resource.get("resourceType"))
        inside = {key: value for key, value in resource.items() if key != "resourceType"}
        return {**self._complex(kind, inside, days), "resourceType": kind}

    def _digest(self, *parts: str) -> bytes:
        return hashlib.sha256("\0".join((self.seed, *parts)).encode()).digest()

    def _pick(self, options: Sequence[str], old: str) -> str:
        return options[self._digest("pick", old)[0] % len(options)]

    def _word(self, old: str) -> str:
        self.done["texts"] += 1
        return f"W{self._digest('word', old).hex()[:10]}"

    def _complex(self, kind: str, value: Mapping[str, Any], days: int) -> Resource:
        elements = _elements(kind)
        made: Resource = {}
        for key, item in reversed(list(value.items())):
            if key == "contained" and isinstance(item, list):
                made[key] = [self._contained(inside, days) for inside in item]
            elif key in elements:
                items = item if isinstance(item, list) else [item]
                rewritten = [self._element(kind, elements[key], each, days) for each in items]
                made[key] = rewritten if isinstance(item, list) else rewritten[0]
            elif key == "id":  # of a contained resource that no view reads, or of an element
                made[key] = self.id(item) if isinstance(item, str) else item
            else:
                made[key] = self._strange(item)
        return made

    def _contained(self, resource: Any, days: int) -> Any:
        if isinstance(resource, dict):
            return self.resource(resource, days)
        return self._strange(resource)

    def _element(self, owner: str, element: Element, value: Any, days: int) -> Any:
        if isinstance(value, dict):
            if element.type == "Extension" and value.get("url") not in self.known:
                self.done["unknown extensions"] += 1
                return self._strange(value)
            return self._complex(element.type, value, days)
        if not isinstance(value, str) or (owner, element.name) in MEANT or element.type == "code":
            return value
        match owner, element.name:
            case _, "id":
                return self.id(value)
            case "Meta", "lastUpdated":
                return shifted(value, days)
            case "Reference", "reference":
                return self._reference(value)
            case "Address", "postalCode" if self.digits and _ZIP.fullmatch(value.strip()):
                return self._zip(value.strip())
            case "Address", "country" if self.digits:
                return value
        if element.type in DATES:
            return value if self.dated else self._moment(value, days)
        return self._word(value)

    def _zip(self, old: str) -> str:
        self.done["ZIP codes"] += 1
        number = f"{int.from_bytes(self._digest('ZIP', old)) % 10**9:09d}"
        return f"{old[: self.digits]}{number[self.digits : 5]}-{number[5:]}"

    def _reference(self, old: str) -> str:
        self.done["references"] += 1
        if old.startswith("#"):
            return f"#{self.id(old[1:])}"
        if old.startswith("urn:uuid:"):
            return f"urn:uuid:{self.id(old.removeprefix('urn:uuid:'))}"
        if pointed := _POINTED.fullmatch(old):
            version = self._pick(("", "", "/_history/7"), old)
            return f"{self._pick(SERVERS, old)}{pointed[1]}/{self.id(pointed[2])}{version}"
        return self._word(old)

    def _moment(self, old: str, days: int) -> str:
        self.done["dates"] += 1
        new = shifted(old, days)
        if zoned := _ZONED.fullmatch(new):
            return f"{zoned[1]}{zoned[2] or ''}{self._pick(ZONES, old)}"
        return new

    def _strange(self, value: Any) -> Any:
        """What no view can name: other words, other numbers, the opposite."""
        match value:
            case dict():
                return {self._key(key): self._strange(item) for key, item in value.items()}
            case list():
                return [self._strange(item) for item in value]
            case str():
                return self._word(value)
            case bool():
                return not value
            case int() | float():
                return value + 1
        return value

    def _key(self, key: str) -> str:
        return key if key in ("url", "extension") or key.startswith("value") else f"{key}X"


def shifted(written: str, days: int) -> str:
    """A date or time of FHIR with its day moved; one without a day, or out of range, as it is."""
    try:
        day = date.fromisoformat(written[:10]) + timedelta(days)
    except (ValueError, OverflowError):
        return written
    return day.isoformat() + written[10:]


def moments(kind: str, value: Mapping[str, Any]) -> list[str]:
    """Every date and time of a resource that a view could read, but when it was last updated."""
    found: list[str] = []
    elements = _elements(kind)
    for key, item in value.items():
        for each in item if isinstance(item, list) else [item]:
            if key in elements and isinstance(each, dict):
                found += moments(elements[key].type, each)
            elif key in elements and elements[key].type in DATES and isinstance(each, str):
                found += [each] if (kind, key) != ("Meta", "lastUpdated") else []
    return found


@cache
def _elements(kind: str) -> Mapping[str, Element]:
    return {
        element.name: element
        for alternatives in fhir_types.elements(kind)
        for element in alternatives
    }
