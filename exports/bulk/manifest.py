"""The server's answer to a completed export: which files there are, and what they should hold.

Source: FHIR Bulk Data Access STU1 to STU4, "Output Manifest". Editions differ in names (`error`
became `outcome`) and in what may be absent; servers differ in how they write a number or a truth.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal
from urllib.parse import urljoin, urlsplit

from exports.errors import FhirloomError
from exports.resource_types import RESOURCE_TYPES

Kind = Literal["files", "errors", "deleted"]
Body = Mapping[str, Any]
MEMBERS: Final[Mapping[str, Kind]] = {
    "output": "files",
    "error": "errors",
    "outcome": "errors",
    "deleted": "deleted",
}
TYPE_NAME: Final = re.compile(r"[A-Z][A-Za-z]{1,63}")
NUMBER: Final = re.compile(r"\s*\d{1,15}\s*")
NAMELESS: Final[Mapping[Kind, str]] = {
    "files": "Resources",
    "errors": "OperationOutcome",
    "deleted": "Bundle",
}


@dataclass(frozen=True)
class RemoteFile:
    """One file of the manifest.

    `kind` is the folder it goes to, `stem` its name there without ending, unique in the export.
    `type` is "" where it isn't told; `count` are its rows and `size` its bytes, where told;
    `severities` are (severity, how many) of the OperationOutcomes in it.
    """

    kind: Kind
    stem: str
    type: str
    url: str
    count: int | None
    size: int | None = None
    severities: tuple[tuple[str, int], ...] = ()

    @property
    def identity(self) -> str:
        """The file's URL without its query: signatures change, the file doesn't."""
        return _identity(self.url)


@dataclass(frozen=True)
class ExportManifest:
    """What a completed export delivers, over all pages of its manifest.

    `organized_by` is the type that the files are organized by, or ""; `extensions` are what the
    server added to each page, as it wrote it.
    """

    transaction_time: datetime
    with_token: bool
    files: tuple[RemoteFile, ...]
    organized_by: str = ""
    extensions: tuple[Any, ...] = ()

    @property
    def server_rows(self) -> dict[str, int] | None:
        """Rows by type as the server counted them; None unless every file has type and count."""
        rows: Counter[str] = Counter()
        for file in self.files:
            if file.kind == "files":
                if file.count is None or not file.type or self.organized_by:
                    return None
                rows[file.type] += file.count
        return dict(sorted(rows.items()))


def read_manifest(
    pages: Sequence[Body], base: str, *, zoneless_is_utc: bool = False
) -> ExportManifest:
    """The manifest in the bodies of its pages; relative URLs are taken from `base`.

    Raises `FhirloomError` (server) for one that breaks the protocol.
    """
    try:
        entries = list(_entries(pages, base))
        return ExportManifest(
            transaction_time=min(_instant(page, zoneless_is_utc) for page in pages),
            with_token=any(_is_true(page.get("requiresAccessToken")) for page in pages),
            files=tuple(
                _remote_file(kind, url, entry, number)
                for number, (kind, url, entry) in enumerate(entries, start=1)
            ),
            organized_by=next(filter(None, map(_organized_by, pages)), ""),
            extensions=tuple(page["extension"] for page in pages if page.get("extension")),
        )
    except (LookupError, TypeError, ValueError, AttributeError):
        raise _broken("lacks what the protocol demands") from None


def next_page(page: Body, base: str) -> str | None:
    """The URL at which the manifest goes on, or None. Raises `FhirloomError` (server)."""
    for link in page.get("link") or ():
        if isinstance(link, dict) and link.get("relation") == "next":
            try:
                return absolute_url(base, link["url"])
            except (LookupError, TypeError, ValueError, AttributeError):
                raise _broken("goes on at something that is no URL") from None
    return None


def file_urls(page: Body) -> set[str]:
    """The URLs on a page, as the server wrote them. Raises `FhirloomError` (server)."""
    try:
        return {entry["url"] for _, entry in _listed(page)}
    except (LookupError, TypeError, ValueError, AttributeError):
        raise _broken("lacks what the protocol demands") from None


def with_partials(pages: Sequence[Body], partials: Sequence[Body]) -> list[Body]:
    """The complete manifest's pages, and of partial ones what the complete one lacks.

    By the protocol that is nothing; from a server that tells each file only once, it is all that
    was told before. Raises `FhirloomError` (server) for bodies that break the protocol.
    """
    told = {url for page in pages for url in file_urls(page)}
    try:
        known = told | (set(map(_identity, told)) - _shared_paths([*pages, *partials]))
        extra = []
        for partial in partials:
            new = {
                member: [
                    entry
                    for entry in partial.get(member) or ()
                    if known.isdisjoint((entry["url"], _identity(entry["url"])))
                ]
                for member in MEMBERS
            }
            if any(new.values()):
                extra.append({**partial, **new})
    except (LookupError, TypeError, ValueError, AttributeError):
        raise _broken("lacks what the protocol demands") from None
    return [*pages, *extra]


def _shared_paths(bodies: Sequence[Body]) -> set[str]:
    """URLs without query that stand for several files: some servers name a file in its query."""
    paths = (Counter(map(_identity, file_urls(body))) for body in bodies)
    return {path for found in paths for path, files in found.items() if files > 1}


def absolute_url(base: str, url: str) -> str:
    """`url` taken from `base` where it is relative. Raises `ValueError` unless it is http(s)."""
    absolute = urljoin(f"{base}/", url)
    parts = urlsplit(absolute)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:
        raise ValueError("not an http(s) URL")
    return absolute


def _entries(pages: Sequence[Body], base: str) -> Iterator[tuple[Kind, str, Body]]:
    """Each file once, with its absolute URL: some servers list one twice."""
    seen: set[tuple[Kind, str]] = set()
    for page in pages:
        for kind, entry in _listed(page):
            url = absolute_url(base, entry["url"])
            if (kind, url) not in seen:
                seen.add((kind, url))
                yield kind, url, entry


def _listed(page: Body) -> Iterator[tuple[Kind, Body]]:
    for member, kind in MEMBERS.items():
        for entry in page.get(member) or ():
            yield kind, entry


def _remote_file(kind: Kind, url: str, entry: Body, number: int) -> RemoteFile:
    told = entry.get("type") or ""
    if told and not TYPE_NAME.fullmatch(told):
        raise ValueError("not a type's name")
    # A word of the server's own could be a name, and this one is told in the open.
    known = told if told in RESOURCE_TYPES else ""
    return RemoteFile(
        kind=kind,
        stem=f"{known or NAMELESS[kind]}.{number:04d}",
        type=known,
        url=url,
        count=_number(entry.get("count")),
        size=_number(entry.get("fileSize")),
        severities=_severities(entry.get("countSeverity")),
    )


def _severities(told: Any) -> tuple[tuple[str, int], ...]:
    """From {"error": 3} (STU3) or [{"code": "error", "count": 3}] (STU4)."""
    if isinstance(told, dict):
        pairs = list(told.items())
    else:
        listed = [entry for entry in told or () if isinstance(entry, dict)]
        pairs = [
            (entry.get("code") or entry.get("severity"), entry.get("count")) for entry in listed
        ]
    counted = [(name, _number(count)) for name, count in pairs if isinstance(name, str)]
    return tuple(sorted((name, count) for name, count in counted if count is not None))


def _number(value: Any) -> int | None:
    """A count that may be written as a string; None for what is no count."""
    return int(value) if not isinstance(value, bool) and NUMBER.fullmatch(str(value)) else None


def _is_true(value: Any) -> bool:
    return value is True or (isinstance(value, str) and value.strip().lower() == "true")


def _instant(page: Body, zoneless_is_utc: bool) -> datetime:
    time = datetime.fromisoformat(page["transactionTime"])
    if time.tzinfo is not None:
        return time
    if not zoneless_is_utc:
        raise ValueError("no zone")
    return time.replace(tzinfo=UTC)


def _organized_by(page: Body) -> str:
    told = page.get("outputOrganizedBy")
    return told if isinstance(told, str) else ""


def _identity(url: str) -> str:
    return urlsplit(url)._replace(query="").geturl()


def _broken(how: str) -> FhirloomError:
    return FhirloomError(
        "server",
        f"The export's manifest {how}",
        where="the export's status",
        fix="Ask the server's operator which version of Bulk Data Access it speaks.",
    )
