"""The rows of a view, resource by resource.

Source: SQL on FHIR v2, "Functional model" and the processing algorithm of its implementer
guidance.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any, Final

from deid.sql_on_fhir.evaluator.definition import (
    Column,
    Definition,
    Selection,
    invalid,
    read_definition,
)
from deid.sql_on_fhir.evaluator.expression import Environment, Expression, refusal
from deid.sql_on_fhir.evaluator.expression import evaluate as items_of
from deid.sql_on_fhir.evaluator.grammar import Constant
from deid.sql_on_fhir.evaluator.items import Item, plain, resource_item

DEEPEST: Final = 100
"""Levels that `repeat` goes down: no resource has as many, a path that stays in place does."""

Row = dict[str, Any]


def evaluate(view: Mapping[str, Any], resources: Iterable[Mapping[str, Any]]) -> list[Row]:
    """The rows of a ViewDefinition over resources of whatever types, in the columns' order.

    Raises `FhirloomError` (bad-input) for an invalid view, and for one that a resource does not
    suit: several values in a column that is no collection, a filter that is no condition.
    """
    return list(rows(read_definition(view), resources))


def rows(definition: Definition, resources: Iterable[Mapping[str, Any]]) -> Iterator[Row]:
    """The rows of a view that was read already, as they come."""
    for resource in resources:
        if resource.get("resourceType") == definition.resource:
            item = resource_item(dict(resource))
            environment = Environment(definition.constants, item)
            if all(_holds(path, item, environment) for path in definition.where):
                yield from _select(definition.select, item, environment)


def _holds(path: Expression, item: Item, environment: Environment) -> bool:
    found = items_of(path, item, environment)
    if not all(isinstance(each.value, bool) for each in found) or len(found) > 1:
        raise refusal(path.text, "a filter that is no condition")
    return bool(found and found[0].value)


def _select(select: Selection, node: Item, environment: Environment) -> Iterator[Row]:
    if not select.kind:
        yield from _block(select, node, environment)
        return
    if select.kind == "repeat":
        nodes = list(_descendants(select.paths, node, environment, 1))
    else:
        nodes = items_of(select.paths[0], node, environment)
    for index, each in enumerate(nodes):
        yield from _block(select, each, environment.at_row(index))
    if not nodes and select.kind == "forEachOrNull":
        yield {column.name: _blank(column) for column in select.all_columns()}


def _descendants(
    paths: tuple[Expression, ...], node: Item, environment: Environment, depth: int
) -> Iterator[Item]:
    """What the paths reach from a node, and from there on: each before what is below it."""
    if depth > DEEPEST:
        raise invalid("repeat", "its paths have no end")
    for path in paths:
        for item in items_of(path, node, environment):
            yield item
            yield from _descendants(paths, item, environment, depth + 1)


def _block(select: Selection, node: Item, environment: Environment) -> Iterator[Row]:
    own = {column.name: _value(column, node, environment) for column in select.columns}
    parts = [list(_select(nested, node, environment)) for nested in select.selects]
    if select.union_all:
        branches = (_select(branch, node, environment) for branch in select.union_all)
        parts.append([row for branch in branches for row in branch])
    for combined in product(*parts):
        row = dict(own)
        for part in combined:
            row |= part
        yield row


def _value(column: Column, node: Item, environment: Environment) -> Any:
    found = [plain(item.value) for item in items_of(column.path, node, environment)]
    if column.collection:
        return found
    if len(found) > 1:
        raise refusal(column.path.text, f"several values in column {column.name}")
    return found[0] if found else None


def _blank(column: Column) -> Any:
    """A column of the row that stands for no element: null, but that row is the first, 0."""
    if column.path.tree == Constant("rowIndex"):
        return 0
    return [] if column.collection else None
