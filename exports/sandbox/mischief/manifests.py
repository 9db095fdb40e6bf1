"""Faults of the manifest: its members, its pages, its URLs."""

from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from typing import Any, Final

import orjson

from exports.sandbox.mischief.exchange import (
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
        "Types that were asked for and have no file are named in the report; with "
        "--policy missing-type=fail the export ends.",
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
)
