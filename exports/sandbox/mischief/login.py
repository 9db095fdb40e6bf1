"""Faults of discovery, tokens and clocks."""

from __future__ import annotations

import time
from email.utils import formatdate
from typing import Any, Final
from urllib.parse import parse_qs

import orjson

from exports.sandbox.mischief.exchange import (
    Act,
    Exchange,
    Fault,
    Reply,
    at,
    changes_json,
)
from exports.sandbox.smart_server import CLOCK

SUPPORTED: Final = tuple(
    f"system/{name}.read"
    for name in [
        "AllergyIntolerance",
        "Condition",
        "DocumentReference",
        "Encounter",
        "Immunization",
        "MedicationRequest",
        "Observation",
        "Organization",
        "Patient",
        "Practitioner",
        "Procedure",
    ]
)
SHORT_SECONDS: Final = 1.0
SKEW_SECONDS: Final = 600


def _refused(error: str, status: int = 400) -> Reply:
    body = orjson.dumps({"error": error})
    return Reply(status, {"content-type": "application/json"}, body)


def _names_its_scopes(exchange: Exchange, value: dict[str, Any]) -> None:
    value["scopes_supported"] = list(SUPPORTED)


async def _one_unknown_scope(exchange: Exchange) -> Reply:
    if exchange.place == "token":
        asked = parse_qs(exchange.body.decode()).get("scope", [""])[0].split()
        return await exchange.reply() if set(asked) <= set(SUPPORTED) else _refused("invalid_scope")
    if exchange.path.endswith("/smart-configuration"):
        return await changes_json(_names_its_scopes)(exchange)
    return await exchange.reply()


def _hides_its_scopes(exchange: Exchange, value: dict[str, Any]) -> None:
    value.pop("scopes_supported", None)


async def _short_lived(exchange: Exchange) -> Reply:
    memory, token = exchange.memory, exchange.headers.get("authorization", "")
    if exchange.place != "token":
        if memory.tokens.get(token, time.monotonic()) < time.monotonic():
            return Reply(401, {"www-authenticate": "Bearer"})
        return await exchange.reply()
    reply = await exchange.reply()
    if reply.status == 200:
        value = orjson.loads(reply.body)
        memory.tokens[f"Bearer {value['access_token']}"] = time.monotonic() + SHORT_SECONDS
        reply.body = orjson.dumps({**value, "expires_in": int(SHORT_SECONDS)})
        reply.headers.pop("content-length", None)
    return reply


async def _refuses_tokens(exchange: Exchange) -> Reply:
    if exchange.brings_token:
        return Reply(401, {"www-authenticate": "Bearer"})
    return await exchange.reply()


def _by_a_clock_off_by(seconds: int) -> Act:
    async def act(exchange: Exchange) -> Reply:
        exchange.asides[CLOCK] = seconds
        reply = await exchange.reply()
        reply.headers["date"] = formatdate(time.time() + seconds, usegmt=True)
        return reply

    return act


async def _no_metadata(exchange: Exchange) -> Reply:
    if exchange.path.endswith("/metadata"):
        return Reply(404)
    return await exchange.reply()


LOGIN: Final = (
    Fault(
        "no-capability-statement",
        at("discovery"),
        "always",
        "There is no CapabilityStatement.",
        "The generic profile is taken, and the kick-off tells what the server can.",
        _no_metadata,
    ),
    Fault(
        "no-scopes-supported",
        at("discovery"),
        "always",
        "The SMART configuration doesn't name the scopes that it supports.",
        "The scopes of the request are asked for, wildcards where it names no types.",
        changes_json(_hides_its_scopes),
    ),
    Fault(
        "one-unknown-scope",
        at("discovery", "token"),
        "always",
        "A token request is rejected as a whole where one of its scopes is not supported.",
        "Only scopes that the server supports are asked for.",
        _one_unknown_scope,
    ),
    Fault(
        "short-lived-tokens",
        at("token", "kick-off", "status", "file", "end"),
        "always",
        "Tokens are good for one second.",
        "A new token is asked for before each one expires.",
        _short_lived,
    ),
    Fault(
        "token-refused-midway",
        at("status", "file"),
        "once a url",
        "A token is refused long before it should have expired.",
        "A new token is asked for once, and the request sent again.",
        _refuses_tokens,
    ),
    Fault(
        "clock-ahead",
        at("discovery", "token"),
        "always",
        "The server's clock is ten minutes ahead, so that assertions seem expired.",
        "The assertion is dated by the clock in the server's answers.",
        _by_a_clock_off_by(SKEW_SECONDS),
    ),
    Fault(
        "clock-behind",
        at("discovery", "token"),
        "always",
        "The server's clock is ten minutes behind, so that assertions seem to live too long.",
        "The assertion is dated by the clock in the server's answers.",
        _by_a_clock_off_by(-SKEW_SECONDS),
    ),
)
