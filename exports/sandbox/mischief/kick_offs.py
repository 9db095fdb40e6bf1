"""Faults of the kick-off."""

from __future__ import annotations

from typing import Final

from exports.sandbox.mischief.exchange import (
    Act,
    Exchange,
    Fault,
    Reply,
    at,
    tells,
)
from exports.sandbox.order import ORDER


def _rejects(parameter: str) -> Act:
    """A kick-off with that parameter is answered by 400, whatever it prefers."""
    refuse = tells(400, "not-supported")

    async def act(exchange: Exchange) -> Reply:
        asked = f"{exchange.request.url.query}&".encode() + exchange.body
        return await (refuse(exchange) if parameter.encode() in asked else exchange.reply())

    return act


def _only(method: str) -> Act:
    async def act(exchange: Exchange) -> Reply:
        if exchange.request.method == method:
            return await exchange.reply()
        return Reply(405, {"allow": method})

    return act


async def _relative_location(exchange: Exchange) -> Reply:
    reply = await exchange.reply()
    if "content-location" in reply.headers:
        reply.headers["content-location"] = reply.headers["content-location"].removeprefix(
            exchange.root
        )
    return reply


async def _by_patient(exchange: Exchange) -> Reply:
    exchange.asides[ORDER] = {"organize_by": "Patient"}
    return await exchange.reply()


KICK_OFFS: Final = (
    Fault(
        "post-only",
        at("kick-off"),
        "always",
        "An export can't be asked for by GET.",
        "The same request is sent by POST.",
        _only("POST"),
    ),
    Fault(
        "get-only",
        at("kick-off"),
        "always",
        "An export can't be asked for by POST.",
        "The same request is sent by GET.",
        _only("GET"),
    ),
    Fault(
        "rejects-type-filter",
        at("kick-off"),
        "always",
        "Type filters are rejected.",
        "With --allow-wider the filters are left out, which is said, and applied here before "
        "anything is kept; without it the export ends.",
        _rejects("_typeFilter"),
    ),
    Fault(
        "rejects-elements",
        at("kick-off"),
        "always",
        "A choice of elements is rejected.",
        "With --allow-wider whole resources are asked for, which is said, and the elements are "
        "chosen here before anything is kept; without it the export ends.",
        _rejects("_elements"),
    ),
    Fault(
        "rejects-since",
        at("kick-off"),
        "always",
        "A start time is rejected.",
        "With --allow-wider all times are asked for, which is said, and older resources are left "
        "out here; without it the export ends.",
        _rejects("_since"),
    ),
    Fault(
        "rejects-patient",
        at("kick-off"),
        "always",
        "A choice of patients is rejected.",
        "With --allow-wider everybody is asked for, which is said, and the others are left out "
        "here before anything is kept; without it the export ends.",
        _rejects("patient"),
    ),
    Fault(
        "export-forbidden",
        at("kick-off"),
        "always",
        "This client may not export.",
        "The export ends with the status and the code of the server's outcome.",
        tells(403, "forbidden"),
        "clear failure",
    ),
    Fault(
        "content-location-relative",
        at("kick-off"),
        "always",
        "The job's status URL is a relative one.",
        "It is taken from the server's base URL.",
        _relative_location,
    ),
    Fault(
        "organized-by-patient",
        at("kick-off"),
        "always",
        "Files hold blocks of several types, a patient each, though nobody asked for that.",
        "The headers of the blocks are passed over, and each resource lands under its type.",
        _by_patient,
    ),
)
