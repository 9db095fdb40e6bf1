"""The server's answer to a completed export: which files there are, and what they should hold.

Source: FHIR Bulk Data Access STU2, "Complete Status" and "Output File Item".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from urllib.parse import urljoin, urlsplit

from exports.errors import FhirloomError
from exports.resource_types import RESOURCE_TYPES

Kind = Literal["files", "errors", "deleted"]
MEMBERS: Final[Mapping[str, Kind]] = {"output": "files", "error": "errors", "deleted": "deleted"}


@dataclass(frozen=True)
class RemoteFile:
    """One file of the manifest: `kind` is the folder it goes to; `count` its rows, if told."""

    kind: Kind
    stem: str
    type: str
    url: str
    count: int | None

    @property
    def identity(self) -> str:
        """The file's URL without its query: signatures change, the file doesn't."""
        return urlsplit(self.url)._replace(query="").geturl()


@dataclass(frozen=True)
class ExportManifest:
    """What a completed export delivers; `server_rows` is None unless every file has a count."""

    transaction_time: datetime
    with_token: bool
    files: tuple[RemoteFile, ...]

    @property
    def server_rows(self) -> dict[str, int] | None:
        """Rows by type, as the server counted them."""
        rows: Counter[str] = Counter()
        for file in self.files:
            if file.kind == "files":
                if file.count is None:
                    return None
                rows[file.type] += file.count
        return dict(sorted(rows.items()))


def read_manifest(body: Mapping[str, Any], base: str) -> ExportManifest:
    """The manifest in a status answer's body; relative URLs are taken from `base`.

    Raises `FhirloomError` (server) for one that breaks the protocol or that goes on elsewhere.
    """
    links = body.get("link") or []
    if any(isinstance(link, dict) and link.get("relation") == "next" for link in links):
        raise _broken("goes on at another URL, which was not asked for")
    try:
        time = datetime.fromisoformat(body["transactionTime"])
        if time.tzinfo is None:
            raise ValueError("no zone")
        files = [
            (kind, entry) for member, kind in MEMBERS.items() for entry in body.get(member) or []
        ]
        return ExportManifest(
            transaction_time=time,
            with_token=bool(body.get("requiresAccessToken", False)),
            files=tuple(
                _remote_file(kind, entry, number, base)
                for number, (kind, entry) in enumerate(files, start=1)
            ),
        )
    except (LookupError, TypeError, ValueError, AttributeError):
        raise _broken("lacks what the protocol demands") from None


def absolute_url(base: str, url: str) -> str:
    """`url` taken from `base` where it is relative. Raises `ValueError` unless it is http(s)."""
    absolute = urljoin(f"{base}/", url)
    parts = urlsplit(absolute)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError("not an http(s) URL")
    return absolute


def _remote_file(kind: Kind, entry: Mapping[str, Any], number: int, base: str) -> RemoteFile:
    resource_type, count = entry["type"], entry.get("count")
    if resource_type not in RESOURCE_TYPES:
        raise ValueError("unknown type")
    return RemoteFile(
        kind=kind,
        stem=f"{resource_type}.{number:04d}",
        type=resource_type,
        url=absolute_url(base, entry["url"]),
        count=None if count is None else int(count),
    )


def _broken(how: str) -> FhirloomError:
    return FhirloomError(
        "server",
        f"The export's manifest {how}",
        where="the export's status",
        fix="Ask the server's operator which version of Bulk Data Access it speaks.",
    )
