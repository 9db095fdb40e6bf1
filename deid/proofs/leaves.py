"""Every place of a resource in which something could stand, and variants with a canary in one.

A canary is a word, a number or a date that stands nowhere else. Each variant has one, in one place:
in a value that is there, in a field that FHIR does not know, in an extension, known or not, in the
extension of a primitive value, in a contained resource, in the narrative.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from deid.proofs.examples import STRANGE, Resource

Steps: TypeAlias = tuple[str | int, ...]

CANARY: Final = "Qzcanary"
"""What a planted word begins with; a number follows, so that each one tells its place."""
BESIDE: Final = "+"
"""What the path of a place ends in when the canary is not in it, but beside what stands there."""
NUMBER: Final = 8675309.421
WHOLE: Final = 8675309
DATE: Final = "1951-05-17"
"""A day in the life of the examples' patient."""

LOGICAL_ID: Final = re.compile(r"(?:.*/)?([A-Z][A-Za-z]+)/[A-Za-z0-9.\-]{1,64}(?:/_history/[^/]+)?")
_DATED: Final = re.compile(r"\d{4}(-\d\d(-\d\d(T.*)?)?)?")
_SHAPES: Final = (f"{WHOLE}-7", str(WHOLE), "Q86.753", "Q8675309", "8Q67530", "Q86QZ09")
"""Codes by the forms of their systems, which only a vocabulary keeps out."""

KINDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("Base64Binary", "Boolean", "Canonical", "Code", "Date", "DateTime", "Decimal", "Id"), ""
    ),
    **dict.fromkeys(("Instant", "Integer", "Markdown", "Oid", "PositiveInt", "String", "Time"), ""),
    **dict.fromkeys(("UnsignedInt", "Uri", "Url", "Uuid"), ""),
    "Address": "text",
    "Age": "unit",
    "Annotation": "text",
    "Attachment": "data",
    "CodeableConcept": "text",
    "Coding": "code",
    "ContactDetail": "name",
    "ContactPoint": "value",
    "Contributor": "name",
    "Count": "unit",
    "DataRequirement": "type",
    "Distance": "unit",
    "Dosage": "text",
    "Duration": "unit",
    "Expression": "expression",
    "HumanName": "family",
    "Identifier": "value",
    "Meta": "source",
    "Money": "currency",
    "ParameterDefinition": "name",
    "Period": "start",
    "Quantity": "code",
    "Range": "id",
    "Ratio": "id",
    "Reference": "reference",
    "RelatedArtifact": "label",
    "SampledData": "data",
    "Signature": "data",
    "Timing": "id",
    "TriggerDefinition": "name",
    "UsageContext": "id",
}
"""Every type of an extension's value[x] (FHIR R4, Extension), and for one with elements one of
them that holds text."""


@dataclass(frozen=True)
class Place:
    """A place in a resource: `path` without positions, `steps` with them.

    `value` is what stands there; an object has its items in places of their own.
    """

    path: str
    steps: Steps
    value: Any


@dataclass(frozen=True)
class Variant:
    """A resource with a canary in one place; `content` holds it at its top level, under `top`.

    `typed` tells whether the canary has the JSON type of what it stands for.
    """

    path: str
    top: str
    content: Any
    typed: bool = True


def places(value: Any, path: str = "", steps: Steps = ()) -> Iterator[Place]:
    """Each place, an object before what is in it.

    Extensions are told apart by their URL, and codings by their system: views choose by these.
    """
    if isinstance(value, list):
        for position, item in enumerate(value):
            yield from places(item, path, (*steps, position))
        return
    if isinstance(value, dict):
        chosen = value.get("url", value.get("system") if "code" in value else None)
        path = path if chosen is None else f"{path}({chosen})"
    yield Place(path, steps, value)
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, f"{path}.{key}", (*steps, key))


class Words:
    """Canaries in order, each in one place; or one that is `fixed`, in all."""

    def __init__(self, fixed: str = "") -> None:
        self.fixed = fixed
        self.count = 0

    @property
    def next(self) -> str:
        """A word for another place."""
        self.count += 1
        return self.fixed or f"{CANARY}{self.count}"


def in_leaves(resource: Resource, tried: set[str], words: Words) -> Iterator[Variant]:
    """Variants with a canary in a value that is there, for each path that is not `tried` yet."""
    for place in places(resource):
        if isinstance(place.value, dict) or place.value is None or place.path in tried:
            continue
        if place.steps == ("resourceType",):
            continue
        tried.add(place.path)
        owner = _at(resource, place.steps[:-1])
        key = place.steps[-1]
        for value, typed in _values(place.value, key, owner, words):
            yield _variant(resource, place, value, typed=typed)
        if key == "code" and "system" in owner:
            # Without its system a code is a local one, and these may have almost any form.
            bare = {**{k: v for k, v in owner.items() if k != "system"}, "code": words.next}
            yield _variant(resource, Place(place.path, place.steps[:-1], owner), bare)


def _values(value: Any, key: str | int, owner: Any, words: Words) -> Iterator[tuple[Any, bool]]:
    """Canaries for one value, each with whether it has the value's JSON type."""
    if isinstance(value, bool):
        yield words.next, False
    elif isinstance(value, int | float):
        yield (WHOLE if isinstance(value, int) else NUMBER), True
        yield words.next, False
    else:
        yield words.next, True
        if _DATED.fullmatch(value):
            yield DATE[: len(value)] + value[len(DATE) :], True
        if key == "reference" and (named := LOGICAL_ID.fullmatch(value)):
            yield f"{named[1]}/{words.next}", True
        if key == "code" and isinstance(owner, dict) and "system" in owner:
            for shape in _SHAPES:
                yield shape, True


def beside_leaves(resource: Resource, tried: set[str], words: Words) -> Iterator[Variant]:
    """Variants with a canary beside what is there, for each path that is not `tried` yet.

    An object gains a field and an extension that nobody knows; a primitive value an extension
    (FHIR R4 JSON: `_given` beside `given`).
    """
    for place in places(resource):
        if not place.steps or place.steps == ("resourceType",) or place.path + BESIDE in tried:
            continue
        tried.add(place.path + BESIDE)
        strange = {"url": STRANGE, "valueString": words.next}
        if isinstance(place.value, dict):
            extensions = [*_listed(place.value.get("extension")), strange]
            for extra in ({"unknownField": words.next}, {"extension": extensions}):
                yield _variant(resource, place, {**place.value, **extra})
        elif isinstance(place.steps[-1], int):
            yield _beside(resource, place.path, place.steps[:-1], [{"extension": [strange]}])
        else:
            yield _beside(resource, place.path, place.steps, {"extension": [strange]})


def _beside(resource: Resource, path: str, steps: Steps, told: Any) -> Variant:
    key = f"_{steps[-1]}"
    if len(steps) == 1:
        return Variant(path, key, told)
    owner = Place(path, steps[:-1], _at(resource, steps[:-1]))
    return _variant(resource, owner, {**owner.value, key: told})


def at_root(resource: Resource, words: Words) -> Iterator[Variant]:
    """What any resource may have: extensions of every kind, contained ones, narrative, labels."""
    known = [item.get("url") for item in _listed(resource.get("extension"))]
    for url in dict.fromkeys([STRANGE, *filter(None, known)]):
        for kind, inside in KINDS.items():
            added = {"url": url, f"value{kind}": _of_kind(kind, inside, words)}
            yield Variant(f".extension({url}).value{kind}", "extension", [added])
    strange = {"url": STRANGE, "valueString": words.next}
    yield Variant(".modifierExtension", "modifierExtension", [strange])
    yield Variant(".unknownField", "unknownField", words.next)
    yield Variant(".implicitRules", "implicitRules", words.next)
    yield Variant(".language", "language", words.next)
    div = f'<div xmlns="http://www.w3.org/1999/xhtml">{words.next}</div>'
    yield Variant(".text.div", "text", {"status": "generated", "div": div})
    for kind in ("Patient", "Practitioner", "Medication", resource["resourceType"]):
        named: Resource = {"resourceType": kind, "id": "1", "name": [{"family": words.next}]}
        yield Variant(f".contained({kind}).name", "contained", [named])
        keyed: Resource = {"resourceType": kind, "id": words.next}
        yield Variant(f".contained({kind}).id", "contained", [keyed])
    meta = resource.get("meta", {})
    for key in ("tag", "security"):
        for part in ("system", "code", "display"):
            label: dict[str, Any] = {key: [{part: words.next}]}
            yield Variant(f".meta.{key}.{part}", "meta", {**meta, **label})
    for key in ("profile", "source", "versionId"):
        label = {key: [words.next] if key == "profile" else words.next}
        yield Variant(f".meta.{key}", "meta", {**meta, **label})


def _of_kind(kind: str, inside: str, words: Words) -> Any:
    match kind:
        case "Decimal":
            return NUMBER
        case "Integer" | "PositiveInt" | "UnsignedInt":
            return WHOLE
        case "Date" | "DateTime" | "Instant":
            return DATE
    return {inside: words.next} if inside else words.next


def _variant(resource: Resource, place: Place, value: Any, *, typed: bool = True) -> Variant:
    """The variant that has `value` in that place."""
    top = str(place.steps[0])
    return Variant(place.path, top, _with(resource[top], place.steps[1:], value), typed)


def _with(value: Any, steps: Steps, new: Any) -> Any:
    """A copy of `value` that has `new` at the end of the steps; what lies beside them is shared."""
    if not steps:
        return new
    copy = value.copy()
    copy[steps[0]] = _with(value[steps[0]], steps[1:], new)
    return copy


def _at(value: Any, steps: Steps) -> Any:
    for step in steps:
        value = value[step]
    return value


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
