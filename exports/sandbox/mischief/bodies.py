"""Faults of the files' contents."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any, Final

import orjson

from exports.sandbox.mischief.exchange import (
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
        "html-instead-of-file",
        at("file"),
        "once a url",
        "A page of HTML comes with status 200 where a file should.",
        "The file is fetched again.",
        answers(200, {"content-type": "text/html"}, LOGIN_PAGE),
    ),
)
