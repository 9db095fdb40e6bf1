"""One file over HTTP: from its beginning, or from where it broke, and whole or refused.

Sources: FHIR Bulk Data Access STU2, "File Requests"; RFC 9110, sections 13.1.5 (If-Range) and 14
(Range). httpx doesn't notice a gzip body that ends early but cleanly, so gzip's own end and the
Content-Length are checked here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

import httpx

from exports.bulk.manifest import RemoteFile
from exports.connection.session import Session
from exports.connection.waiting import retry_after
from exports.download.pace import Pace, Stopped
from exports.download.partial import Held, Partial
from exports.landing.delivery import Delivered, take
from exports.landing.ndjson import DamagedGzip

ACCEPT: Final = {"Accept": "application/fhir+ndjson", "Accept-Encoding": "gzip"}
GZIP: Final = frozenset({"gzip", "x-gzip"})
EXPIRED: Final = frozenset({403, 404, 410})
BUSY: Final = frozenset({429, 503})
OUT_OF_RANGE: Final = 416
CONTENT_RANGE: Final = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


class Damaged(Exception):  # noqa: N818 - a state of the bytes, told where it is caught
    """What arrived is not the whole file, and nothing of it can be kept."""


class Broken(Damaged):
    """The connection broke; `gained` are bytes that the next attempt needn't ask for again."""

    def __init__(self, gained: int) -> None:
        super().__init__("the connection broke")
        self.gained = gained


class Refused(Exception):  # noqa: N818 - an answer, acted on where it is caught
    """The server gives the file no longer, at this URL."""

    def __init__(self, status: int) -> None:
        super().__init__(f"The server answered {status}")


class Busy(Exception):  # noqa: N818 - an answer, acted on where it is caught
    """The server wants to be left alone for some `seconds`, if it says how many."""

    def __init__(self, seconds: float | None) -> None:
        super().__init__("The server is busy")
        self.seconds = seconds


def fetch(
    session: Session, remote: RemoteFile, partial: Partial, *, with_token: bool, pace: Pace
) -> Delivered:
    """Fetch `remote` into `partial`, which stands whole and judged when this returns.

    A part that an earlier attempt left is continued where the server vouches that the file is the
    same. Raises `Damaged`, `Refused`, `Busy`, `Stopped`, or `FhirloomError` (server).
    """
    held = partial.resumable(remote.identity)
    ranges = {"Range": f"bytes={held.size}-", "If-Range": held.validator} if held else {}
    with session.stream(
        "GET",
        remote.url,
        what=remote.stem,
        headers={**ACCEPT, **ranges},
        with_token=with_token,
        answers=EXPIRED | BUSY | {OUT_OF_RANGE},
    ) as response:
        if pace.stopped:
            raise Stopped
        if response.status_code in EXPIRED:
            raise Refused(response.status_code)
        if response.status_code in BUSY:
            raise Busy(retry_after(response))
        try:
            held = _continued(response, partial, held)
            if held is None:
                partial.begin(remote.identity, response)
            delivered = _receive(response, remote, partial, held.size if held else 0, pace)
            _check_length(response, delivered, held)
            _check_packing(response, delivered, remote)
        except Broken:
            raise
        except Damaged:
            partial.discard()
            raise
    return delivered


def _continued(response: httpx.Response, partial: Partial, held: Held | None) -> Held | None:
    """The part that the body goes on from, None where it is the whole file.

    Raises `Damaged` where it is neither.
    """
    if response.headers.get("content-encoding", "identity").lower() not in {*GZIP, "identity"}:
        raise Damaged("it is packed in a way that was not asked for")
    if response.status_code == httpx.codes.ACCEPTED:
        raise Damaged("the server has yet to make it")
    if response.status_code == OUT_OF_RANGE:
        raise Damaged("its length changed")
    if response.status_code != httpx.codes.PARTIAL_CONTENT:
        return None
    told = CONTENT_RANGE.fullmatch(response.headers.get("content-range", "").strip())
    if held is None or told is None or int(told[1]) != held.size:
        raise Damaged("another part of it came than the one asked for")
    if not partial.continues(response):
        raise Damaged("it changed on the server")
    return held


def _receive(
    response: httpx.Response, remote: RemoteFile, partial: Partial, start: int, pace: Pace
) -> Delivered:
    def chunks() -> Iterator[bytes]:
        for chunk in response.iter_raw():
            if pace.stopped:
                raise Stopped
            yield chunk

    try:
        return take(chunks(), partial.path, stored=start, identities=partial.identities)
    except DamagedGzip as damage:
        raise Damaged(str(damage)) from None
    except httpx.TransportError:
        held = partial.resumable(remote.identity)
        raise Broken(held.size - start if held else 0) from None


def _check_length(response: httpx.Response, delivered: Delivered, held: Held | None) -> None:
    length = response.headers.get("content-length", "")
    if held is None:
        expected = [length]
    else:
        told = CONTENT_RANGE.fullmatch(response.headers.get("content-range", "").strip())
        end = [] if told is None else [str(int(told[2]) + 1), told[3]]
        expected = [held.total, str(held.size + int(length)) if length.isdigit() else "", *end]
    for number in filter(str.isdigit, expected):
        if int(number) != delivered.bytes:
            raise Damaged(f"{delivered.bytes} of {number} bytes")


def _check_packing(response: httpx.Response, delivered: Delivered, remote: RemoteFile) -> None:
    announced = response.headers.get("content-encoding", "").lower() in GZIP
    empty = delivered.bytes == 0 and remote.count == 0
    if announced and not delivered.gzipped and not empty:
        raise Damaged("it was announced as gzip and isn't")
