"""Compile a view to one DuckDB query over NDJSON, with a typed schema pruned to the paths in use.

What a view does not name is never read: the schema that is handed to DuckDB's JSON reader holds
just the elements on the view's paths. Repetition (`forEach`, `unionAll`) becomes list expressions
that are unnested once, so the file is read once, whatever the view's shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count

from deid.sql_on_fhir import fhir_types
from deid.sql_on_fhir.fhirpath import (
    RESOURCE,
    Call,
    Constant,
    Index,
    Literal,
    Member,
    Node,
    Operation,
    This,
    parse,
)
from deid.sql_on_fhir.reading import LONGEST_LINE, Query, Schema, held_in, name, text, typed
from deid.sql_on_fhir.view import Select, View
from exports.errors import FhirloomError
from exports.references import UUID, pattern

__all__ = ["LONGEST_LINE", "Query", "compile_view", "name", "text"]


@dataclass(frozen=True)
class _Value:
    """A compiled expression: SQL, and what it yields. `schema` is None for computed values."""

    sql: str
    many: bool
    schema: Schema | None = None
    choice: str = ""


def compile_view(view: View, *, content: str = "", file: str = "") -> Query:
    """Compile a view; `content` and `file` name further columns: a hash of the resource as read,
    and the file in which it stood.

    Raises `FhirloomError` (bad-input) for a path outside the supported subset, naming view and
    path.
    """
    compiler = _Compiler(view)
    try:
        return compiler.query(content, file)
    except RecursionError:
        raise compiler.refuse("...", "a path that is nested too deeply") from None


class _Compiler:
    def __init__(self, view: View) -> None:
        self.view = view
        self.root = Schema(view.resource, many=False)
        self.contained: dict[str, Schema] = {}
        self.fresh = count()

    def query(self, content: str, file: str) -> Query:
        if not fhir_types.is_resource(self.view.resource):
            raise self.refuse(self.view.resource, "an unknown resource type")
        root = _Value("", many=False, schema=self.root)
        filters = [self.condition(parse(path), root) for path in self.view.where]
        columns, groups = self.parts(self.view.select, root)
        picked = [f"{sql} AS {name(column)}" for column, sql in columns.items()]
        if content:
            read = ", ".join(f"{name(key)} := {name(key)}" for key in self.root.children)
            picked.append(f"hash(struct_pack({read})) AS {name(content)}")
        picked += [name(file)] if file else []
        inner = [f"{rows} AS group{number}" for number, rows in enumerate(groups)]
        query = f"SELECT {', '.join(picked + inner)} FROM source"
        if filters:
            query += f" WHERE {' AND '.join(filters)}"
        for number, select in enumerate(self.groups_of(self.view.select)):
            fields = [
                f"group{number}.{name(column.name)} AS {name(column.name)}"
                for column in select.all_columns()
            ]
            query = (
                f"SELECT * EXCLUDE (group{number}), {', '.join(fields)} FROM "
                f"(SELECT * REPLACE (unnest(group{number}) AS group{number}) FROM ({query}))"
            )
        names = [column.name for column in self.view.columns]
        ordered = ", ".join(map(name, (*names, *filter(None, (content, file)))))
        return Query(
            {key: item.sql() for key, item in self.root.children.items()},
            f"SELECT {ordered} FROM ({query})",
            {held_in(kind): typed(kind, schema) for kind, schema in self.contained.items()},
            file,
        )

    def groups_of(self, select: Select) -> list[Select]:
        """The repeating selects below a non-repeating one, in the order of `parts`."""
        groups: list[Select] = []
        for nested in select.selects:
            if nested.for_each or nested.union_all:
                groups.append(nested)
            else:
                groups.extend(self.groups_of(nested))
        return groups

    def parts(self, select: Select, node: _Value) -> tuple[dict[str, str], list[str]]:
        """A non-repeating select: its plain columns, and a list of structs per repeating group."""
        columns = {column.name: self.scalar(column.path, node) for column in select.columns}
        groups: list[str] = []
        for nested in select.selects:
            if nested.for_each or nested.union_all:
                groups.append(self.rows(nested, node))
            else:
                more, inner = self.parts(nested, node)
                columns |= more
                groups += inner
        return columns, groups

    def rows(self, select: Select, node: _Value) -> str:
        """SQL for the list of structs that a select yields at `node`."""
        if not select.for_each:
            return self.block(select, node)
        items = self.evaluate(parse(select.for_each), node)
        listed = items.sql if items.many else f"[{items.sql}]"
        variable = f"each{next(self.fresh)}"
        inner = self.block(select, _Value(variable, many=False, schema=items.schema))
        present = f"list_filter({listed}, lambda {variable}: {variable} IS NOT NULL)"
        mapped = f"flatten(list_transform({present}, lambda {variable}: {inner}))"
        if not select.or_null:
            return mapped
        return f"CASE WHEN coalesce(len({present}), 0) = 0 THEN [NULL] ELSE {mapped} END"

    def block(self, select: Select, node: _Value) -> str:
        columns, groups = self.parts(select, node)
        if select.union_all:
            branches = ", ".join(self.rows(branch, node) for branch in select.union_all)
            groups.append(f"flatten([{branches}])")
        inner = [*self.groups_of(select), *select.union_all[:1]]
        variables = [f"row{next(self.fresh)}" for _ in groups]
        fields = [f"{name(column)} := {sql}" for column, sql in columns.items()]
        for variable, nested in zip(variables, inner, strict=True):
            fields += [
                f"{name(column.name)} := {variable}.{name(column.name)}"
                for column in nested.all_columns()
            ]
        result = f"[struct_pack({', '.join(fields)})]"
        for variable, group in reversed(list(zip(variables, groups, strict=True))):
            result = f"flatten(list_transform({group}, lambda {variable}: {result}))"
        return result

    def scalar(self, path: str, node: _Value) -> str:
        value = self.evaluate(parse(path), node)
        if value.many:
            raise self.refuse(path, "a path that may yield several values")
        return value.sql

    def condition(self, tree: Node, node: _Value) -> str:
        value = self.evaluate(tree, node)
        return f"coalesce({value.sql}, false)"

    def evaluate(self, tree: Node, node: _Value) -> _Value:
        match tree:
            case This():
                return node
            case Literal(value):
                return _Value(_literal(value), many=False)
            case Constant(constant):
                if constant == RESOURCE:
                    return _Value("", many=False, schema=self.root)
                if constant not in self.view.constants:
                    raise self.refuse(f"%{constant}", "an undeclared constant")
                return _Value(_literal(self.view.constants[constant]), many=False)
            case Member(base, member):
                return self.member(self.evaluate(base, node), member)
            case Index(base, position):
                items = self.evaluate(base, node)
                sql = f"{items.sql}[{position + 1}]" if items.many else items.sql
                return _Value(sql, many=False, schema=items.schema)
            case Operation(operator, left, right):
                sides = [self.evaluate(side, node) for side in (left, right)]
                if any(side.many for side in sides):
                    raise self.refuse(operator, "an operator over several values")
                if operator == "&":  # nothing counts as an empty text
                    return _Value(f"concat({sides[0].sql}, {sides[1].sql})", many=False)
                return _Value(f"({sides[0].sql} {operator} {sides[1].sql})", many=False)
            case Call(base, function, arguments):
                return self.call(self.evaluate(base, node), function, arguments)

    def member(self, value: _Value, member: str) -> _Value:
        schema = value.schema
        if schema is None or value.choice:
            raise self.refuse(member, "a path into a value")
        if fhir_types.has_choice(schema.type, member):
            return _Value(value.sql, value.many, schema, choice=member)
        found = fhir_types.element(schema.type, member)
        if found is None:
            raise self.refuse(member, f"an element that {schema.type} lacks")
        return self.descend(value, found)

    def descend(self, value: _Value, element: fhir_types.Element) -> _Value:
        if value.schema is None:
            raise self.refuse(element.name, "a path into a value")
        child = value.schema.child(element)
        column = name(element.name)
        if not value.many:
            sql = f"{value.sql}.{column}" if value.sql else column
            return _Value(sql, element.many, child)
        item = f"item{next(self.fresh)}"
        sql = f"list_transform({value.sql}, lambda {item}: {item}.{column})"
        sql = f"list_filter({sql}, lambda {item}: {item} IS NOT NULL)"
        return _Value(f"flatten({sql})" if element.many else sql, many=True, schema=child)

    def call(self, value: _Value, function: str, arguments: tuple[Node, ...]) -> _Value:
        match function, arguments:
            case "ofType", (Member(This(), type_name),) if value.choice and value.schema:
                found = fhir_types.choice(value.schema.type, value.choice, type_name)
                if found is None:
                    raise self.refuse(f"{value.choice}.ofType({type_name})", "not a choice")
                return self.descend(_Value(value.sql, value.many, value.schema), found)
            case "ofType", (Member(This(), type_name),) if value.schema is self.root.children.get(
                "contained"
            ):
                if not fhir_types.is_resource(type_name):
                    raise self.refuse(f"ofType({type_name})", "an unknown resource type")
                inside = self.contained.setdefault(type_name, Schema(type_name, many=True))
                return _Value(name(held_in(type_name)), many=True, schema=inside)
            case "where", (criteria,):
                return self.filtered(value, criteria)
            case "extension", (Literal(str()) as url,):
                criteria = Operation("=", Member(This(), "url"), url)
                return self.filtered(self.member(value, "extension"), criteria)
            case "exists", (criteria,):
                return self.call(self.filtered(value, criteria), "exists", ())
            case "exists", ():
                present = f"coalesce(len({value.sql}), 0) > 0" if value.many else None
                return _Value(f"({present or value.sql + ' IS NOT NULL'})", many=False)
            case "empty", ():
                return _Value(f"(NOT {self.call(value, 'exists', ()).sql})", many=False)
            case "not", ():
                return _Value(f"(NOT {value.sql})", many=False)
            case "first", ():
                sql = f"{value.sql}[1]" if value.many else value.sql
                return _Value(sql, many=False, schema=value.schema)
            case "getResourceKey", ():
                return _Value(_key(self.member(value, "id").sql), many=False)
            case "getReferenceKey", (Member(This(), type_name),):
                return self.reference_key(value, type_name)
        raise self.refuse(f"{function}()", "a function outside the supported subset")

    def filtered(self, value: _Value, criteria: Node) -> _Value:
        if not value.many:
            kept = self.condition(criteria, value)
            if not value.sql:  # the resource itself: it is there, but no column holds it
                return _Value(f"CASE WHEN {kept} THEN true END", many=False)
            return _Value(f"CASE WHEN {kept} THEN {value.sql} END", many=False, schema=value.schema)
        item = f"item{next(self.fresh)}"
        kept = self.condition(criteria, _Value(item, many=False, schema=value.schema))
        return _Value(
            f"list_filter({value.sql}, lambda {item}: {kept})", many=True, schema=value.schema
        )

    def reference_key(self, value: _Value, type_name: str) -> _Value:
        """The key of the resource of that type that a reference names; else null."""
        reference = self.member(value, "reference")
        if reference.many:
            raise self.refuse("getReferenceKey", "a path that may yield several values")
        if not type_name.isidentifier():
            raise self.refuse(f"getReferenceKey({type_name})", "an unknown resource type")
        found = f"nullif(regexp_extract({reference.sql}, {text(pattern(type_name))}, 1), '')"
        return _Value(_key(found), many=False)

    def refuse(self, path: str, why: str) -> FhirloomError:
        return FhirloomError(
            "bad-input",
            f"The view asks for {why}",
            where=f"view {self.view.name}, `{path}`",
            fix="Name a supported R4 element or function (see deid/sql_on_fhir/fhir_r4.json).",
        )


def _key(sql: str) -> str:
    """SQL for an id in the form in which ids are compared (`exports.references`)."""
    return f"CASE WHEN regexp_full_match({sql}, {text(UUID)}) THEN lower({sql}) ELSE {sql} END"


def _literal(value: str | float | bool) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return text(value)
    return repr(value)
