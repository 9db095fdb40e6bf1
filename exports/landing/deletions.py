"""What the server says was deleted: the `deleted` files of an export, as (type, id).

Source: FHIR Bulk Data Access STU2, "Complete Status", `deleted`: transaction Bundles whose entries
are DELETE requests. Their URLs may be relative, absolute or of one version.
"""

from __future__ import annotations

import gzip
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from exports.landing.ndjson import BYTE_ORDER_MARK
from exports.resource_types import RESOURCE_TYPES

LONGEST_BUNDLE: Final = 2**28
"""Bytes of a line at most: a server may tell all deletions in one Bundle."""


def read_deletions(files: Iterable[Path]) -> Iterator[tuple[str, str] | None]:
    """The (type, id) of each deletion in these files; None for what can't be understood."""
    for path in files:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            for line in iter(partial(file.readline, LONGEST_BUNDLE), b""):
                if bundle := line.removeprefix(BYTE_ORDER_MARK).strip():
                    yield from _of_bundle(bundle)


def _of_bundle(line: bytes) -> Iterator[tuple[str, str] | None]:
    try:
        bundle = orjson.loads(line)
    except orjson.JSONDecodeError:
        bundle = None
    is_bundle = isinstance(bundle, dict) and bundle.get("resourceType") == "Bundle"
    entries = bundle.get("entry", []) if is_bundle else None
    if not isinstance(entries, list):
        yield None
        return
    for entry in entries:
        request = entry.get("request") if isinstance(entry, dict) else None
        yield _deleted(request) if isinstance(request, dict) else None


def _deleted(request: dict[str, Any]) -> tuple[str, str] | None:
    url = request.get("url")
    if request.get("method") != "DELETE" or not isinstance(url, str):
        return None
    try:
        parts = urlsplit(url)
    except ValueError:
        return None
    path = parts.path.partition("/_history")[0].strip("/").split("/")
    if parts.query or len(path) < 2 or path[-2] not in RESOURCE_TYPES or not path[-1]:
        return None
    return path[-2], path[-1]
