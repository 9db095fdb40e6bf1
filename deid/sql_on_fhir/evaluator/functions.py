"""FHIRPath's functions for views: those that SQL on FHIR v2 requires, and a few plain others.

Functions with an expression for an argument (`where`, `exists`) are in `expression`.
Each takes the collection that it is called on; a `ValueError` holds no value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final

from deid.sql_on_fhir.evaluator import temporal
from deid.sql_on_fhir.evaluator.items import Item, children, is_of_type, number
from deid.sql_on_fhir.evaluator.operators import Items, boolean, single, truth, union
from exports.references import key, referenced

_ANY: Final = "[A-Z][A-Za-z]*"
"""The pattern of a resource type's name."""


def of_types(function: str, items: Items, name: str) -> list[Item]:
    """`ofType(name)`, or `getReferenceKey(name)`, whose name may be left out."""
    if function == "ofType":
        return [item for item in items if is_of_type(item, name)]
    keys = [_reference_key(item, name) for item in items]
    return [Item(key, "id") for key in keys if key]


def _reference_key(item: Item, name: str) -> str:
    """The key of the resource of the type that a reference names; "" where it names none."""
    written = [each.value for each in children(item, "reference")]
    return referenced(written[0], re.escape(name) or _ANY) if written else ""


def call(function: str, items: Items, arguments: Sequence[Items]) -> list[Item]:
    """What a function yields for a collection; `ARITIES` tells the functions that there are."""
    return _FUNCTIONS[function][0](items, *arguments)


def _not(items: Items) -> list[Item]:
    value = truth(items)
    return boolean(None if value is None else not value)


def _extension(items: Items, url: Items) -> list[Item]:
    wanted = _given_text(url)
    found = [each for item in items for each in children(item, "extension")]
    return [
        each for each in found if isinstance(each.value, dict) and each.value.get("url") == wanted
    ]


def _join(items: Items, separator: Items = ()) -> list[Item]:
    """Texts in one; none of them is the empty text, as the specification's own cases have it."""
    between = _given_text(separator) if separator else ""
    return [Item(between.join(_text(item) for item in items), "string")]


def _boundary(items: Items, *, high: bool) -> list[Item]:
    item = single(items)
    if item is None:
        return []
    value = number(item.value)
    if value is not None:
        return [Item(temporal.decimal_boundary(Decimal(value), high=high), "decimal")]
    if not isinstance(item.value, str) or item.type not in temporal.TEMPORAL | {""}:
        raise ValueError("a boundary of what is no date, time or number")
    found = temporal.boundary(item.value, item.type, high=high)
    return [] if found is None else [Item(found, item.type)]


def _keys(items: Items) -> list[Item]:
    ids = [each.value for item in items for each in children(item, "id")]
    return [Item(key(each), "id") for each in ids if isinstance(each, str)]


def _of_text(change: Callable[..., Any], kind: str) -> Callable[..., list[Item]]:
    """A function of one text and of texts given to it."""

    def changed(items: Items, *given: Items) -> list[Item]:
        item = single(items)
        if item is None or not all(given):
            return []
        return [Item(change(_text(item), *(_given_text(each) for each in given)), kind)]

    return changed


def _text(item: Item) -> str:
    if not isinstance(item.value, str):
        raise ValueError("a text function on what is no text")
    return item.value


def _given_text(items: Items) -> str:
    item = single(items)
    if item is None:
        raise ValueError("a function without its argument")
    return _text(item)


_FUNCTIONS: Final[dict[str, tuple[Callable[..., list[Item]], int, int]]] = {
    "empty": (lambda items: boolean(not items), 0, 0),
    "not": (_not, 0, 0),
    "first": (lambda items: list(items[:1]), 0, 0),
    "last": (lambda items: list(items[-1:]), 0, 0),
    "single": (lambda items: list(filter(None, [single(items)])), 0, 0),
    "count": (lambda items: [Item(len(items), "integer")], 0, 0),
    "distinct": (lambda items: union(items, ()), 0, 0),
    "extension": (_extension, 1, 1),
    "join": (_join, 0, 1),
    "lowBoundary": (lambda items: _boundary(items, high=False), 0, 0),
    "highBoundary": (lambda items: _boundary(items, high=True), 0, 0),
    "getResourceKey": (_keys, 0, 0),
    "startsWith": (_of_text(str.startswith, "boolean"), 1, 1),
    "endsWith": (_of_text(str.endswith, "boolean"), 1, 1),
    "contains": (_of_text(str.__contains__, "boolean"), 1, 1),
    "length": (_of_text(len, "integer"), 0, 0),
    "lower": (_of_text(str.lower, "string"), 0, 0),
    "upper": (_of_text(str.upper, "string"), 0, 0),
}

ARITIES: Final = {name: (least, most) for name, (_, least, most) in _FUNCTIONS.items()}
"""The functions, and how many arguments each takes at least and at most."""
