"""FHIRPath's operators on collections (hl7.org/fhirpath, N1): an empty operand mostly yields empty.

A collection of several items where one is needed, or types that don't go together, are a
`ValueError`, which holds no value; `deid.sql_on_fhir.evaluator.expression` tells where.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from decimal import Decimal, DivisionByZero, InvalidOperation
from typing import Any, Final

from deid.sql_on_fhir.evaluator import temporal
from deid.sql_on_fhir.evaluator.items import Item, number

Items = Sequence[Item]

_ORDERS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    ">": operator.gt,
    "<=": operator.le,
    ">=": operator.ge,
}


def single(items: Items) -> Item | None:
    """The one item of a collection, or None of an empty one; raises `ValueError` for several."""
    if len(items) > 1:
        raise ValueError("several values where one is needed")
    return items[0] if items else None


def truth(items: Items) -> bool | None:
    """A collection as a condition: a boolean is itself, any other single item is true."""
    item = single(items)
    if item is None:
        return None
    return item.value if isinstance(item.value, bool) else True


def boolean(value: bool | None) -> list[Item]:
    """A condition as a collection."""
    return [] if value is None else [Item(value, "boolean")]


def equal(left: Item, right: Item) -> bool | None:
    """Whether two items are equal; None where the precision of a date can't tell."""
    numbers = number(left.value), number(right.value)
    if None not in numbers:
        return numbers[0] == numbers[1]
    if _are_temporal(left, right):
        order = temporal.order(left.value, right.value)
        return None if order is None else order == 0
    return type(left.value) is type(right.value) and bool(left.value == right.value)


def all_equal(left: Items, right: Items) -> bool | None:
    """FHIRPath's `=`: the same items in the same order."""
    if not left or not right:
        return None
    if len(left) != len(right):
        return False
    found = [equal(ours, theirs) for ours, theirs in zip(left, right, strict=True)]
    return False if False in found else None if None in found else True


def _equivalent(left: Items, right: Items) -> bool:
    """FHIRPath's `~`: the same items in any order; letter case and spaces of text don't count."""
    rest = [_folded(item) for item in right]
    for item in map(_folded, left):
        match = next((other for other in rest if equal(item, other)), None)
        if match is None:
            return False
        rest.remove(match)
    return not rest


def _folded(item: Item) -> Item:
    if isinstance(item.value, str):
        return item._replace(value=" ".join(item.value.casefold().split()))
    return item


def union(left: Items, right: Items) -> list[Item]:
    """The items of both, each once."""
    kept: list[Item] = []
    for item in (*left, *right):
        if not any(equal(item, other) for other in kept):
            kept.append(item)
    return kept


def operate(symbol: str, left: Items, right: Items) -> list[Item]:
    """What an operator yields; `and`, `or`, `xor` and `implies` are three-valued.

    Raises `ValueError` for operands that it is not defined on.
    """
    match symbol:
        case "and" | "or" | "xor" | "implies":
            return boolean(_logic(symbol, truth(left), truth(right)))
        case "=":
            return boolean(all_equal(left, right))
        case "!=":
            found = all_equal(left, right)
            return boolean(None if found is None else not found)
        case "~" | "!~":
            return boolean(_equivalent(left, right) == (symbol == "~"))
        case "|":
            return union(left, right)
        case "in":
            sought = single(left)
            return boolean(sought and any(equal(sought, item) for item in right))
        case "contains":
            return operate("in", right, left)
        case "&":
            texts = [single(side) or Item("", "string") for side in (left, right)]
            return [Item("".join(_text(item) for item in texts), "string")]
    one, other = single(left), single(right)
    if one is None or other is None:
        return []
    if symbol in _ORDERS:
        return boolean(_compare(symbol, one, other))
    return _calculate(symbol, one, other)


def _logic(symbol: str, left: bool | None, right: bool | None) -> bool | None:
    if symbol == "implies":
        return _logic("or", None if left is None else not left, right)
    if symbol == "xor":
        return None if left is None or right is None else left != right
    decisive = symbol == "or"
    if decisive in (left, right):
        return decisive
    return None if None in (left, right) else not decisive


def _are_temporal(left: Item, right: Item) -> bool:
    """Whether both are dates or times; one of unknown type is if the other is, and it looks so."""
    if not (isinstance(left.value, str) and isinstance(right.value, str)):
        return False
    kinds = {left.type, right.type}
    if not kinds & temporal.TEMPORAL or not kinds <= temporal.TEMPORAL | {""}:
        return False
    return all(temporal.is_temporal(item.value, item.type) for item in (left, right))


def _compare(symbol: str, left: Item, right: Item) -> bool | None:
    test = _ORDERS[symbol]
    numbers = number(left.value), number(right.value)
    if None not in numbers:
        return test(*numbers)
    if _are_temporal(left, right):
        order = temporal.order(left.value, right.value)
        return None if order is None else test(order, 0)
    if isinstance(left.value, str) and isinstance(right.value, str):
        return test(left.value, right.value)
    raise ValueError(f"`{symbol}` between values of different types")


def _text(item: Item) -> str:
    if not isinstance(item.value, str):
        raise ValueError("a text operator on what is no text")
    return item.value


def _calculate(symbol: str, left: Item, right: Item) -> list[Item]:
    if symbol == "+" and isinstance(left.value, str) and isinstance(right.value, str):
        return [Item(left.value + right.value, "string")]
    one, other = number(left.value), number(right.value)
    if one is None or other is None:
        raise ValueError(f"`{symbol}` on what is no number")
    try:
        return [_typed(_arithmetic(symbol, one, other))]
    except (DivisionByZero, InvalidOperation, ZeroDivisionError):
        return []  # FHIRPath: division by zero is empty


def _arithmetic(symbol: str, left: int | Decimal, right: int | Decimal) -> int | Decimal:
    one, other = Decimal(left), Decimal(right)
    match symbol:
        case "/":
            return one / other
        case "div":
            return int(one / other)
        case "mod":
            found = one % other
        case "+":
            found = one + other
        case "-":
            found = one - other
        case _:
            found = one * other
    return int(found) if isinstance(left, int) and isinstance(right, int) else found


def _typed(value: int | Decimal) -> Item:
    return Item(value, "integer" if isinstance(value, int) else "decimal")
