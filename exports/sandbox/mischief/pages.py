"""Faults of the manifest's pages."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from exports.sandbox.mischief.exchange import (
    RANGED,
    Act,
    Exchange,
    Fault,
    Reply,
    at,
    changes_json,
)

PAGE: Final = re.compile(r"/jobs/[^/]+/pages/(\d+)")
Manifest = dict[str, Any]


def _link_to_itself(exchange: Exchange, manifest: Manifest) -> None:
    job = exchange.path.split("/")[2]
    url = f"{exchange.root}/jobs/{job}/pages/1"
    manifest["link"] = [{"relation": "next", "url": url}]


def _paged(*, same_names: bool, partial: bool) -> Act:
    """Two pages. `same_names`: a file is called alike on both; `partial`: the first comes early."""

    async def act(exchange: Exchange) -> Reply:
        memory, own = exchange.memory, exchange.path
        if exchange.place == "file":
            exchange.path = memory.aliases.get(own, own)
            return await exchange.reply()
        page = PAGE.fullmatch(own)
        number = int(page[1]) if page else 1
        exchange.path = "/".join(own.split("/")[:3])
        reply = await exchange.reply()
        if reply.status != 200:
            return reply
        manifest = orjson.loads(reply.body)
        half = -(-len(manifest["output"]) // 2)
        files = manifest["output"][half:] if number == 2 else manifest["output"][:half]
        if same_names:
            files = [_alias(exchange, entry, number, place) for place, entry in enumerate(files)]
        early = partial and memory.first("partial-manifests", own)
        if early and number == 2:
            return Reply(202, {"retry-after": str(exchange.manner.retry_after)})
        told = {**manifest, "output": files}
        if number == 1 and not early:
            url = f"{exchange.root}{exchange.path}/pages/2"
            told["link"] = [{"relation": "next", "url": url}]
        headers = {name: reply.headers[name] for name in reply.headers if name not in RANGED}
        if early:
            headers["retry-after"] = str(exchange.manner.retry_after)
        return Reply(202 if early else 200, headers, orjson.dumps(told))

    return act


def _alias(exchange: Exchange, entry: Manifest, page: int, place: int) -> Manifest:
    folder = "/".join(exchange.path.split("/")[:3])
    alias = f"{folder}/page-{page}/output-{place}.ndjson"
    exchange.memory.aliases[alias] = urlsplit(entry["url"]).path
    return {**entry, "url": f"{exchange.root}{alias}"}


PAGES: Final = (
    Fault(
        "page-two-same-names",
        at("status", "file"),
        "always",
        "The manifest has a second page, and files are called alike on both.",
        "All pages are read, and every file gets a name of its own.",
        _paged(same_names=True, partial=False),
    ),
    Fault(
        "partial-manifests",
        at("status", "file"),
        "always",
        "Files are listed while others are still being made, and later ones on a further page.",
        "It follows the pages to the last one.",
        _paged(same_names=False, partial=True),
    ),
    Fault(
        "endless-pages",
        at("status"),
        "always",
        "A page of the manifest goes on at itself.",
        "The export ends with a clear failure.",
        changes_json(_link_to_itself),
        "clear failure",
    ),
)
