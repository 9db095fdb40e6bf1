"""Faults put between the clients and the app: which strike, and the answers they leave."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from random import Random
from typing import Final

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exports.errors import FhirloomError
from exports.sandbox.faults import FAULTS
from exports.sandbox.manner import Manner
from exports.sandbox.mischief.exchange import Exchange, Fault, Memory, Place, Reply

Link = Callable[[Exchange], Awaitable[Reply]]
JOB: Final = re.compile(r"/jobs/[^/]+")
STATUS: Final = re.compile(r"/jobs/[^/]+(/pages/\d+)?")


class Mischief:
    """An app with the faults that `manner` names; without any it is the app itself.

    `root` and `store` are the two origins it is reached at. `memory` tells what happened;
    `faults` are those that still act.
    """

    def __init__(self, app: ASGIApp, manner: Manner, root: str, store: str) -> None:
        if unknown := sorted(set(manner.faults) - FAULTS.keys()):
            raise FhirloomError(
                "bad-input",
                f"There is no fault {unknown[0]}",
                where="fault",
                fix="Name those that `fhirloom sandbox serve --help` lists.",
            )
        self.memory = Memory()
        self._app = app
        self._manner = manner
        self._root, self._store = root, store
        self.faults = [fault for name, fault in FAULTS.items() if name in manner.faults]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, with the faults that strike it."""
        place = _place(scope) if scope["type"] == "http" else None
        if place is None or not self.faults:
            await self._app(scope, receive, _dated(send) if self._manner.faults else send)
            return
        request = Request(scope, receive)
        await _send(await self._struck(request, place), send)

    async def _struck(self, request: Request, place: Place) -> Reply:
        at_store = request.url.port == int(self._store.rpartition(":")[2])
        chain: Link = self._own
        for fault in self.faults:
            if place in fault.where and self._strikes(fault, request):
                chain = self._link(fault, chain)
        exchange = Exchange(
            request,
            place,
            await request.body(),
            request.url.path,
            dict(request.headers),
            self._root,
            self._store,
            at_store,
            self._manner,
            self.memory,
            chain,
        )
        return await exchange.reply()

    def _strikes(self, fault: Fault, request: Request) -> bool:
        if not fault.passing:
            return True
        rate, url = self._manner.rate, f"{request.method} {request.url.path}"
        if rate is None:
            return self.memory.first(fault.name, "" if fault.when == "once" else url)
        # By what is asked for and how often, so that no order of requests changes the outcome.
        asked = f"{fault.name} {JOB.sub('', url)}"
        self.memory.counts[asked] += 1
        drawn = Random(f"{self._manner.seed} {asked} {self.memory.counts[asked]}")  # noqa: S311
        return drawn.random() < rate

    def _link(self, fault: Fault, behind: Link) -> Link:
        async def act(exchange: Exchange) -> Reply:
            self.memory.strikes[fault.name] += 1
            exchange.next = behind
            return await fault.act(exchange)

        return act

    async def _own(self, exchange: Exchange) -> Reply:
        """The app's own answer."""
        scope = dict(exchange.request.scope)
        headers = [(name.encode(), value.encode()) for name, value in exchange.headers.items()]
        scope |= {"path": exchange.path, "raw_path": exchange.path.encode(), "headers": headers}
        scope |= exchange.asides
        reply = Reply(500)
        parts: list[bytes] = []

        unread = [exchange.body]

        async def receive() -> Message:
            if not unread:  # the client stays: wait until whoever listens gives up
                await asyncio.Event().wait()
            return {"type": "http.request", "body": unread.pop(), "more_body": False}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                reply.status = message["status"]
                reply.headers = {n.decode(): v.decode() for n, v in message["headers"]}
            elif message["type"] == "http.response.body":
                parts.append(message.get("body", b""))

        await self._app(scope, receive, send)
        reply.body = b"".join(parts)
        return reply


def _place(scope: Scope) -> Place | None:
    path, method = scope["path"], scope["method"]
    if path.endswith(("/smart-configuration", "/metadata")):
        return "discovery"
    if path == "/token":
        return "token"
    if path.endswith("/$export"):
        return "kick-off"
    if STATUS.fullmatch(path):
        return "end" if method == "DELETE" else "status"
    return "file" if path.startswith("/jobs/") else None


def _dated(send: Send) -> Send:
    """The server's own clock is silent, lest it contradict a fault's."""

    async def dated(message: Message) -> None:
        if message["type"] == "http.response.start":
            date = (b"date", formatdate(time.time(), usegmt=True).encode())
            message = {**message, "headers": [*message["headers"], date]}
        await send(message)

    return dated


async def _send(reply: Reply, send: Send) -> None:
    headers = {
        "date": formatdate(time.time(), usegmt=True),
        "content-length": str(len(reply.body)),
        **reply.headers,
    }
    started = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": reply.status, "headers": started})
    body = reply.body if reply.cut is None else reply.body[: reply.cut]
    more = reply.cut is not None
    await send({"type": "http.response.body", "body": body, "more_body": more})
    if more:
        raise ConnectionError("cut on purpose")
