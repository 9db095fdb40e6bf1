"""Faults of the files: what their bytes are, and how they break off."""

from __future__ import annotations

import base64
import gzip
import re
from collections.abc import Callable
from typing import Any, Final

import orjson

from exports.sandbox.mischief.exchange import (
    RANGED,
    Act,
    Exchange,
    Fault,
    Reply,
    answers,
    at,
    changes_json,
)

REPEATED_ROWS: Final = 3
SHIFT: Final = 7
BOM: Final = b"\xef\xbb\xbf"
BAD_LINES: Final = (b'{"resourceType":"Patient","id":', b"7")
LOGIN_PAGE: Final = b"<!DOCTYPE html><html><title>Sign in</title><form></form></html>"


def _rewrites(rewrite: Callable[[bytes], bytes]) -> Act:
    """Another content, packed as before, from a server that knows no ranges."""

    async def act(exchange: Exchange) -> Reply:
        reply = await exchange.whole_reply()
        return reply.with_plain(rewrite(reply.plain)) if reply.status == 200 else reply

    return act


def _recounts(rewrite: Callable[[bytes], bytes], more: Callable[[int], int]) -> Act:
    """Another content, with a manifest that counts `more` rows than the file had."""

    def count(exchange: Exchange, manifest: dict[str, Any]) -> None:
        for entry in manifest.get("output", []):
            if "count" in entry:
                rows = int(entry["count"])
                entry["count"] = type(entry["count"])(rows + more(rows))

    async def act(exchange: Exchange) -> Reply:
        if exchange.place == "status":
            return await changes_json(count)(exchange)
        return await _rewrites(rewrite)(exchange)

    return act


def _without_last_row(body: bytes) -> bytes:
    return b"".join(body.splitlines(keepends=True)[:-1])


def _repeating(body: bytes) -> bytes:
    rows = body.splitlines(keepends=True)
    return b"".join([*rows, *rows[:REPEATED_ROWS]])


def _with_bad_lines(body: bytes) -> bytes:
    return b"\n".join([BAD_LINES[0], body.rstrip(b"\n"), BAD_LINES[1], b""])


def _with_blanks(body: bytes) -> bytes:
    return b"\r\n" + body.replace(b"\n", b"\r\n\r\n")


async def _without_header(exchange: Exchange) -> Reply:
    reply = await exchange.whole_reply()
    reply.headers.pop("content-encoding", None)
    return reply


async def _unpacked(exchange: Exchange) -> Reply:
    exchange.headers["accept-encoding"] = "identity"
    return await exchange.whole_reply()


async def _in_binary(exchange: Exchange) -> Reply:
    reply = await _unpacked(exchange)
    if reply.status != 200:
        return reply
    resource = {
        "resourceType": "Binary",
        "contentType": "application/fhir+ndjson",
        "data": base64.b64encode(reply.body).decode(),
    }
    return Reply(200, {"content-type": "application/fhir+json"}, orjson.dumps(resource))


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


BODIES: Final = (
    Fault(
        "repeated-rows-counts-agree",
        at("status", "file"),
        "always",
        "Rows are repeated within a file, and its count agrees.",
        "The file is kept as it came; rows and distinct ids are told apart in the report.",
        _recounts(_repeating, lambda count: min(REPEATED_ROWS, count)),
    ),
    Fault(
        "bad-lines",
        at("status", "file"),
        "always",
        "Among the rows are lines that are no resource.",
        "They are set aside with line, offset and reason, and counted; the rest is read.",
        _recounts(_with_bad_lines, lambda count: len(BAD_LINES)),
    ),
    Fault(
        "byte-order-mark",
        at("file"),
        "always",
        "A file begins with a byte order mark.",
        "It is passed over.",
        _rewrites(lambda body: BOM + body),
    ),
    Fault(
        "blank-lines-and-crlf",
        at("file"),
        "always",
        "Lines end as on Windows, and blank ones are in between.",
        "Blank lines are no rows.",
        _rewrites(_with_blanks),
    ),
    Fault(
        "no-final-newline",
        at("file"),
        "always",
        "The last row has no line feed.",
        "It is a row all the same.",
        _rewrites(lambda body: body.rstrip(b"\n")),
    ),
    Fault(
        "gzip-without-header",
        at("file"),
        "always",
        "A file is gzip, and no header says so.",
        "It is known by its first bytes.",
        _without_header,
    ),
    Fault(
        "identity-only",
        at("file"),
        "always",
        "Files are not packed on the wire.",
        "They are stored as they come.",
        _unpacked,
    ),
    Fault(
        "binary-wrapped",
        at("file"),
        "always",
        "A file is a Binary resource, with the rows in base64.",
        "It is unwrapped before it is judged.",
        _in_binary,
    ),
    Fault(
        "short-file",
        at("file"),
        "once a url",
        "The last row is missing; the stream itself is whole.",
        "The count tells, and the file is fetched again.",
        _rewrites(_without_last_row),
    ),
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
        "html-instead-of-file",
        at("file"),
        "once a url",
        "A page of HTML comes with status 200 where a file should.",
        "The file is fetched again.",
        answers(200, {"content-type": "text/html"}, LOGIN_PAGE),
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
