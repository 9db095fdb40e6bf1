"""Faults of polling, of the job itself, and of its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from email.utils import formatdate
from typing import Final

from exports.sandbox.mischief.exchange import (
    EVERYWHERE,
    Act,
    Exchange,
    Fault,
    Reply,
    answers,
    at,
    tells,
)

HTML: Final = b"<!DOCTYPE html><html><title>502 Bad Gateway</title><h1>Bad Gateway</h1></html>"
IN_PARALLEL: Final = 2


def _still_working(headers: Callable[[], Mapping[str, str]]) -> Act:
    async def act(exchange: Exchange) -> Reply:
        return Reply(202, {"x-progress": "in progress", **headers()})

    return act


async def _rate_limit(exchange: Exchange) -> Reply:
    memory, pause = exchange.memory, str(exchange.manner.retry_after)
    if exchange.place != "file":
        if memory.first("rate-limit", exchange.place):
            return Reply(429, {"retry-after": pause})
        return await exchange.reply()
    if memory.counts["in flight"] >= IN_PARALLEL:
        return Reply(429, {"retry-after": pause})
    memory.counts["in flight"] += 1
    try:
        await asyncio.sleep(0.005)
        return await exchange.reply()
    finally:
        memory.counts["in flight"] -= 1


async def _lost_midway(exchange: Exchange) -> Reply:
    """The job of the first file that is asked for is gone from then on."""
    job = exchange.path.split("/")[2]
    if exchange.place == "file" and exchange.memory.first("job-lost-midway", "job"):
        exchange.memory.aliases["job-lost-midway"] = job
    lost = exchange.memory.aliases.get("job-lost-midway") == job
    return Reply(404) if lost else await exchange.reply()


STATUSES: Final = (
    Fault(
        "rate-limit",
        at("kick-off", "status", "file"),
        "always",
        "The first kick-off, the first poll and every file beyond two at a time get a 429.",
        "It waits as long as Retry-After says, and asks for fewer files at a time.",
        _rate_limit,
    ),
    Fault(
        "retry-after-epoch",
        at("status"),
        "once a url",
        "Retry-After is a moment as seconds since 1970.",
        "What is left until then is waited, and never longer than the longest pause.",
        _still_working(lambda: {"retry-after": str(int(time.time()) + 1)}),
    ),
    Fault(
        "retry-after-hours",
        at("status"),
        "once a url",
        "Retry-After asks for a pause of many hours.",
        "Pauses grow with the wait so far, up to the longest, and the status is asked for.",
        _still_working(lambda: {"retry-after": "86400"}),
    ),
    Fault(
        "retry-after-date",
        at("status"),
        "once a url",
        "Retry-After is a date.",
        "It waits until then.",
        _still_working(lambda: {"retry-after": formatdate(time.time() + 1, usegmt=True)}),
    ),
    Fault(
        "retry-after-garbage",
        at("status"),
        "once a url",
        "Retry-After is neither a number nor a date.",
        "It waits as if none had been told.",
        _still_working(lambda: {"retry-after": "soon"}),
    ),
    Fault(
        "no-retry-after",
        at("status"),
        "once a url",
        "No Retry-After is told.",
        "Pauses grow from poll to poll.",
        _still_working(dict),
    ),
    Fault(
        "transient-outcome",
        at("status"),
        "once a url",
        "The status fails with 500 and an outcome that calls itself transient.",
        "The status is asked for again; the job goes on.",
        tells(500, "transient"),
    ),
    Fault(
        "bare-500-once",
        at("status"),
        "once a url",
        "The status fails with 500 and nothing else.",
        "The status is asked for again, a few times.",
        answers(500),
    ),
    Fault(
        "job-failed",
        at("status"),
        "always",
        "The job failed on the server, and its outcome says so.",
        "The export ends with the status and the code of the server's outcome.",
        tells(500, "exception"),
        "clear failure",
    ),
    Fault(
        "bad-gateway",
        EVERYWHERE,
        "once a url",
        "A proxy in between answers 502 with a page of HTML.",
        "The request is sent again.",
        answers(502, {"content-type": "text/html"}, HTML),
    ),
    Fault(
        "job-lost",
        at("status"),
        "once",
        "The server forgot the job.",
        "The export is asked for again, once, and its files are fetched anew.",
        tells(404, "not-found"),
    ),
    Fault(
        "job-lost-midway",
        at("status", "file"),
        "always",
        "The server forgets the job, with its files, once the first of them is asked for.",
        "The export is asked for again.",
        _lost_midway,
    ),
)

ENDS: Final = (
    Fault(
        "delete-404",
        at("end"),
        "always",
        "The finished job can't be deleted: the server says that there is none.",
        "Nothing: all is safe by then.",
        tells(404, "not-found"),
    ),
    Fault(
        "delete-500",
        at("end"),
        "always",
        "The finished job can't be deleted: the server fails.",
        "Nothing: all is safe by then.",
        answers(500),
    ),
)
