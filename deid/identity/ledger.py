"""Ledgers: what was ordered or looked up, when, by whom and why; only ever added to.

A line of JSON each, on the disk before anything is done about it, for its owner's eyes alone
(0600). A line that a crash cut short was never acted upon: it is left out, and ended.
"""

from __future__ import annotations

import getpass
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from exports.durable import open_private, sync_folder
from exports.errors import FhirloomError


def note(ledger: Path, reason: str, **what: Any) -> None:
    """Add an entry: `what`, with the time (UTC), the user of the system, and why.

    Its random `entry` lets digests depend on it without a word of what it says. Raises
    `FhirloomError` (bad-input) where no reason is given.
    """
    if not reason.strip():
        raise FhirloomError(
            "bad-input", "No reason was given", where="--reason", fix="Say why, in some words."
        )
    when = datetime.now(UTC).isoformat(timespec="seconds")
    entry = {"entry": os.urandom(16).hex(), "when": when, "who": _user(), "reason": reason, **what}
    ledger.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open_private(ledger, "ab") as file:
        broken = file.tell() > 0 and not ledger.read_bytes().endswith(b"\n")
        file.write((b"\n" if broken else b"") + orjson.dumps(entry) + b"\n")
        file.flush()
        os.fsync(file.fileno())
    sync_folder(ledger.parent)


def entries(ledger: Path) -> list[dict[str, Any]]:
    """All that was noted, in order."""
    if not ledger.exists():
        return []
    found = []
    for line in ledger.read_bytes().splitlines():
        try:
            entry = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(entry, dict):
            found.append(entry)
    return found


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"
