"""The Safe Harbor rules as data: research views, closed domains, and the check of both.

A research view is a ViewDefinition whose every column carries a tag that names its domain. The
domains, and how a value gets into them, are SQL in `deid.extract` and `deid.tables`:

    resource, updated      which version of which resource a row comes from; never in the output
    patient, encounter     become random surrogates; `own encounter` where the row is the encounter
    time, known_at         become seconds from the patient's zero; several columns: the first that
                           has a value. `known_at: encounter_end` takes an encounter's key;
                           `time: reported` is what somebody remembers, and sets no zero
    offset                 another time, in seconds from the patient's zero
    birth, age             age in whole years at that time; the birth date itself is never written
    drop: a, b             rows with one of these values are dropped, and counted under it
    enum: name             a value of the named closed list
    system, code           a code of the frozen vocabulary, as `system:code`, or RARE; one that
                           does not have the form of its system's codes is always RARE
    number, unit           a number within the range declared for its code, in its one unit
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from deid.sql_on_fhir.view import Select, View, load_view
from exports.errors import FhirloomError
from exports.sealed import hash_json

PACKAGED: Final = Path(__file__).parent
"""The rules that fhirloom ships: `views/` and `domains/` beside this file."""

WRITTEN: Final = frozenset({"enum", "code", "number", "unit", "age", "offset"})
"""Kinds of columns that are written under their own name."""

HIDDEN: Final = frozenset(
    {"resource", "updated", "patient", "encounter", "own encounter"}
    | {"time", "known_at", "birth", "drop", "system"}
)


@dataclass(frozen=True)
class DomainColumn:
    """A column of a research view: `kind: argument` of its tag, taken apart."""

    name: str
    kind: str
    argument: str


@dataclass(frozen=True)
class ResearchView:
    """A view whose every column has a closed domain."""

    view: View
    columns: tuple[DomainColumn, ...]

    @property
    def name(self) -> str:
        """The view's name, which is its table's."""
        return self.view.name

    def of(self, kind: str) -> list[DomainColumn]:
        """The columns of one kind, in order."""
        return [column for column in self.columns if column.kind == kind]

    @property
    def timed(self) -> bool:
        """Whether rows are events; else they describe the patient."""
        return bool(self.of("time"))

    @property
    def anchors(self) -> bool:
        """Whether the view's times may be a patient's zero: recorded ones, not reported ones."""
        return self.timed and not any(column.argument == "reported" for column in self.of("time"))

    @property
    def coded(self) -> bool:
        """Whether rows carry a code of the vocabulary."""
        return bool(self.of("code"))


@dataclass(frozen=True)
class Rules:
    """Everything declarative that de-identification reads."""

    folder: Path
    views: tuple[ResearchView, ...]
    enums: Mapping[str, Mapping[str, str]]
    systems: Mapping[str, str]
    code_forms: Mapping[str, str]
    quantities: Mapping[str, Mapping[str, Any]]

    @cached_property
    def hash(self) -> str:
        """The hash of all of it."""
        return hash_json(
            {
                "views": [view.view.source for view in self.views],
                "enums": self.enums,
                "systems": self.systems,
                "code_forms": self.code_forms,
                "quantities": self.quantities,
            }
        )

    def view(self, name: str) -> ResearchView:
        """The research view of that name."""
        return next(view for view in self.views if view.name == name)

    def only(self, names: Collection[str]) -> Rules:
        """The same rules with these views alone, and those that place a patient in time."""
        kept = {*names, "patient", "admission", "discharge"}
        return replace(self, views=tuple(view for view in self.views if view.name in kept))


def load_rules(folder: Path = PACKAGED) -> Rules:
    """Read `views/*.json` and `domains/*.json` below `folder`.

    Raises `FhirloomError` (bad-input) for a view with a column outside the closed domains.
    """
    enums, systems, code_forms, quantities = (
        json.loads((folder / "domains" / f"{name}.json").read_text())
        for name in ("enums", "systems", "code_forms", "quantities")
    )
    views = tuple(
        research_view(load_view(path), enums) for path in sorted((folder / "views").glob("*.json"))
    )
    return Rules(folder, views, enums, systems, code_forms, quantities)


def research_view(view: View, enums: Mapping[str, Mapping[str, str]]) -> ResearchView:
    """Check that a view is closed: every column tagged, every row counted.

    Raises `FhirloomError` (bad-input) that names the view and the column.
    """
    columns = []
    for column in view.columns:
        kind, _, argument = (part.strip() for part in column.domain.partition(":"))
        if kind not in WRITTEN | HIDDEN:
            raise _open(view, column.name, f"its domain `{column.domain}` is not a closed one")
        if kind == "enum" and argument not in enums:
            raise _open(view, column.name, f"the list `{argument}` does not exist")
        columns.append(DomainColumn(column.name, kind, argument))
    found = ResearchView(view, tuple(columns))
    for kind in ("resource", "updated", "patient"):
        if len(found.of(kind)) != 1:
            raise _open(view, kind, "a research view has exactly one such column")
    if view.where or not _keeps_rows(view.select):
        raise _open(view, "where / forEach", "it drops rows uncounted: use `drop`, forEachOrNull")
    return found


def _keeps_rows(select: Select) -> bool:
    """Whether each resource yields a row at least, so that every loss is a counted one."""
    own = select.or_null or not select.for_each
    return (
        own
        and all(_keeps_rows(nested) for nested in select.selects)
        and (not select.union_all or any(_keeps_rows(branch) for branch in select.union_all))
    )


def _open(view: View, column: str, why: str) -> FhirloomError:
    return FhirloomError(
        "bad-input",
        f"Not a research view: {why}",
        where=f"view {view.name}, column {column}",
        fix="Tag every column with a closed domain (deid/rules.py lists them).",
    )
