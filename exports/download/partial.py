"""A file that is on its way: the part that has arrived, and by what the server knows the whole.

Sources: RFC 9110, sections 8.8.1 to 8.8.3 (strong validators) and 14.3 (Accept-Ranges).
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import Final

import httpx
import orjson

from exports.durable import open_private

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Held:
    """What has arrived of a file.

    `validator` is what names its version in If-Range; `encoding` is how it is packed; `total` is
    the whole file's length in digits, or ""; `boot` names the run of the machine: bytes that no
    fsync has followed outlive a process only. `size` is how much has arrived.
    """

    identity: str
    validator: str
    encoding: str
    total: str
    boot: str
    size: int = 0


class Partial:
    """The part of one file, at `path`, with its id hashes at `identities` once it is whole."""

    def __init__(self, folder: Path, stem: str) -> None:
        self.path = folder / f"{stem}.part"
        self.identities = folder / f"{stem}.part.ids"
        self._held = folder / f"{stem}.part.json"

    def resumable(self, identity: str) -> Held | None:
        """What to go on from; None where the file has to come from its beginning."""
        try:
            held = Held(**orjson.loads(self._held.read_bytes()))
            size = self.path.stat().st_size
        except (OSError, orjson.JSONDecodeError, TypeError):
            return None
        if not size or (held.identity, held.boot) != (identity, _boot()):
            return None
        return replace(held, size=size)

    def begin(self, identity: str, response: httpx.Response) -> None:
        """Forget what is here; note by what the file that now comes can be continued, if at all."""
        self.discard()
        validator = _strong_validator(response)
        if validator and response.headers.get("accept-ranges", "bytes").lower() == "bytes":
            total = response.headers.get("content-length", "")
            held = Held(identity, validator, _encoding(response), total, _boot())
            with open_private(self._held, "wb") as file:
                file.write(orjson.dumps(asdict(held)))

    def continues(self, response: httpx.Response) -> bool:
        """Whether the body is of the same version, packed the same, as far as the server tells."""
        held = Held(**orjson.loads(self._held.read_bytes()))
        named_by = "etag" if held.validator.startswith('"') else "last-modified"
        told = response.headers.get(named_by, held.validator)
        return (told, _encoding(response)) == (held.validator, held.encoding)

    def keep_as(self, path: Path, identities: Path) -> None:
        """Give the whole file its name, and its id hashes theirs."""
        self.path.replace(path)
        self.identities.replace(identities)
        self._held.unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove all of it."""
        for path in (self._held, self.path, self.identities):
            path.unlink(missing_ok=True)


def _encoding(response: httpx.Response) -> str:
    return str(response.headers.get("content-encoding", "identity")).lower()


def _strong_validator(response: httpx.Response) -> str:
    """An ETag, else a date that no second version can share; "" where there is neither."""
    tag: str = response.headers.get("etag", "")
    if tag.startswith('"'):
        return tag
    modified: str = response.headers.get("last-modified", "")
    try:
        age = parsedate_to_datetime(response.headers["date"]) - parsedate_to_datetime(modified)
    except (KeyError, ValueError, TypeError):
        return ""
    return modified if age >= timedelta(minutes=1) else ""


@cache
def _boot() -> str:
    """The run of this machine; of this process alone where the system doesn't tell."""
    try:
        return BOOT_ID.read_text().strip()
    except OSError:
        return f"process {id(_boot)}"
