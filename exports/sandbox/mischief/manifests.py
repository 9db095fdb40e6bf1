"""Faults of the manifest: its members, its pages, its URLs."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from hashlib import sha256
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

TINY_ROWS: Final = 10
PART: Final = re.compile(r"(?P<job>/jobs/[^/]+)/rows-(?P<first>\d+)/(?P<name>[^/]+)")
PAGE: Final = re.compile(r"/jobs/[^/]+/pages/(\d+)")
GONE: Final = (403, 404, 410)
Manifest = dict[str, Any]


def _changes(change: Callable[[Manifest], None]) -> Act:
    return changes_json(lambda exchange, manifest: change(manifest))


def _forget_errors(manifest: Manifest) -> None:
    manifest.pop("error", None)
    manifest.pop("outcome", None)


def _null_errors(manifest: Manifest) -> None:
    manifest["error"] = manifest["deleted"] = None


def _spell_counts(manifest: Manifest) -> None:
    for entry in manifest["output"]:
        entry["count"] = str(entry["count"])


def _no_counts(manifest: Manifest) -> None:
    for entry in manifest["output"]:
        del entry["count"]


def _count_wrong(manifest: Manifest) -> None:
    manifest["output"][-1]["count"] += 1


def _drop_single_row(manifest: Manifest) -> None:
    if manifest["output"] and manifest["output"][-1]["count"] == 1:
        manifest["output"].pop()


def _repeat_file(manifest: Manifest) -> None:
    manifest["output"].append(manifest["output"][0])


def _mislabel(manifest: Manifest) -> None:
    if "outputOrganizedBy" not in manifest:
        manifest["output"][0]["type"] = manifest["output"][-1]["type"]


def _spell_token(manifest: Manifest) -> None:
    manifest["requiresAccessToken"] = "true"


async def _no_token(exchange: Exchange) -> Reply:
    """Files are refused to whoever brings a token, and the flag is a text."""
    if exchange.place == "file":
        return Reply(400) if exchange.brings_token else await _admitted(exchange)
    _remember(exchange)

    def spell(manifest: Manifest) -> None:
        manifest["requiresAccessToken"] = "false"

    return await _changes(spell)(exchange)


def _link_to_itself(exchange: Exchange, manifest: Manifest) -> None:
    job = exchange.path.split("/")[2]
    url = f"{exchange.root}/jobs/{job}/pages/1"
    manifest["link"] = [{"relation": "next", "url": url}]


def _relative(exchange: Exchange, manifest: Manifest) -> None:
    for entry in manifest["output"]:
        entry["url"] = entry["url"].removeprefix(exchange.root)


async def _tiny_files(exchange: Exchange) -> Reply:
    if exchange.place == "file":
        part = PART.fullmatch(exchange.path)
        if part is None:
            return await exchange.reply()
        exchange.path = f"{part['job']}/{part['name']}"
        reply = await exchange.whole_reply()
        rows = reply.plain.splitlines(keepends=True)
        first = int(part["first"])
        return reply.with_plain(b"".join(rows[first : first + TINY_ROWS]))

    def split(manifest: Manifest) -> None:
        entries = manifest["output"]
        manifest["output"] = []
        for entry in entries:
            folder, _, name = entry["url"].rpartition("/")
            for first in range(0, entry["count"], TINY_ROWS):
                count = min(TINY_ROWS, entry["count"] - first)
                part = {**entry, "url": f"{folder}/rows-{first}/{name}", "count": count}
                part.pop("fileSize", None)
                manifest["output"].append(part)

    return await _changes(split)(exchange)


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


async def _expired(exchange: Exchange) -> Reply:
    """Files of the first manifest are there no more; those of the second are."""
    memory = exchange.memory
    if exchange.place == "status":
        job = exchange.path.split("/")[2]
        if not PAGE.fullmatch(exchange.path):
            memory.counts[job] += 1

        def sign(manifest: Manifest) -> None:
            for entry in manifest["output"]:
                entry["url"] += f"?signature={memory.counts[job]}"

        return await _changes(sign)(exchange)
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

    def move(manifest: Manifest) -> None:
        for entry in manifest["output"]:
            entry["url"] = exchange.store + entry["url"].removeprefix(exchange.root)

    return await _changes(move)(exchange)


def _lists_extra(member: str, entry: Manifest, body: bytes) -> Act:
    """A file more, under a member of the manifest; `member` "error" is "outcome" in STU4."""

    async def act(exchange: Exchange) -> Reply:
        if exchange.place == "file":
            if exchange.path.endswith(f"/extra-{member}.ndjson"):
                headers = {"content-type": "application/fhir+ndjson", "content-encoding": "gzip"}
                return Reply(200, headers, gzip.compress(body, mtime=0))
            return await exchange.reply()
        newest = exchange.manner.version == "STU4"
        name = "outcome" if newest and member == "error" else member

        def add(manifest: Manifest) -> None:
            job = exchange.path.split("/")[2]
            url = f"{exchange.root}/jobs/{job}/extra-{member}.ndjson"
            told = {key: value for key, value in entry.items() if newest or key != "countSeverity"}
            manifest[name] = [*(manifest.get(name) or []), {**told, "url": url}]

        return await _changes(add)(exchange)

    return act


_OUTCOMES: Final = b"".join(
    orjson.dumps(
        {"resourceType": "OperationOutcome", "issue": [{"severity": severity, "code": "timeout"}]}
    )
    + b"\n"
    for severity in ("error", "warning", "warning")
)
_DELETIONS: Final = orjson.dumps(
    {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [{"request": {"method": "DELETE", "url": f"Patient/gone-{n}"}} for n in range(2)],
    },
    option=orjson.OPT_APPEND_NEWLINE,
)
_SEVERITIES: Final = [{"code": "error", "count": 1}, {"code": "warning", "count": 2}]

MANIFESTS: Final = (
    Fault(
        "many-tiny-files",
        at("status", "file"),
        "always",
        "There are many files of few rows.",
        "They are fetched in parallel, each with a record of its own.",
        _tiny_files,
    ),
    Fault(
        "type-missing-single-row",
        at("status"),
        "always",
        "The last type is left out where it has a single row.",
        "Types that were asked for and have no file are named in the report.",
        _changes(_drop_single_row),
        "clear failure",
    ),
    Fault(
        "repeated-file-url",
        at("status"),
        "always",
        "One file is listed twice.",
        "It is fetched once.",
        _changes(_repeat_file),
    ),
    Fault(
        "wrong-type-rows",
        at("status"),
        "always",
        "A file holds another type than the manifest says.",
        "Each resource lands under its own type, and the disagreement is reported.",
        _changes(_mislabel),
    ),
    Fault(
        "wrong-count",
        at("status"),
        "always",
        "A file never has as many rows as the manifest counts.",
        "It is fetched a few times; then the export ends as incomplete, and nothing is sealed.",
        _changes(_count_wrong),
        "clear failure",
    ),
    Fault(
        "outcome-files",
        at("status", "file"),
        "always",
        "Some of it went wrong on the server, which tells so in files of outcomes.",
        "The outcomes are kept beside the data, and counted by severity in the report.",
        _lists_extra(
            "error",
            {"type": "OperationOutcome", "count": 3, "countSeverity": _SEVERITIES},
            _OUTCOMES,
        ),
    ),
    Fault(
        "deleted-bundles",
        at("status", "file"),
        "always",
        "Deletions are told, in Bundles whose type the manifest does not name.",
        "They are kept beside the data, and applied by a merge.",
        _lists_extra("deleted", {"count": 1}, _DELETIONS),
    ),
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
    Fault(
        "never-error-member",
        at("status"),
        "always",
        "The manifest has no error member.",
        "It is taken as empty.",
        _changes(_forget_errors),
    ),
    Fault(
        "error-member-null",
        at("status"),
        "always",
        "Members of the manifest are null.",
        "They are taken as empty.",
        _changes(_null_errors),
    ),
    Fault(
        "requires-token-as-string",
        at("status"),
        "always",
        'Whether files need a token is told by the text "true".',
        "It is read as true.",
        _changes(_spell_token),
    ),
    Fault(
        "no-token-as-string",
        at("status", "file"),
        "always",
        'Whether files need a token is told by the text "false", and a token is refused.',
        "It is read as false, and no token is sent.",
        _no_token,
    ),
    Fault(
        "count-as-string",
        at("status"),
        "always",
        "Counts are texts.",
        "They are read as numbers.",
        _changes(_spell_counts),
    ),
    Fault(
        "no-counts",
        at("status"),
        "always",
        "Rows are not counted by the server.",
        "Lengths and the end of the gzip stream are checked; the report says that nobody counted.",
        _changes(_no_counts),
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
