"""The SMART bulk-data export log: what an export did, event by event, for its operator.

Source: "Bulk Data Export Log Items" of the SMART bulk data client's wiki: one JSON object a line
with `exportId`, `timestamp`, `eventId` and `eventDetail`. The events and their details:

    kickoff               exportUrl, softwareName, softwareVersion, softwareReleaseDate,
                          fhirVersion, requestParameters, errorCode, errorBody, responseHeaders
    status_progress       body, xProgress, retryAfter
    status_page_complete  transactionTime, outputFileCount, deletedFileCount, errorFileCount
    status_complete       transactionTime
    manifest_complete     transactionTime, totalOutputFileCount, totalDeletedFileCount,
                          totalErrorFileCount, totalManifests
    status_error          body, code, message, responseHeaders
    download_request      fileUrl, itemType (output, error, deleted), resourceType
    download_complete     fileUrl, resourceCount, fileSize (bytes, unpacked where that is known)
    download_error        fileUrl, body, code, message, responseHeaders
    export_complete       files, resources, bytes, attachments, duration (milliseconds)
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import Any, Final, Protocol

import orjson

SECRETS: Final = frozenset(
    """
    authorization proxy-authorization www-authenticate cookie set-cookie access_token
    refresh_token id_token client_assertion client_secret password
    """.split()  # noqa: SIM905 - a list to read
)
"""Members, in lower case, that are never written: they may hold a token."""
NOT_FOR_THE_LOG: Final = "patient"
"""The one request parameter that the format leaves out."""
_URL_TAIL: Final = re.compile(
    r"(?i)(\bhttps?://)(?:[^\s\"'<>/?#@]*@)?([^\s\"'<>?#]*)[?#][^\s\"'<>]*"
)
_URL_USER: Final = re.compile(r"(?i)(\bhttps?://)[^\s\"'<>/?#@]*@")
_PATH_TAIL: Final = re.compile(r"((?:^|(?<=[\s\"'<>=(,]))[\w.~%@:-]*/[\w./~%@:-]*)\?[^\s\"'<>]*")
_BEARER: Final = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]+")
_JWT: Final = re.compile(r"\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_.-]+")
_MEMBER: Final = re.compile(
    rf"(?i)([\"']?\b(?:{'|'.join(sorted(SECRETS))})\b[\"']?\s*[:=]\s*)[\"']?[^\s\"',;&}}]+"
)


class EventLog(Protocol):
    """Told of each step of an export."""

    def event(self, name: str, detail: Mapping[str, Any]) -> None:
        """Record one event by its name in the log format, with its `eventDetail`."""


class _NoLog:
    def event(self, name: str, detail: Mapping[str, Any]) -> None:
        """Nothing is recorded."""


NO_LOG: Final[EventLog] = _NoLog()
"""The log of an export that nobody wants one of."""


class ExportLog:
    """The log of one export, in `phi/logs/export/<export_id>.ndjson`, from several threads.

    The same `export_id` after a restart goes on with the same file; a line that a kill tore is
    taken away first. URLs lose their query (signatures), and tokens and passwords are left out;
    the server's own words may hold a patient's, so the file is for its owner's eyes.
    """

    def __init__(self, phi: Path, export_id: str) -> None:
        self.export_id = export_id
        self.path = phi / "logs" / "export" / f"{export_id}.ndjson"
        self._lock = Lock()
        for folder in (self.path.parent.parent, self.path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _mend(self.path)

    def event(self, name: str, detail: Mapping[str, Any]) -> None:
        """Append one event, on the disk's way when this returns."""
        entry: dict[str, Any] = {
            "exportId": self.export_id,
            "timestamp": datetime.now().astimezone().isoformat(timespec="milliseconds"),
            "eventId": name,
            "eventDetail": _told(detail),
        }
        if name == "kickoff":
            entry["client"] = f"fhirloom {version('fhirloom')}"
        line = orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE)
        with self._lock:
            descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(descriptor, line)
            finally:
                os.close(descriptor)


def _mend(path: Path) -> None:
    if not path.exists():
        return
    with path.open("rb+") as file:
        content = file.read()
        file.truncate(content.rfind(b"\n") + 1)


def _told(value: Any) -> Any:
    """`value` as it may be written: without secrets, and with URLs that open nothing."""
    if isinstance(value, Mapping):
        return {
            str(key): _parameters(item) if key == "requestParameters" else _told(item)
            for key, item in value.items()
            if str(key).lower() not in SECRETS
        }
    if isinstance(value, list | tuple):
        return [_told(item) for item in value]
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, str):
        return _without_secrets(value)
    return value if value is None or isinstance(value, bool | int | float) else str(value)


def _without_secrets(text: str) -> str:
    """Text that may quote a request: without the queries of URLs, and what looks like a token."""
    text = _PATH_TAIL.sub(r"\1", _URL_USER.sub(r"\1", _URL_TAIL.sub(r"\1\2", text)))
    return _MEMBER.sub(r"\1...", _JWT.sub("...", _BEARER.sub(r"\1 ...", text)))


def _parameters(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _told(item) for key, item in value.items() if key != NOT_FOR_THE_LOG}
    return _told(value)
