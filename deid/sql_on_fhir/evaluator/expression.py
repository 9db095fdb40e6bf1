"""Evaluate a FHIRPath expression on one node of one resource."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from deid.sql_on_fhir.evaluator import functions
from deid.sql_on_fhir.evaluator.grammar import (
    Call,
    Constant,
    Index,
    Literal,
    Member,
    Node,
    Operation,
    This,
    walk,
)
from deid.sql_on_fhir.evaluator.items import Item, children
from deid.sql_on_fhir.evaluator.operators import boolean, operate, single, truth
from exports.errors import FhirloomError

ENVIRONMENT: Final = frozenset({"context", "resource", "rootResource", "rowIndex"})
"""Variables that are there without being declared."""

Arity = tuple[int, int]
_OVER_ITEMS: Final[Mapping[str, Arity]] = {
    "where": (1, 1),
    "select": (1, 1),
    "all": (1, 1),
    "exists": (0, 1),
    "iif": (2, 3),
}
"""Functions whose arguments are evaluated on each item, not where the function stands."""
_OF_TYPES: Final[Mapping[str, Arity]] = {"ofType": (1, 1), "getReferenceKey": (0, 1)}
"""Functions whose argument is the name of a type."""


@dataclass(frozen=True)
class Expression:
    """A parsed expression, and its text for whoever has to mend it."""

    text: str
    tree: Node


@dataclass(frozen=True)
class Environment:
    """What an expression may refer to besides its node."""

    constants: Mapping[str, Item]
    resource: Item
    row_index: int = 0

    def at_row(self, index: int) -> Environment:
        """The same environment at another element of a repetition."""
        return replace(self, row_index=index)


def check(expression: Expression, constants: Mapping[str, Item]) -> None:
    """Refuse an expression that no resource could be evaluated on.

    Raises `FhirloomError` (bad-input) for an unknown function, a wrong number of arguments and an
    undeclared constant.
    """
    for node in walk(expression.tree):
        match node:
            case Constant(name) if name not in constants and name not in ENVIRONMENT:
                raise refusal(expression.text, f"%{name[:60]} is an undeclared constant")
            case Call(_, function, arguments):
                arity = _OVER_ITEMS.get(function) or _OF_TYPES.get(function)
                arity = arity or functions.ARITIES.get(function)
                if arity is None:
                    raise refusal(expression.text, "a function outside the supported subset")
                if not arity[0] <= len(arguments) <= arity[1]:
                    raise refusal(expression.text, f"{function}() with other arguments")
                if function in _OF_TYPES and arguments:
                    _type_name(arguments[0], expression.text)


def evaluate(expression: Expression, node: Item | None, environment: Environment) -> list[Item]:
    """The items that an expression yields on a node; on none, as on an empty collection.

    Raises `FhirloomError` (bad-input), which tells the expression and no value of the resource.
    """
    try:
        return _evaluate(expression.tree, [] if node is None else [node], environment)
    except ValueError as error:
        raise refusal(expression.text, str(error)) from None


def refusal(text: str, why: str) -> FhirloomError:
    """The error for an expression that has no value here."""
    return FhirloomError(
        "bad-input",
        f"A FHIRPath expression can't be evaluated: {why}",
        where=f"`{text[:200]}`",
        fix="Use the FHIRPath subset of SQL on FHIR v2.",
    )


def _evaluate(tree: Node, focus: list[Item], environment: Environment) -> list[Item]:
    match tree:
        case This():
            return focus
        case Literal(item):
            return [] if item is None else [item]
        case Constant(name):
            return _variable(name, focus, environment)
        case Member(base, name):
            found: list[Item] = []
            for item in _evaluate(base, focus, environment):
                # A path may start with the resource's type: `Patient.name`.
                same = isinstance(base, This) and item.value is environment.resource.value
                found += [item] if same and name == item.type else children(item, name)
            return found
        case Index(base, position):
            items = _evaluate(base, focus, environment)
            at = single(_evaluate(position, focus, environment))
            if at is None:
                return []
            if not isinstance(at.value, int) or isinstance(at.value, bool):
                raise ValueError("an index that is no whole number")
            return items[at.value : at.value + 1] if at.value >= 0 else []
        case Operation(symbol, left, right):
            return operate(
                symbol,
                _evaluate(left, focus, environment),
                _evaluate(right, focus, environment),
            )
        case Call(base):
            return _call(tree, _evaluate(base, focus, environment), focus, environment)


def _variable(name: str, focus: list[Item], environment: Environment) -> list[Item]:
    if name in environment.constants:
        return [environment.constants[name]]
    if name == "rowIndex":
        return [Item(environment.row_index, "integer")]
    return focus if name == "context" else [environment.resource]


def _call(call: Call, items: list[Item], focus: list[Item], environment: Environment) -> list[Item]:
    function, arguments = call.function, call.arguments
    if function in _OVER_ITEMS:
        return _over_items(function, items, arguments, environment)
    if function in _OF_TYPES:
        name = _type_name(arguments[0], function) if arguments else ""
        return functions.of_types(function, items, name)
    given = [_evaluate(argument, focus, environment) for argument in arguments]
    return functions.call(function, items, given)


def _over_items(
    function: str, items: list[Item], arguments: Sequence[Node], environment: Environment
) -> list[Item]:
    if function == "iif":
        chosen = 1 if truth(_evaluate(arguments[0], items, environment)) else 2
        return _evaluate(arguments[chosen], items, environment) if chosen < len(arguments) else []
    if not arguments:
        return boolean(bool(items))
    found = [_evaluate(arguments[0], [item], environment) for item in items]
    if function == "select":
        return [item for each in found for item in each]
    kept = [item for item, each in zip(items, found, strict=True) if truth(each)]
    match function:
        case "where":
            return kept
        case "all":
            return boolean(len(kept) == len(items))
        case _:
            return boolean(bool(kept))


def _type_name(argument: Node, text: str) -> str:
    match argument:
        case Member(This(), name):
            return name
        case Member(Member(This(), "FHIR" | "System"), name):
            return name
    raise refusal(text, "an argument that is not the name of a type")
