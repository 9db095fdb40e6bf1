"""The FHIRPath that SQL on FHIR v2 views use, parsed to a small tree.

Grammar: hl7.org/fhirpath (N1), restricted to the subset that the SQL on FHIR v2 specification
asks for: paths, literals, `%constants`, comparison and boolean operators, and function calls.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from exports.errors import FhirloomError


@dataclass(frozen=True)
class Literal:
    """A string, number or boolean."""

    value: str | int | float | bool


RESOURCE: Final = "resource"
"""`%resource`: the resource that the view is run over; no constant of a view is called that."""


@dataclass(frozen=True)
class Constant:
    """`%name`: a constant of the view, or `%resource`."""

    name: str


@dataclass(frozen=True)
class This:
    """`$this`, or the start of a path: the node that the expression is evaluated on."""


@dataclass(frozen=True)
class Member:
    """`base.name`."""

    base: Node
    name: str


@dataclass(frozen=True)
class Index:
    """`base[position]`, counted from 0."""

    base: Node
    position: int


@dataclass(frozen=True)
class Call:
    """`base.function(arguments)`."""

    base: Node
    function: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True)
class Operation:
    """`left operator right`."""

    operator: str
    left: Node
    right: Node


Node = Literal | Constant | This | Member | Index | Call | Operation

_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<string>'(?:[^'\\]|\\.)*')
      | (?P<number>\d+(?:\.\d+)?)
      | (?P<name>[A-Za-z_]\w*|`[^`]+`)
      | (?P<constant>%[A-Za-z_]\w*)
      | (?P<this>\$this)
      | (?P<symbol><=|>=|!=|[=<>&.,()\[\]])
    )""",
    re.VERBOSE,
)
_PRECEDENCE: Final = {
    "or": 1,
    "and": 2,
    "=": 3,
    "!=": 3,
    "<": 4,
    ">": 4,
    "<=": 4,
    ">=": 4,
    "&": 5,
}


def parse(text: str) -> Node:
    """Parse an expression.

    Raises `FhirloomError` (bad-input) that names the expression and the position.
    """
    parser = _Parser(text)
    try:
        return parser.whole()
    except (RecursionError, ValueError):  # nested too deeply; an index of thousands of digits
        raise parser.error(0) from None


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[tuple[str, str, int]] = []
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if match is None or match.lastgroup is None:
                raise self.error(position)
            kind = match.lastgroup
            self.tokens.append((kind, match.group(kind), match.start(kind)))
            position = match.end()
        self.next = 0

    def error(self, position: int) -> FhirloomError:
        return FhirloomError(
            "bad-input",
            "A FHIRPath expression cannot be read",
            where=f"`{self.text}` at character {position + 1}",
            fix="Use the FHIRPath subset of SQL on FHIR v2.",
        )

    def peek(self) -> tuple[str, str, int]:
        end = ("end", "", len(self.text))
        return self.tokens[self.next] if self.next < len(self.tokens) else end

    def take(self, text: str | None = None) -> tuple[str, str, int]:
        token = self.peek()
        if token[0] == "end" or (text is not None and token[1] != text):
            raise self.error(token[2])
        self.next += 1
        return token

    def whole(self) -> Node:
        node = self.expression(0)
        if self.peek()[0] != "end":
            raise self.error(self.peek()[2])
        return node

    def expression(self, floor: int) -> Node:
        left = self.path()
        while (rank := _PRECEDENCE.get(self.peek()[1], 0)) > floor:
            operator = self.take()[1]
            left = Operation(operator, left, self.expression(rank))
        return left

    def path(self) -> Node:
        node = self.term()
        while self.peek()[1] in (".", "["):
            if self.take()[1] == "[":
                kind, text, position = self.take()
                if kind != "number" or "." in text:
                    raise self.error(position)
                node = Index(node, int(text))
                self.take("]")
            else:
                node = self.invocation(node)
        return node

    def term(self) -> Node:
        kind, text, position = self.peek()
        if kind == "name" and text not in ("true", "false"):
            return self.invocation(This())
        self.take()
        if kind == "string":
            return Literal(re.sub(r"\\(.)", r"\1", text[1:-1]))
        if kind == "number":
            return Literal(float(text) if "." in text else int(text))
        if kind == "name":
            return Literal(text == "true")
        if kind == "constant":
            return Constant(text[1:])
        if kind == "this":
            return This()
        if text == "(":
            node = self.expression(0)
            self.take(")")
            return node
        raise self.error(position)

    def invocation(self, base: Node) -> Node:
        kind, text, position = self.take()
        if kind != "name":
            raise self.error(position)
        name = text.strip("`")
        if self.peek()[1] != "(":
            return Member(base, name)
        self.take("(")
        arguments: list[Node] = []
        while self.peek()[1] != ")":
            if arguments:
                self.take(",")
            arguments.append(self.expression(0))
        self.take(")")
        return Call(base, name, tuple(arguments))
