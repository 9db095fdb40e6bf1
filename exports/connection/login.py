"""As whom a request is made: the value of its Authorization header.

Sources: RFC 7617 (Basic), RFC 6750 (Bearer).
"""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Final, Protocol

from exports.errors import FhirloomError

TOKEN: Final = re.compile(r"[\x21-\x7e]+")


class Login(Protocol):
    """One way to say who asks; safe in many threads."""

    def authorization(self) -> str:
        """The header's value, good for a while. Raises `FhirloomError`."""

    def refused(self, authorization: str) -> None:
        """Learn that the server took this value no longer."""


class BasicLogin:
    """A user and a password, the latter from a file whose last line end doesn't count."""

    def __init__(self, user: str, password_file: Path) -> None:
        password = read_secret(password_file, "password file").removesuffix("\n").removesuffix("\r")
        if not password:
            raise _unusable("password file")
        self._authorization = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def authorization(self) -> str:
        """RFC 7617, in UTF-8."""
        return self._authorization

    def refused(self, authorization: str) -> None:
        """Nothing can be done: the password is the same."""


class BearerFile:
    """A token in a file, read anew for each request because somebody else may renew it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.authorization()

    def authorization(self) -> str:
        """The token of now."""
        token = read_secret(self._path, "bearer file").strip()
        if not TOKEN.fullmatch(token):
            raise _unusable("bearer file")
        return f"Bearer {token}"

    def refused(self, authorization: str) -> None:
        """Nothing to forget: the file is read again anyway."""


def read_secret(path: Path, where: str) -> str:
    """What a file of a secret holds. Raises `FhirloomError` (bad-input), without a word of it."""
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError):
        raise _unusable(where) from None


def _unusable(where: str) -> FhirloomError:
    return FhirloomError(
        "bad-input",
        "The file holds no secret that can be sent",
        where=where,
        fix="Give a file with the secret, in UTF-8, and nothing else.",
    )
