"""Faults of the files' URLs: where they lead, who is let in there, and for how long."""

from __future__ import annotations

from hashlib import sha256
from typing import Any, Final

from exports.sandbox.mischief.exchange import (
    Exchange,
    Fault,
    Reply,
    at,
    changes_json,
)
from exports.sandbox.mischief.pages import PAGE

GONE: Final = (403, 404, 410)
Manifest = dict[str, Any]


async def _no_token(exchange: Exchange) -> Reply:
    """Files are refused to whoever brings a token, and the flag is a text."""
    if exchange.place == "file":
        return Reply(400) if exchange.brings_token else await _admitted(exchange)
    _remember(exchange)

    def spell(_: Exchange, manifest: Manifest) -> None:
        manifest["requiresAccessToken"] = "false"

    return await changes_json(spell)(exchange)


def _relative(exchange: Exchange, manifest: Manifest) -> None:
    for entry in manifest["output"]:
        entry["url"] = entry["url"].removeprefix(exchange.root)


async def _expired(exchange: Exchange) -> Reply:
    """Files of the first manifest are there no more; those of the second are."""
    memory = exchange.memory
    if exchange.place == "status":
        job = exchange.path.split("/")[2]
        if not PAGE.fullmatch(exchange.path):
            memory.counts[job] += 1

        def sign(_: Exchange, manifest: Manifest) -> None:
            for entry in manifest["output"]:
                entry["url"] += f"?signature={memory.counts[job]}"

        return await changes_json(sign)(exchange)
    if exchange.request.query_params.get("signature") == "1":
        return Reply(GONE[sha256(exchange.path.split("/")[-1].encode()).digest()[0] % len(GONE)])
    return await exchange.reply()


async def _redirect(exchange: Exchange) -> Reply:
    if not exchange.at_store:
        _remember(exchange)
        query = exchange.request.url.query
        url = f"{exchange.store}{exchange.request.url.path}" + (f"?{query}" if query else "")
        return Reply(307, {"location": url})
    return await _from_store(exchange)


async def _from_store(exchange: Exchange) -> Reply:
    if exchange.brings_token:
        exchange.memory.leaks += 1
        return Reply(400)
    return await _admitted(exchange)


def _remember(exchange: Exchange) -> None:
    """Keep the client's own token, to let it in later where it brings none."""
    if exchange.brings_token:
        exchange.memory.authorization = exchange.headers["authorization"]


async def _admitted(exchange: Exchange) -> Reply:
    exchange.headers["authorization"] = exchange.memory.authorization
    return await exchange.reply()


async def _elsewhere(exchange: Exchange) -> Reply:
    if exchange.place == "file":
        return await (_from_store(exchange) if exchange.at_store else exchange.reply())
    _remember(exchange)

    def move(_: Exchange, manifest: Manifest) -> None:
        for entry in manifest["output"]:
            entry["url"] = exchange.store + entry["url"].removeprefix(exchange.root)

    return await changes_json(move)(exchange)


URLS: Final = (
    Fault(
        "no-token-as-string",
        at("status", "file"),
        "always",
        'Whether files need a token is told by the text "false", and a token is refused.',
        "It is read as false, and no token is sent.",
        _no_token,
    ),
    Fault(
        "expired-urls",
        at("status", "file"),
        "always",
        "File URLs have expired, until the manifest is fetched again.",
        "The manifest is fetched again, and files that are here already are kept.",
        _expired,
    ),
    Fault(
        "relative-urls",
        at("status"),
        "always",
        "File URLs are relative ones.",
        "They are taken from the server's base URL.",
        changes_json(_relative),
    ),
    Fault(
        "files-elsewhere",
        at("status", "file"),
        "always",
        "Files lie at another origin, which must not see the token, though the manifest says that "
        "one is needed.",
        "The token goes to the server's own origin, and to those that the operator named.",
        _elsewhere,
    ),
    Fault(
        "redirect-to-store",
        at("file"),
        "always",
        "A file URL is answered by a redirect to another origin, which must not see the token.",
        "The redirect is followed without the token.",
        _redirect,
    ),
)
