"""Feature specs: what a row of the feature matrix holds, as data (`features/specs/*.yaml`).

A feature names a view (a research table), which of its rows it takes (`codes`, `where`), what it
reads of a row (`value`), how it sums them up (`aggregate`), how far back it looks (`window`) and
its unit. `value` is a numeric column, or a category turned into 1 and 0: `value: {priority: [EL]}`
is 1 for rows whose priority is EL, and 0 for all others.

Only columns that were known when the row became known are offered. What a server overwrites later
(the status of a condition or a medication order, death) would tell the future; race, ethnicity and
payer serve to compare subgroups and are no predictors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal, get_args

from exports.errors import FhirloomError
from exports.sealed import hash_json
from features import valuesets
from features.declaration import Declaration, declaration, duration, read_declaration
from features.valuesets import ValueSet

FOLDER: Final = Path(__file__).parent / "specs"

Aggregate = Literal["last", "first", "min", "max", "mean", "slope", "count", "ever", "time_since"]
OF_ROWS: Final[tuple[Aggregate, ...]] = ("count", "ever", "time_since")


KEY_COLUMNS: Final = (
    *("patient", "encounter", "time", "year", "label"),
    *("sex", "race", "ethnicity"),
)


@dataclass(frozen=True)
class View:
    """What a feature may read of a research table; a static view has no times."""

    categories: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    coded: bool = False
    static: bool = False


VIEWS: Final[Mapping[str, View]] = {
    "patient": View(categories=("sex", "state"), static=True),
    "admission": View(categories=("admit_source", "class", "priority"), numbers=("age",)),
    "discharge": View(categories=("class", "disposition")),
    "condition": View(categories=("category",), coded=True),
    "observation": View(categories=("comparator", "unit"), numbers=("value",), coded=True),
    "medication": View(categories=("intent",), coded=True),
    "procedure": View(coded=True),
    "note": View(coded=True),
}


@dataclass(frozen=True)
class Membership:
    """Whether a category column is one of `values`; an unknown (null) one is not."""

    column: str
    values: tuple[str, ...]


@dataclass(frozen=True)
class Feature:
    """One column of the matrix; `window` in seconds back from the index, None: all of the past."""

    name: str
    view: str
    aggregate: Aggregate
    window: int | None
    unit: str
    description: str
    codes: ValueSet | None = None
    where: tuple[Membership, ...] = ()
    value: str | Membership | None = None

    def declaration(self) -> dict[str, Any]:
        """The feature as `read_feature` reads it, with the codes written out."""
        told: dict[str, Any] = {
            "name": self.name,
            "view": self.view,
            "aggregate": self.aggregate,
            "window": "all" if self.window is None else duration(self.window),
            "unit": self.unit,
            "description": self.description,
        }
        if self.codes is not None:
            told["codes"] = {self.codes.name: self.codes.patterns}
        if self.where:
            told["where"] = {member.column: list(member.values) for member in self.where}
        if isinstance(self.value, Membership):
            told["value"] = {self.value.column: list(self.value.values)}
        elif self.value is not None:
            told["value"] = self.value
        return told


@dataclass(frozen=True)
class FeatureSpec:
    """An ordered list of features; self-contained, since reading it resolves its value sets."""

    name: str
    description: str
    features: tuple[Feature, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The features' names, in the order of the matrix' columns."""
        return tuple(feature.name for feature in self.features)

    def declaration(self) -> dict[str, Any]:
        """JSON-ready form that `parse_spec` reads again, value sets written out."""
        return {
            "name": self.name,
            "description": self.description,
            "features": [feature.declaration() for feature in self.features],
        }

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical form: equal for equal features, however the file is laid out."""
        return hash_json(self.declaration())


def read_spec(path: Path) -> FeatureSpec:
    """The spec in a YAML file; raises `FhirloomError` (bad-input) naming file and feature."""
    return parse_spec(path.name, read_declaration(path).fields)


def load_spec(name: str) -> FeatureSpec:
    """The shipped spec of that name, such as `readmission`."""
    return read_spec(FOLDER / f"{name}.yaml")


def parse_spec(where: str, fields: Mapping[str, Any]) -> FeatureSpec:
    """The spec in a mapping (from YAML, or from `FeatureSpec.declaration`)."""
    spec = declaration(where, dict(fields))
    spec.only("name", "description", "features")
    return FeatureSpec(spec.text("name"), spec.text("description"), read_features(spec))


def read_features(parent: Declaration) -> tuple[Feature, ...]:
    """The `features` of a spec or a score; raises `FhirloomError` where a name stands twice."""
    features = [
        _read_feature(parent, position, item)
        for position, item in enumerate(parent.items("features"), 1)
    ]
    seen: set[str] = set()
    for feature in features:
        if feature.name in seen:
            raise parent.error(f"Feature {feature.name!r} stands twice", "Rename one of the two.")
        seen.add(feature.name)
    return tuple(features)


def columns_read(features: Sequence[Feature]) -> dict[str, tuple[str, ...]]:
    """The columns that the kernel reads, for each view in use."""
    columns: dict[str, set[str]] = {}
    for feature in features:
        view = VIEWS[feature.view]
        needed = columns.setdefault(
            feature.view, {"patient"} if view.static else {"patient", "time", "known_at"}
        )
        needed.update(member.column for member in feature.where)
        needed.update({"code"} if feature.codes else ())
        if feature.value is not None:
            value = feature.value
            needed.add(value.column if isinstance(value, Membership) else value)
    return {view: tuple(sorted(columns[view])) for view in sorted(columns)}


def _read_feature(parent: Declaration, position: int, item: object) -> Feature:
    read = declaration(f"{parent.where}, feature {position}", item)
    name = read.text("name")
    read = Declaration(f"{parent.where}, feature {name}", read.fields)
    read.only(
        "name", "view", "codes", "where", "value", "aggregate", "window", "unit", "description"
    )
    if not name.isidentifier() or name != name.lower():
        raise read.error("A feature's name is a column name", "Use lower_case_with_underscores.")
    if name in KEY_COLUMNS:
        raise read.error("The matrix has a column of this name", "Choose another name.")
    view_name = read.text("view")
    if view_name not in VIEWS:
        raise read.error(f"There is no view {view_name!r}", f"Views: {', '.join(VIEWS)}.")
    view = VIEWS[view_name]
    aggregate = next((a for a in get_args(Aggregate) if a == read.text("aggregate")), None)
    if aggregate is None:
        raise read.error("Unknown aggregate", f"One of: {', '.join(get_args(Aggregate))}.")
    feature = Feature(
        name=name,
        view=view_name,
        aggregate=aggregate,
        window=None if read.text("window") == "all" else read.seconds("window"),
        unit=read.text("unit"),
        description=read.text("description"),
        codes=_read_codes(read, view),
        where=_read_where(read, view),
        value=_read_value(read, view, aggregate),
    )
    _check_time(read, view, feature)
    return feature


def _read_codes(read: Declaration, view: View) -> ValueSet | None:
    codes = read.fields.get("codes")
    if codes is None:
        return None
    if not view.coded:
        raise read.error("This view has no codes", "Use `where` instead.")
    if isinstance(codes, str):
        try:
            return valuesets.load(codes)
        except FhirloomError as error:
            raise read.error(error.what, error.fix) from None
    written = read.mapping("codes")
    if len(written.fields) != 1:
        raise read.error("`codes` is one value set", "Name one, or write {name: [codes]}.")
    (name,) = written.fields
    return valuesets.value_set(name, written.texts(name))


def _read_where(read: Declaration, view: View) -> tuple[Membership, ...]:
    if "where" not in read.fields:
        return ()
    where = read.mapping("where")
    return tuple(_read_membership(where, column, view) for column in sorted(where.fields))


def _read_membership(read: Declaration, column: str, view: View) -> Membership:
    if column not in view.categories:
        offered = ", ".join(view.categories) or "none"
        raise read.error(f"{column!r} is no category here", f"Categories of this view: {offered}.")
    return Membership(column, read.texts(column))


def _read_value(read: Declaration, view: View, aggregate: Aggregate) -> str | Membership | None:
    value = read.fields.get("value")
    if aggregate in OF_ROWS:
        if value is not None:
            raise read.error(f"`{aggregate}` is about rows", "Leave `value` out.")
        return None
    if isinstance(value, dict):
        indicator = read.mapping("value")
        if len(indicator.fields) != 1:
            raise read.error("`value` is one category", "Write {column: [values]}.")
        (column,) = indicator.fields
        return _read_membership(indicator, column, view)
    if value not in view.numbers:
        offered = ", ".join(view.numbers) or "none"
        raise read.error(f"`{aggregate}` needs a number", f"Numbers of this view: {offered}.")
    return str(value)


def _check_time(read: Declaration, view: View, feature: Feature) -> None:
    timed = feature.window is not None or feature.aggregate in ("time_since", "slope")
    if view.static and timed:
        raise read.error("The patient's rows have no time", "Use `window: all`, and `ever`.")
    if feature.aggregate == "time_since" and feature.unit not in ("h", "d"):
        raise read.error("`time_since` is in hours or days", "Set `unit` to h or d.")
