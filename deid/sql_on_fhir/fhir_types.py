"""The FHIR R4 elements that views may name: each type's elements, their types, which repeat.

From the R4 StructureDefinitions (hl7.org/fhir/R4), for the resources that have a research view.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

SQL_TYPES: Final = {
    "boolean": "BOOLEAN",
    "decimal": "DOUBLE",
    "integer": "BIGINT",
    "positiveInt": "BIGINT",
    "unsignedInt": "BIGINT",
}
"""DuckDB types of FHIR primitives; every other primitive is text."""


@dataclass(frozen=True)
class Element:
    """One element: its JSON name, the name of its type, and whether it repeats."""

    name: str
    type: str
    many: bool


@cache
def _types() -> dict[str, dict[str, str]]:
    types: dict[str, dict[str, str]] = json.loads(
        (Path(__file__).parent / "fhir_r4.json").read_text()
    )
    return types


def is_resource(type_name: str) -> bool:
    """Whether views can be made of this type."""
    return "meta" in _types().get(type_name, {})


def is_complex(type_name: str) -> bool:
    """Whether the type has elements of its own."""
    return type_name in _types()


def element(type_name: str, name: str) -> Element | None:
    """The element `name` of a type; for a choice such as `value`, see `choice`."""
    declared = _types().get(type_name, {}).get(name)
    return None if declared is None else Element(name, declared.rstrip("*"), declared[-1] == "*")


def choice(type_name: str, name: str, of_type: str) -> Element | None:
    """The element that holds choice `name`[x] as `of_type`: `valueQuantity` for value, Quantity."""
    declared = _types().get(type_name, {}).get(f"{name}[x]")
    if declared is None or of_type not in declared.split("|"):
        return None
    return Element(name + of_type[0].upper() + of_type[1:], of_type, many=False)


def has_choice(type_name: str, name: str) -> bool:
    """Whether `name` is a choice element of the type (`value[x]`)."""
    return f"{name}[x]" in _types().get(type_name, {})


def elements(type_name: str) -> Iterator[tuple[Element, ...]]:
    """Every element of a type, in order; of a choice (`value[x]`) all that it can be."""
    for name, declared in _types().get(type_name, {}).items():
        if name.endswith("[x]"):
            names = [choice(type_name, name[:-3], kind) for kind in declared.split("|")]
            yield tuple(found for found in names if found is not None)
        else:
            yield (Element(name, declared.rstrip("*"), declared[-1] == "*"),)
