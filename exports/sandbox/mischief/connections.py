"""Faults of the way: answers that break off, and what comes of asking for the rest."""

from __future__ import annotations

import gzip
import re
from typing import Final

from exports.sandbox.mischief.exchange import RANGED, Act, Exchange, Fault, Reply, at

SHIFT: Final = 7


async def _ends_early(exchange: Exchange) -> Reply:
    reply = await exchange.whole_reply()
    reply.body = reply.body[: len(reply.body) // 2]
    return _without(reply)


async def _empty(exchange: Exchange) -> Reply:
    reply = await exchange.whole_reply()
    reply.body = b""
    return _without(reply)


async def _too_long_announced(exchange: Exchange) -> Reply:
    reply = _without(await exchange.whole_reply())
    reply.headers["content-length"] = str(len(reply.body) + 100)
    return reply


async def _cut(exchange: Exchange) -> Reply:
    reply = await exchange.whole_reply()
    reply.cut = len(reply.body) // 2
    return _without(reply, keep_length=True)


def _without(reply: Reply, *, keep_length: bool = False) -> Reply:
    """The answer of a server that has no ranges."""
    for name in RANGED - ({"content-length"} if keep_length else set()):
        reply.headers.pop(name, None)
    return reply


def _cut_then(resumed: Act) -> Act:
    """The first answer for a URL breaks off in its middle; `resumed` answers where it goes on."""

    async def act(exchange: Exchange) -> Reply:
        if exchange.wants_range:
            return await resumed(exchange)
        first = exchange.memory.first("cut", exchange.path)
        reply = await exchange.reply()
        if first and reply.status == 200:
            reply.cut = len(reply.body) // 2
        return reply

    return act


async def _as_asked(exchange: Exchange) -> Reply:
    return await exchange.reply()


async def _everything(exchange: Exchange) -> Reply:
    exchange.headers.pop("range")
    return await exchange.reply()


async def _from_earlier(exchange: Exchange) -> Reply:
    """A part that begins too early, and says so."""
    exchange.headers["range"] = re.sub(
        r"(\d+)-", lambda found: f"{max(0, int(found[1]) - SHIFT)}-", exchange.headers["range"]
    )
    return await exchange.reply()


async def _from_earlier_unsaid(exchange: Exchange) -> Reply:
    """A part that begins too early, and says that it doesn't."""
    asked = re.search(r"(\d+)-", exchange.headers["range"])
    reply = await _from_earlier(exchange)
    told = reply.headers.get("content-range", "")
    if asked is not None and told:
        reply.headers["content-range"] = re.sub(r"\d+-", f"{asked[1]}-", told, count=1)
        kept = len(reply.body) - SHIFT
        reply.body = reply.body[:kept]
        reply.headers.pop("content-length", None)
    return reply


async def _of_another_packing(exchange: Exchange) -> Reply:
    """The file has been packed anew: other bytes, another ETag, the same rows."""
    asked = re.search(r"(\d+)-", exchange.headers.pop("range"))
    reply = await exchange.reply()
    body = gzip.compress(reply.plain, 9, mtime=0) if reply.packed else reply.body
    etag = '"packed-anew"'
    reply = Reply(200, {**reply.headers, "etag": etag}, body)
    reply.headers.pop("content-length", None)
    unchanged = exchange.headers.get("if-range", etag) == etag
    if asked is None or not unchanged or int(asked[1]) >= len(body):
        return reply
    start = int(asked[1])
    told = {"content-range": f"bytes {start}-{len(body) - 1}/{len(body)}"}
    return Reply(206, {**reply.headers, **told}, body[start:])


CONNECTIONS: Final = (
    Fault(
        "truncated-gzip",
        at("file"),
        "once a url",
        "A gzip stream ends in its middle, and the answer ends cleanly.",
        "The end of the stream is missed, and the file fetched again.",
        _ends_early,
    ),
    Fault(
        "empty-gzip",
        at("file"),
        "once a url",
        "An answer says gzip and has no body.",
        "The file is fetched again.",
        _empty,
    ),
    Fault(
        "wrong-content-length",
        at("file"),
        "once a url",
        "The length that was announced is not the length that comes.",
        "The file is fetched again.",
        _too_long_announced,
    ),
    Fault(
        "cut-socket",
        at("file"),
        "once a url",
        "The connection is cut in the middle of a file, and there are no ranges.",
        "The file is fetched again from its beginning.",
        _cut,
    ),
    Fault(
        "slow-body-cut-resumable",
        at("file"),
        "always",
        "The connection is cut in the middle of a file, and ranges work.",
        "The rest of the file is fetched.",
        _cut_then(_as_asked),
    ),
    Fault(
        "range-ignored",
        at("file"),
        "always",
        "A cut file is asked for by range, and comes whole.",
        "It is taken from its beginning.",
        _cut_then(_everything),
    ),
    Fault(
        "range-lying",
        at("file"),
        "always",
        "A cut file is asked for by range, and another part of it comes.",
        "The part is not taken, and the file fetched whole.",
        _cut_then(_from_earlier),
    ),
    Fault(
        "range-shifted",
        at("file"),
        "always",
        "A cut file is asked for by range, and another part comes under the name of the right one.",
        "The file, put together, is found broken and fetched whole.",
        _cut_then(_from_earlier_unsaid),
    ),
    Fault(
        "file-repacked-midway",
        at("file"),
        "always",
        "After a cut, the server has packed the file anew: the same rows in other bytes.",
        "The parts are never put together: it is fetched whole.",
        _cut_then(_of_another_packing),
    ),
)
