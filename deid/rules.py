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
                           does not have the form of its system's codes is always RARE. A second
                           code names the column of its system: `code: value_system`
    number, unit           a number within the range declared for the row's code (the one of
                           `system`), in its one unit; neither is there where that is RARE
    else: column           taken where that column has no value; not written by itself
    resolves: Type         the key of a resource whose codings the row takes where it has none
    resolved               the key by which `resolves` finds a resource. A view with it is
                           auxiliary: its rows are of no patient, and no table is made of them
    zip3, zip, date        three digits of a ZIP code or 000; all five; a day: columns that are
                           there by a policy alone that lets them be written (`deid.policy`)
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import duckdb

from deid.policy import Policy, load_policy
from deid.sql_on_fhir.view import Select, View, load_view
from exports.errors import FhirloomError
from exports.sealed import hash_json

PACKAGED: Final = Path(__file__).parent
"""The rules that fhirloom ships: `views/` and `domains/` beside this file."""

OPTIONAL: Final = frozenset({"zip3", "zip", "date"})
"""Kinds of columns that not every policy writes; the others are not even read then."""
WRITTEN: Final = OPTIONAL | {"enum", "code", "number", "unit", "age", "offset"}
"""Kinds of columns that are written under their own name."""
UNCAPPED: Final = "uncapped"
"""The argument of an `age` column by a policy that tells ages as they are."""

HIDDEN: Final = frozenset(
    {"resource", "resolved", "updated", "patient", "encounter", "own encounter"}
    | {"time", "known_at", "birth", "drop", "system", "resolves", "else"}
)
TAKEN: Final = frozenset(
    {"id", "patient_id", "encounter_id", "dropped", "time", "known", "known_at", "patient"}
    | {"encounter", "anchor_year", "observed_until"}
)
"""What other columns of the extract and of the tables are called; no written one may be."""
INTERNAL: Final = frozenset(
    {"version", "standing", "content", "path", "file", "coded", "found_id", "found_code"}
    | {"quantity_code", "quantity_unit", "quantity_factor", "quantity_shift", "quantity_low"}
    | {"quantity_high", "canonical_unit"}
)
"""What the extract's own columns are called while it reads; no column of a view may be."""
BESIDE: Final = frozenset(
    {"control", "delivered", "encounters", "exact", "issued", "issued_encounters"}
    | {"known_encounters", "known_patients", "links", "numbers", "own", "patients", "prefixes"}
    | {"quantities", "ranges", "rules", "served", "staged", "timelines", "told", "vocabulary"}
    | {"windows", "words"}
)
"""What stands beside the views' tables, in a folder or in a query; no view is called that."""
SAFE_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
"""Names of tables, folders and columns: they need no quotes anywhere, and tell nothing."""


@dataclass(frozen=True)
class DomainColumn:
    """A column of a research view: `kind: argument` of its tag, taken apart."""

    name: str
    kind: str
    argument: str

    @property
    def measured(self) -> bool:
        """Whether the value is one of the row's code, and nothing without it."""
        return self.kind in ("number", "unit") or self.argument == "comparator"


@dataclass(frozen=True)
class ResearchView:
    """A view whose every column has a closed domain."""

    view: View
    columns: tuple[DomainColumn, ...]

    @property
    def name(self) -> str:
        """The view's name, which is its table's."""
        return self.view.name

    @property
    def key(self) -> DomainColumn:
        """The column that tells which resource a row comes from."""
        return (self.of("resource") + self.of("resolved"))[0]

    @property
    def auxiliary(self) -> bool:
        """Whether other views resolve references by its rows, which no table is made of."""
        return bool(self.of("resolved"))

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
    def code(self) -> DomainColumn:
        """The column that tells what a row is about: the code that names no system's column."""
        return next(column for column in self.of("code") if not column.argument)


@dataclass(frozen=True)
class Rules:
    """Everything declarative that de-identification reads; the views are those of the policy."""

    folder: Path
    policy: Policy
    views: tuple[ResearchView, ...]
    enums: Mapping[str, Mapping[str, str]]
    systems: Mapping[str, str]
    code_forms: Mapping[str, str]
    quantities: Mapping[str, Mapping[str, Any]]
    code_dates: Mapping[str, str]
    auxiliary: tuple[ResearchView, ...] = ()

    @cached_property
    def hash(self) -> str:
        """The hash of all of it."""
        return hash_json(
            {
                "policy": asdict(self.policy),
                "views": [view.view.source for view in (*self.auxiliary, *self.views)],
                "enums": self.enums,
                "systems": self.systems,
                "code_forms": self.code_forms,
                "quantities": self.quantities,
                "code_dates": self.code_dates,
            }
        )

    @property
    def permitted(self) -> frozenset[str]:
        """Columns (`table.column`) of days and ZIP codes, identifiers that the policy lets stay."""
        return frozenset(
            f"{view.name}.{column.name}"
            for view in self.views
            for column in view.columns
            if column.kind in ("date", "zip")
        )

    def view(self, name: str) -> ResearchView:
        """The research view of that name."""
        return next(view for view in self.views if view.name == name)

    def only(self, names: Collection[str]) -> Rules:
        """The same rules with these views alone, and those that place a patient in time."""
        kept = {*names, "patient", "admission", "discharge"}
        views = tuple(view for view in self.views if view.name in kept)
        needed = {column.argument for view in views for column in view.of("resolves")}
        auxiliary = tuple(view for view in self.auxiliary if view.view.resource in needed)
        return replace(self, views=views, auxiliary=auxiliary)

    def resolving(self, view: ResearchView) -> ResearchView | None:
        """The auxiliary view by which a view's references are resolved, if it has any."""
        needed = {column.argument for column in view.of("resolves")}
        return next((view for view in self.auxiliary if view.view.resource in needed), None)


def load_rules(folder: Path = PACKAGED, policy: Policy | None = None) -> Rules:
    """Read `views/*.json` and `domains/*.json` below `folder`.

    The policy is the one that the folder names, Safe Harbor by default. Raises `FhirloomError`
    (bad-input) for a view with a column outside the closed domains.
    """
    enums, systems, code_forms, quantities, code_dates = (
        json.loads((folder / "domains" / f"{name}.json").read_text())
        for name in ("enums", "systems", "code_forms", "quantities", "code_dates")
    )
    policy = policy or load_policy(folder)
    views = tuple(
        _under(policy, research_view(load_view(path), enums))
        for path in sorted((folder / "views").glob("*.json"))
    )
    auxiliary = tuple(view for view in views if view.auxiliary)
    views = tuple(view for view in views if not view.auxiliary)
    there = {view.view.resource for view in auxiliary}
    for view in views:
        if missing := [item for item in view.of("resolves") if item.argument not in there]:
            raise _open(view.view, missing[0].name, f"no view resolves `{missing[0].argument}`")
    return Rules(
        folder, policy, views, enums, systems, code_forms, quantities, code_dates, auxiliary
    )


def research_view(view: View, enums: Mapping[str, Mapping[str, str]]) -> ResearchView:
    """Check that a view is closed: every column tagged, every row counted.

    Raises `FhirloomError` (bad-input) that names the view and the column.
    """
    if not _is_safe(view.name):
        raise _open(view, "name", "its name is none for a table")
    names = [column.name for column in view.columns]
    columns = []
    for column in view.columns:
        kind, _, argument = (part.strip() for part in column.domain.partition(":"))
        if kind not in WRITTEN | HIDDEN:
            raise _open(view, column.name, f"its domain `{column.domain}` is not a closed one")
        if kind == "enum" and argument not in enums:
            raise _open(view, column.name, f"the list `{argument}` does not exist")
        if kind in ("else", "code") and (argument or "system") not in names:
            raise _open(view, column.name, f"there is no column `{argument or 'system'}`")
        free = column.name not in (INTERNAL | TAKEN if kind in WRITTEN else INTERNAL)
        if not free or not SAFE_NAME.fullmatch(column.name) or names.count(column.name) > 1:
            raise _open(view, column.name, "its name is none for a column, or it is taken")
        columns.append(DomainColumn(column.name, kind, argument))
    found = ResearchView(view, tuple(columns))
    whose = "resolved" if found.auxiliary else "patient"
    for kind in ("updated", whose, *(() if found.auxiliary else ("resource",))):
        if len(found.of(kind)) != 1:
            raise _open(view, kind, "a research view has exactly one such column")
    main = [column for column in found.of("code") if not column.argument]
    if len(main) > 1 or (
        (found.of("code") or found.auxiliary or found.of("resolves")) and not main
    ):
        raise _open(view, "code", "one code, and no more than one, tells what a row is about")
    if found.of("number") and not (main and found.of("unit")):
        raise _open(view, "number", "a number needs a code and a unit")
    if view.where or not _keeps_rows(view.select):
        raise _open(view, "where / forEach", "it drops rows uncounted: use `drop`, forEachOrNull")
    return found


def _under(policy: Policy, view: ResearchView) -> ResearchView:
    """The view by a policy: without the columns that it does not write, its ages as it tells them.

    What is not written is not read either.
    """
    left_out = {
        column.name for column in view.columns if column.kind in OPTIONAL - policy.optional_kinds
    }
    columns = (column for column in view.columns if column.name not in left_out)
    if policy.dated:
        columns = (
            replace(column, argument=UNCAPPED) if column.kind == "age" else column
            for column in columns
        )
    select = _without(view.view.select, left_out)
    return ResearchView(replace(view.view, select=select), tuple(columns))


def _without(select: Select, names: Collection[str]) -> Select:
    return replace(
        select,
        columns=tuple(column for column in select.columns if column.name not in names),
        selects=tuple(_without(nested, names) for nested in select.selects),
        union_all=tuple(_without(branch, names) for branch in select.union_all),
    )


def _is_safe(table: str) -> bool:
    """Whether a name can be a table's and a folder's: plain, and no word of SQL."""
    if not SAFE_NAME.fullmatch(table) or table in BESIDE:
        return False
    try:
        return len(duckdb.extract_statements(f"FROM {table} AS r")) == 1
    except duckdb.Error:
        return False


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
