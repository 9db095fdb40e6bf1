"""Maximal examples: resources in which every element is filled that a view could name.

They are made from the R4 elements that views may name (`fhir_r4.json`), so that places are tried
which this run's data never has. Of a choice such as `value[x]` each example holds one alternative;
together the examples of a type hold all of them. A view keeps their rows: the codes, units and
numbers are ones that may be written, the dates plausible, the patient a known one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deid.rules import Rules
from deid.sql_on_fhir import fhir_types
from deid.sql_on_fhir.fhir_types import Element
from deid.sql_on_fhir.view import Select
from deid.vocabulary import Vocabulary

Resource = dict[str, Any]

SUBJECT: Final = "example-subject"
"""The id of the patient whom all examples are about."""
BORN: Final = "1950-06-15"
DAY: Final = "2015-03-02"
MOMENT: Final = f"{DAY}T10:00:00Z"
STRANGE: Final = "https://unknown.example/extension"
"""The URL of an extension that nobody knows."""

PRIMITIVES: Final[Mapping[str, Any]] = {
    "boolean": False,
    "integer": 3,
    "positiveInt": 3,
    "unsignedInt": 3,
    "date": DAY,
    "dateTime": MOMENT,
    "instant": MOMENT,
    "time": "10:00:00",
    "base64Binary": "dGV4dA==",
    "code": "active",
}
"""A value of each kind; whatever is not named here is text."""

_REFERENCE: Final = re.compile(
    r"(\w+)(?:\.of(Type)\(Reference\)|\.first\(\)|\[\d+\])*\.getReferenceKey\((\w+)\)"
)
_URL: Final = re.compile(r"extension\('([^']+)'\)")
_EXTENSION: Final = re.compile(r"((?:extension\('[^']+'\)\.?)+)(?:value\.ofType\((\w+)\))?")


@dataclass(frozen=True)
class Filling:
    """What may be written by the rules: a code of their vocabulary, its unit, a number in range.

    `referred` tells to which type of resource an element refers, as the views have it.
    """

    system: str
    code: str
    unit: str
    number: float
    referred: Mapping[str, str]


def filling(rules: Rules, vocabulary: Vocabulary) -> Filling:
    """The code is one that measures something and may appear, if the vocabulary has any."""
    measured = sorted(rules.quantities)
    word = next((code for code in measured if code in vocabulary.codes), measured[0])
    declared = rules.quantities[word]
    short, _, code = word.partition(":")
    system = next(uri for uri, name in rules.systems.items() if name == short)
    number = round((float(declared["low"]) + float(declared["high"])) / 2, 3)
    return Filling(system, code, declared["unit"], number, referred(rules))


def referred(rules: Rules) -> dict[str, str]:
    """The elements in which views look for a key, with the type of resource that it is of."""
    return {
        element + ("Reference" if chosen else ""): kind
        for view in rules.views
        for column in view.view.columns
        for element, chosen, kind in _REFERENCE.findall(column.path)
    }


def read_extensions(rules: Rules) -> frozenset[str]:
    """The URLs of extensions that views read, those inside of others too."""
    views = (*rules.auxiliary, *rules.views)
    return frozenset(
        url for view in views for path in _paths(view.view.select) for url in _URL.findall(path)
    )


def examples(resource: str, rules: Rules, fill: Filling) -> Iterator[Resource]:
    """As many examples of a type as its widest choice has alternatives."""
    extensions = known_extensions(resource, rules)
    systems = _systems(resource, rules)
    turn, turns = 0, 1
    while turn < turns:
        maker = _Maker(fill, turn, systems)
        made = maker.complex(resource, ())
        made["resourceType"] = resource
        made["extension"] = [*made.get("extension", []), *extensions]
        yield made
        turn, turns = turn + 1, max(turns, maker.widest)


def known_extensions(resource: str, rules: Rules) -> list[dict[str, Any]]:
    """The extensions of US Core for a type, and those that the views of that type read."""
    file = Path(__file__).with_name("us_core_extensions.json")
    known: list[dict[str, Any]] = json.loads(file.read_text()).get(resource, [])
    urls = {extension["url"] for extension in known}
    for view in (*rules.auxiliary, *rules.views):
        if view.view.resource == resource:
            for calls, kind in _EXTENSION.findall(" ".join(_paths(view.view.select))):
                named = re.findall(r"'([^']+)'", calls)
                if named[0] not in urls:
                    urls.add(named[0])
                    known.append(_extension(named, kind or "string"))
    return known


def _systems(resource: str, rules: Rules) -> list[str]:
    """The systems by which the views of a type choose among codings."""
    views = [view.view for view in (*rules.auxiliary, *rules.views)]
    paths = " ".join(
        path for view in views if view.resource == resource for path in _paths(view.select)
    )
    return sorted(set(re.findall(r"system\s*=\s*'([^']+)'", paths)))


def _extension(urls: list[str], kind: str) -> dict[str, Any]:
    if len(urls) > 1:
        return {"url": urls[0], "extension": [_extension(urls[1:], kind)]}
    maker = _Maker(Filling("urn:unknown", "unknown", "1", 1.0, {}), 0, ())
    return {"url": urls[0], f"value{kind[0].upper()}{kind[1:]}": maker.value(kind, ())}


def _paths(select: Select) -> Iterator[str]:
    """The paths of a select, each after those that it is evaluated on."""
    inner = [*(column.path for column in select.columns)]
    for nested in (*select.selects, *select.union_all):
        inner += _paths(nested)
    yield from (f"{select.for_each}.{path}" if select.for_each else path for path in inner)


class _Maker:
    def __init__(self, fill: Filling, turn: int, systems: Sequence[str]) -> None:
        self.fill = fill
        self.turn = turn
        self.systems = systems
        self.widest = 1

    def complex(self, type_name: str, above: tuple[str, ...]) -> Resource:
        """Every element of a type; `above` are the types that hold it, and are not held again."""
        made: Resource = {}
        for alternatives in fhir_types.elements(type_name):
            self.widest = max(self.widest, len(alternatives))
            element = alternatives[self.turn % len(alternatives)]
            if element.type not in above:
                value = self.element(type_name, element, (*above, type_name))
                made[element.name] = [value] if element.many else value
                if element.many and element.type == "Coding":
                    made[element.name] += [{**value, "system": uri} for uri in self.systems]
        return made

    def element(self, owner: str, element: Element, above: tuple[str, ...]) -> Any:
        """What an element holds: by its name where that tells, else by its type."""
        match owner, element.name:
            case "Coding" | "Quantity" | "Age", "system":
                return self.fill.system if owner == "Coding" else "http://unitsofmeasure.org"
            case "Coding", "code":
                return self.fill.code
            case _, "code" | "unit" if element.type in ("code", "string"):
                return self.fill.unit
            case "Extension", "url":
                return STRANGE
            case "Patient", "birthDate":
                return BORN
            case "Reference", "reference":
                return "Practitioner/example-practitioner"
            case "Address", "state":
                return "Massachusetts"
        value = self.value(element.type, above)
        if element.type == "Reference" and isinstance(value, dict):
            kind = self.fill.referred.get(element.name, "")
            ids = {"Patient": SUBJECT, "": "example-practitioner"}
            value["reference"] = f"{kind or 'Practitioner'}/{ids.get(kind, f'example-{kind}')}"
        return value

    def value(self, type_name: str, above: tuple[str, ...]) -> Any:
        """A value of a type, primitive or not."""
        if fhir_types.is_complex(type_name):
            return self.complex(type_name, above)
        if type_name == "decimal":
            return self.fill.number
        return PRIMITIVES.get(type_name, "text")
