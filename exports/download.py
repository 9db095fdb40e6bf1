"""Downloads that are whole or refused: stored as they came, judged on the way, counted.

Source: FHIR Bulk Data Access STU2, "File Requests". httpx doesn't notice a gzip body that ends
early but cleanly, so gzip's own end, the Content-Length and the manifest's count are checked.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx
import orjson

from exports.delivery import Delivered, take
from exports.durable import sync_folder, write_json_durably
from exports.errors import FhirloomError
from exports.manifest import RemoteFile
from exports.ndjson import DamagedGzip
from exports.session import Session
from exports.transport import Patience

ATTEMPTS: Final = 4
HEADERS: Final = {"Accept": "application/fhir+ndjson", "Accept-Encoding": "gzip"}


@dataclass(frozen=True)
class Downloaded:
    """A file that is whole, on the disk at `path`."""

    remote: RemoteFile
    path: Path
    delivered: Delivered


class _Damaged(Exception):  # noqa: N818 - a state of the bytes, told where it is caught
    """What arrived is not the whole file."""


def download(
    session: Session, remote: RemoteFile, folder: Path, *, with_token: bool, patience: Patience
) -> Downloaded:
    """Fetch a file into `folder/<kind>`, unless an earlier run has fetched and checked it.

    A damaged file is fetched again, three times at most. Raises `FhirloomError`: `incomplete`
    where it never arrives whole, `server` where the server refuses it.
    """
    target = folder / remote.kind
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (kept := _kept(remote, target)) is not None:
        return kept
    reason = ""
    for attempt in range(ATTEMPTS):
        try:
            return _fetch(session, remote, target, with_token)
        except _Damaged as damage:
            reason = str(damage)
            if attempt + 1 < ATTEMPTS:
                time.sleep(patience.wait(attempt))
    raise FhirloomError(
        "incomplete",
        f"A file arrived {ATTEMPTS} times and never whole: {reason}",
        where=remote.stem,
        fix="Run again to continue; if it stays so, the server's own file or count is wrong.",
    )


def _fetch(session: Session, remote: RemoteFile, target: Path, with_token: bool) -> Downloaded:
    part = target / f"{remote.stem}.part"
    with session.stream(
        "GET", remote.url, what=remote.stem, headers=HEADERS, with_token=with_token
    ) as response:
        try:
            delivered = take(response.iter_raw(), part)
        except DamagedGzip as damage:
            raise _Damaged(str(damage)) from None
        except httpx.TransportError:
            raise _Damaged("the connection broke") from None
        _check_whole(response, delivered, remote)
    path = target / (remote.stem + delivered.suffix)
    with part.open("rb") as file:
        os.fsync(file.fileno())
    part.replace(path)
    sync_folder(target)
    record = {"url": remote.identity, "name": path.name, "delivered": delivered.to_json()}
    write_json_durably(_record_path(remote, target), record)
    return Downloaded(remote, path, delivered)


def _check_whole(response: httpx.Response, delivered: Delivered, remote: RemoteFile) -> None:
    encoding = response.headers.get("content-encoding", "identity").lower()
    length = response.headers.get("content-length", "")
    if length.isdigit() and int(length) != delivered.bytes:
        raise _Damaged(f"{delivered.bytes} of {length} bytes")
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise _Damaged("it is packed in a way that was not asked for")
    if encoding != "identity" and not delivered.gzipped and remote.count != 0:
        raise _Damaged("it was announced as gzip and isn't")
    if remote.count is not None and delivered.judged.lines != remote.count:
        raise _Damaged(f"{delivered.judged.lines} rows, and the server counted {remote.count}")


def _kept(remote: RemoteFile, target: Path) -> Downloaded | None:
    record_path = _record_path(remote, target)
    if not record_path.is_file():
        return None
    record = orjson.loads(record_path.read_bytes())
    if record["url"] != remote.identity:
        return None
    return Downloaded(remote, target / record["name"], Delivered.from_json(record["delivered"]))


def _record_path(remote: RemoteFile, target: Path) -> Path:
    return target / f"{remote.stem}.json"
