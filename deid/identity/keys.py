"""The key of the crosswalk, by reference: where it lies, never what it is.

    file:/path    a file of 32 bytes, raw or in hex or base64, that only its owner can read (0600)
    env:NAME      an environment variable, in hex or base64

The reference in force is kept in `phi/keys`, so that a scheduled run finds the key again. Where
none was ever given, a key is made beside it at first use. That one guards no more than copies of
the crosswalk that were taken without it; only a key that lies elsewhere guards the work folder.
"""

from __future__ import annotations

import base64
import binascii
import os
import stat
from pathlib import Path
from typing import Final

from exports.durable import write_durably
from exports.errors import FhirloomError

BYTES: Final = 32
"""AES-256."""
FOLDER: Final = "keys"
OWN: Final = "crosswalk.key"
REFERENCE: Final = "crosswalk.reference"
WHERE: Final = "crosswalk key"


def load_key(reference: str) -> bytes:
    """The 32 bytes that a reference leads to.

    Raises `FhirloomError` (bad-input) for a reference that leads to no key, and for a file that
    others can read.
    """
    scheme, _, place = reference.partition(":")
    if scheme == "file" and place:
        return _decoded(_private(Path(place)))
    if scheme == "env" and place:
        written = os.environ.get(place)
        if written is None:
            raise _unusable(f"The variable {place} is not set", "Set it to the crosswalk's key.")
        return _decoded(written.encode())
    raise _unusable("That is no reference to a key", "Write it as file:/path or env:NAME.")


def key_in_force(phi: Path, *, make: bool = False) -> bytes:
    """The key that the reference in `phi/keys` leads to; of its own, where there is none.

    With `make`, a missing key of its own is made. Raises `FhirloomError` (bad-input) as `load_key`.
    """
    own = phi / FOLDER / OWN
    kept = phi / FOLDER / REFERENCE
    if kept.exists():
        return load_key(kept.read_text().strip())
    if make and not own.exists():
        write_durably(own, os.urandom(BYTES))
    return load_key(f"file:{own}")


def put_in_force(phi: Path, reference: str) -> None:
    """Keep the reference of a key for all that follows; a key of its own is taken away."""
    own = phi / FOLDER / OWN
    write_durably(phi / FOLDER / REFERENCE, absolute(reference).encode())
    if absolute(reference) != f"file:{own.absolute()}":
        own.unlink(missing_ok=True)


def absolute(reference: str) -> str:
    """The reference, so that it holds wherever a later run starts."""
    scheme, _, place = reference.partition(":")
    return f"file:{Path(place).absolute()}" if scheme == "file" and place else reference


def _private(path: Path) -> bytes:
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode) or state.st_mode & 0o077:
            raise _unusable("Others can read the file of the key", "Make it yours alone: chmod 600")
        return path.read_bytes()
    except OSError as error:
        raise _unusable(
            f"The file of the key can't be read ({error.strerror})",
            "Put the crosswalk's key back, or name the file that has it.",
        ) from None


def _decoded(written: bytes) -> bytes:
    """The key's bytes: as they are, or out of hex or base64; no other length is a key."""
    if len(written) == BYTES:
        return written
    text = written.strip()
    for decode in (binascii.unhexlify, lambda told: base64.b64decode(told, validate=True)):
        try:
            read = decode(text)
        except (binascii.Error, ValueError):
            continue
        if len(read) == BYTES:
            return bytes(read)
    raise _unusable("That is no key of 32 bytes", "Give them raw, in hex or in base64.")


def _unusable(what: str, fix: str) -> FhirloomError:
    return FhirloomError("bad-input", what, where=WHERE, fix=fix)
