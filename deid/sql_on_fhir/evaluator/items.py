"""What an expression yields: JSON values with their FHIR types, as far as these are known.

FHIR's JSON tells the type of a choice by the name of its element (`valueQuantity`), and of a
resource by its `resourceType`; `fhir_types` tells the types of the elements that it knows.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Final, NamedTuple

from deid.sql_on_fhir import fhir_types

PRIMITIVES: Final = frozenset(
    {
        "base64Binary",
        "boolean",
        "canonical",
        "code",
        "date",
        "dateTime",
        "decimal",
        "id",
        "instant",
        "integer",
        "integer64",
        "markdown",
        "oid",
        "positiveInt",
        "string",
        "time",
        "unsignedInt",
        "uri",
        "url",
        "uuid",
    }
)
COMPLEX: Final = frozenset(
    {
        "Address",
        "Age",
        "Annotation",
        "Attachment",
        "CodeableConcept",
        "CodeableReference",
        "Coding",
        "ContactDetail",
        "ContactPoint",
        "Contributor",
        "Count",
        "DataRequirement",
        "Distance",
        "Dosage",
        "Duration",
        "Expression",
        "HumanName",
        "Identifier",
        "Meta",
        "Money",
        "ParameterDefinition",
        "Period",
        "Quantity",
        "Range",
        "Ratio",
        "RatioRange",
        "Reference",
        "RelatedArtifact",
        "SampledData",
        "Signature",
        "Timing",
        "TriggerDefinition",
        "UsageContext",
    }
)
CHOICES: Final = {kind[0].upper() + kind[1:]: kind for kind in sorted(PRIMITIVES | COMPLEX)}
"""The suffix of a choice element's name, and the type that it means (hl7.org/fhir/R4, formats)."""

DATES: Final = frozenset(
    {
        "approvalDate",
        "birthDate",
        "expirationDate",
        "lastReviewDate",
        "paymentDate",
        "statusDate",
    }
)
"""Elements that are dates in whatever R4 resource has them: for types that are not known here."""


class Item(NamedTuple):
    """A JSON value and its FHIR type ("" where unknown); `beside` is a primitive's `_` element."""

    value: Any
    type: str = ""
    beside: dict[str, Any] | None = None


def resource_item(resource: dict[str, Any]) -> Item:
    """The item that a resource is."""
    return Item(resource, str(resource.get("resourceType", "")))


def children(item: Item, name: str) -> list[Item]:
    """The items of the element `name`; a choice element goes by its name without the type."""
    holder = item.value
    if not isinstance(holder, dict):
        beside = item.beside if isinstance(item.beside, dict) else {}
        return _items(beside.get(name), "Extension" if name == "extension" else "")
    if name in holder:
        known = fhir_types.element(item.type, name)
        kind = known.type if known else "date" if name in DATES else ""
        return _items(holder[name], kind, holder.get(f"_{name}"))
    found: list[Item] = []
    for key, value in holder.items():
        if key.startswith(name) and (kind := CHOICES.get(key[len(name) :], "")):
            found += _items(value, kind, holder.get(f"_{key}"))
    return found


def _items(value: Any, kind: str, beside: Any = None) -> list[Item]:
    """The values that are there: an element of extensions alone has none."""
    listed = isinstance(value, list)
    values = value if listed else [value]
    asides = beside if listed and isinstance(beside, list) else [beside]
    asides = [*asides, *[None] * (len(values) - len(asides))]
    return [
        resource_item(each) if _is_resource(each) else Item(each, kind, aside)
        for each, aside in zip(values, asides, strict=False)
        if each is not None
    ]


def _is_resource(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("resourceType"), str)


def is_of_type(item: Item, name: str) -> bool:
    """Whether an item is of a type; one of unknown type is what its JSON value looks like."""
    name = name.rpartition(".")[2]
    if item.type:
        return item.type in (name, name[:1].lower() + name[1:])
    match item.value:
        case bool():
            return name.lower() == "boolean"
        case int():
            return name.lower() in ("integer", "decimal", "positiveint", "unsignedint")
        case float() | Decimal():
            return name.lower() == "decimal"
        case str():
            return name in PRIMITIVES - {"boolean", "decimal", "integer"} or name == "String"
    return name in COMPLEX


def number(value: Any) -> int | Decimal | None:
    """The number that a JSON value is, exactly as it was written; None for another value."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | Decimal):
        return value
    return Decimal(repr(value)) if isinstance(value, float) else None


def plain(value: Any) -> Any:
    """A value as JSON has it: numbers that were kept exact become doubles."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, list):
        return [plain(each) for each in value]
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    return value
