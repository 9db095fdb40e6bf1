"""FHIRPath expressions, parsed to a tree: hl7.org/fhirpath (N1) without `is` and `as`.

`deid.sql_on_fhir.fhirpath` is the smaller grammar that the compiler answers. What both read, they
read alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from deid.sql_on_fhir.evaluator.items import Item
from exports.errors import FhirloomError

LONGEST: Final = 300
"""Tokens of an expression. It bounds the depth of its tree, which is evaluated recursively."""
DEEPEST: Final = 40
"""Levels of parentheses and arguments."""


@dataclass(frozen=True)
class Literal:
    """A value; none for `{}`."""

    item: Item | None


@dataclass(frozen=True)
class Constant:
    """`%name`: a constant of the view, or a variable that its evaluation sets."""

    name: str


@dataclass(frozen=True)
class This:
    """`$this`, or the start of a path."""


@dataclass(frozen=True)
class Member:
    """`base.name`."""

    base: Node
    name: str


@dataclass(frozen=True)
class Index:
    """`base[position]`, counted from 0."""

    base: Node
    position: Node


@dataclass(frozen=True)
class Call:
    """`base.function(arguments)`."""

    base: Node
    function: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True)
class Operation:
    """`left operator right`; `-x` is `0 - x`."""

    operator: str
    left: Node
    right: Node


Node = Literal | Constant | This | Member | Index | Call | Operation

_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<string>'(?:[^'\\]|\\.)*')
      | (?P<moment>@(?:T\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)?
            |\d{4}(?:-\d\d(?:-\d\d)?)?
             (?:T(?:\d\d(?::\d\d(?::\d\d(?:\.\d+)?)?)?(?:Z|[+-]\d\d:\d\d)?)?)?))
      | (?P<number>\d+(?:\.\d+)?)
      | (?P<name>[A-Za-z_]\w*|`[^`]+`)
      | (?P<constant>%(?:[A-Za-z_][\w-]*|`[^`]+`|'[^'\\]+'))
      | (?P<this>\$this)
      | (?P<symbol><=|>=|!=|!~|[=~<>.,()\[\]{}+*/|&-])
    )""",
    re.VERBOSE | re.ASCII | re.DOTALL,
)
_LOOSEST_FIRST: Final = (
    ("implies",),
    ("or", "xor"),
    ("and",),
    ("in", "contains"),
    ("=", "!=", "~", "!~"),
    ("<", ">", "<=", ">="),
    ("|",),
    ("+", "-", "&"),
    ("*", "/", "div", "mod"),
)
_PRECEDENCE: Final = {
    operator: rank
    for rank, operators in enumerate(_LOOSEST_FIRST, start=1)
    for operator in operators
}
_SIGN: Final = len(_LOOSEST_FIRST)
_ESCAPES: Final = {"f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def parse(text: str) -> Node:
    """Parse an expression.

    Raises `FhirloomError` (bad-input) that names the expression and the position.
    """
    return _Parser(text).whole()


def walk(tree: Node) -> Iterator[Node]:
    """A tree's nodes, itself included."""
    yield tree
    match tree:
        case Member(base, _):
            yield from walk(base)
        case Index(base, position):
            yield from walk(base)
            yield from walk(position)
        case Call(base, _, arguments):
            for part in (base, *arguments):
                yield from walk(part)
        case Operation(_, left, right):
            yield from walk(left)
            yield from walk(right)


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    position: int


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.depth = 0
        self.next = 0
        self.tokens: list[_Token] = []
        position = 0
        while text[position:].strip():
            match = _TOKEN.match(text, position)
            if match is None or match.lastgroup is None or len(self.tokens) == LONGEST:
                raise self.error(position)
            kind = match.lastgroup
            self.tokens.append(_Token(kind, match.group(kind), match.start(kind)))
            position = match.end()

    def error(self, position: int) -> FhirloomError:
        return FhirloomError(
            "bad-input",
            "A FHIRPath expression cannot be read",
            where=f"`{self.text[:200]}` at character {position + 1}",
            fix="Use the FHIRPath subset of SQL on FHIR v2.",
        )

    def peek(self) -> _Token:
        end = _Token("end", "", len(self.text))
        return self.tokens[self.next] if self.next < len(self.tokens) else end

    def at(self, *symbols: str) -> bool:
        """Whether the next token is one of these; a string that spells one is none."""
        token = self.peek()
        return token.kind != "string" and token.text in symbols

    def take(self, text: str | None = None) -> _Token:
        token = self.peek()
        if token.kind == "end" or (text is not None and not self.at(text)):
            raise self.error(token.position)
        self.next += 1
        return token

    def whole(self) -> Node:
        node = self.expression(0)
        if self.peek().kind != "end":
            raise self.error(self.peek().position)
        return node

    def expression(self, floor: int) -> Node:
        self.depth += 1
        if self.depth > DEEPEST:
            raise self.error(self.peek().position)
        left = self.signed()
        while self.at(*_PRECEDENCE) and (rank := _PRECEDENCE[self.peek().text]) > floor:
            operator = self.take().text
            left = Operation(operator, left, self.expression(rank))
        self.depth -= 1
        return left

    def signed(self) -> Node:
        if not self.at("+", "-"):
            return self.path()
        return Operation(self.take().text, Literal(Item(0, "integer")), self.expression(_SIGN))

    def path(self) -> Node:
        node = self.term()
        while self.at(".", "["):
            if self.take().text == "[":
                node = Index(node, self.expression(0))
                self.take("]")
            else:
                node = self.invocation(node)
        return node

    def term(self) -> Node:
        token = self.peek()
        if token.kind == "name" and token.text not in ("true", "false"):
            return self.invocation(This())
        self.take()
        match token.kind:
            case "string":
                return Literal(Item(_unescaped(token.text[1:-1]), "string"))
            case "number":
                decimal = "." in token.text
                value = Decimal(token.text) if decimal else int(token.text)
                return Literal(Item(value, "decimal" if decimal else "integer"))
            case "moment":
                return Literal(_moment(token.text[1:]))
            case "name":
                return Literal(Item(token.text == "true", "boolean"))
            case "constant":
                return Constant(token.text[1:].strip("`'"))
            case "this":
                return This()
        if token.text == "{":
            self.take("}")
            return Literal(None)
        if token.text == "(":
            node = self.expression(0)
            self.take(")")
            return node
        raise self.error(token.position)

    def invocation(self, base: Node) -> Node:
        token = self.take()
        if token.kind != "name":
            raise self.error(token.position)
        name = token.text.strip("`")
        if not self.at("("):
            return Member(base, name)
        self.take("(")
        arguments: list[Node] = []
        while not self.at(")"):
            if arguments:
                self.take(",")
            arguments.append(self.expression(0))
        self.take(")")
        return Call(base, name, tuple(arguments))


def _unescaped(text: str) -> str:
    def one(match: re.Match[str]) -> str:
        code, plain = match.group(1), match.group(2)
        return chr(int(code, 16)) if code else _ESCAPES.get(plain, plain)

    return re.sub(r"\\(?:u([0-9A-Fa-f]{4})|(.))", one, text, flags=re.DOTALL)


def _moment(text: str) -> Item:
    if text.startswith("T"):
        return Item(text[1:], "time")
    return Item(text.rstrip("T"), "dateTime" if "T" in text else "date")
