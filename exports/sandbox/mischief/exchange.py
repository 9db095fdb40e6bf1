"""One request that a fault meddles with, and the answer in its hands."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson
from starlette.requests import Request

from exports.sandbox.manner import Manner

Place = Literal["discovery", "token", "kick-off", "status", "file", "end"]
When = Literal["once", "once a url", "always"]
Outcome = Literal["same records", "clear failure"]
EVERYWHERE: Final[frozenset[Place]] = frozenset(
    {"discovery", "token", "kick-off", "status", "file", "end"}
)


@dataclass
class Reply:
    """A whole answer, header names in lower case; the socket is cut after `cut` bytes of it."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut: int | None = None

    @property
    def packed(self) -> bool:
        """Whether the body is gzip on the wire."""
        return self.headers.get("content-encoding") == "gzip"

    @property
    def plain(self) -> bytes:
        """The body, unpacked."""
        return gzip.decompress(self.body) if self.packed else self.body

    def with_plain(self, body: bytes) -> Reply:
        """The same answer with another body, packed as this one was."""
        headers = {name: self.headers[name] for name in self.headers if name not in RANGED}
        packed = gzip.compress(body, 1, mtime=0) if self.packed else body
        return Reply(self.status, headers, packed)


RANGED: Final = frozenset({"accept-ranges", "etag", "last-modified", "content-length"})
"""Headers that belong to the very bytes of an answer."""


@dataclass
class Memory:
    """What the faults of one server remember."""

    struck: set[tuple[str, str]] = field(default_factory=set)
    strikes: Counter[str] = field(default_factory=Counter)
    """How often each fault has acted."""
    counts: Counter[str] = field(default_factory=Counter)
    aliases: dict[str, str] = field(default_factory=dict)
    tokens: dict[str, float] = field(default_factory=dict)
    authorization: str = ""
    leaks: int = 0
    """Requests to the file store that came with the server's token."""

    def first(self, name: str, key: str) -> bool:
        """Whether this is the first time for that name and key."""
        known = (name, key) in self.struck
        self.struck.add((name, key))
        return not known


@dataclass
class Exchange:
    """A request at one place of the protocol; `root` and `store` are the server's two origins.

    `path` and `headers` are what the next in line is asked with; `asides` are told to the app
    beside the request.
    """

    request: Request
    place: Place
    body: bytes
    path: str
    headers: dict[str, str]
    root: str
    store: str
    at_store: bool
    manner: Manner
    memory: Memory
    next: Callable[[Exchange], Awaitable[Reply]]
    asides: dict[str, Any] = field(default_factory=dict)

    async def reply(self) -> Reply:
        """What the next in line answers."""
        return await self.next(self)

    async def whole_reply(self) -> Reply:
        """The same from a server that knows no ranges."""
        self.headers.pop("range", None)
        return await self.reply()

    @property
    def brings_token(self) -> bool:
        """Whether the client itself came with a token."""
        return "authorization" in self.request.headers

    @property
    def wants_range(self) -> bool:
        """Whether the client asks for a part."""
        return "range" in self.headers


Act = Callable[[Exchange], Awaitable[Reply]]


@dataclass(frozen=True)
class Fault:
    """One thing that servers do.

    `what` says what the server does, `then` what fhirloom does, each in a plain sentence; `when`
    it strikes; `where` in the protocol. A fault that is not `always` there is a passing one.
    """

    name: str
    where: frozenset[Place]
    when: When
    what: str
    then: str
    act: Act
    outcome: Outcome = "same records"

    @property
    def passing(self) -> bool:
        """Whether it goes away by itself."""
        return self.when != "always"


def at(*places: Place) -> frozenset[Place]:
    """The places of a fault."""
    return frozenset(places)


def answers(status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> Act:
    """An act that answers by itself."""

    async def act(exchange: Exchange) -> Reply:
        return Reply(status, dict(headers or {}), body)

    return act


def tells(status: int, code: str, headers: Mapping[str, str] | None = None) -> Act:
    """An act that answers with an OperationOutcome of that issue code."""
    issue = {"severity": "error", "code": code}
    body = orjson.dumps({"resourceType": "OperationOutcome", "issue": [issue]})
    return answers(status, {"content-type": "application/fhir+json", **(headers or {})}, body)


def changes_json(change: Callable[[Exchange, dict[str, Any]], None]) -> Act:
    """An act that changes a JSON answer in place."""

    async def act(exchange: Exchange) -> Reply:
        reply = await exchange.reply()
        if reply.status >= 300 or not reply.body:
            return reply
        value = orjson.loads(reply.body)
        change(exchange, value)
        headers = {name: reply.headers[name] for name in reply.headers if name not in RANGED}
        return Reply(reply.status, headers, orjson.dumps(value))

    return act
