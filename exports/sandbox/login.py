"""Who may ask a sandbox server: the door that SMART Backend Services and simpler logins share.

Source: RFC 7617 (Basic), RFC 6750 (Bearer).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Protocol

from exports.sandbox.smart_server import Refused


class Door(Protocol):
    """Knows the clients of one server by their Authorization header."""

    @property
    def challenge(self) -> str:
        """What WWW-Authenticate says to a stranger."""

    def knows(self, authorization: str) -> bool:
        """Whether the header is that of a client."""

    def types(self, authorization: str) -> frozenset[str] | None:
        """The resource types that the client may read; None: all."""

    def grant(self, form: Mapping[str, str], *, skew: float = 0) -> dict[str, Any]:
        """The token response to a token request. Raises `Refused`."""


class FixedDoor:
    """Opens to one fixed Authorization header, or, where that is empty, to everybody."""

    def __init__(self, authorization: str) -> None:
        self._authorization = authorization

    @property
    def challenge(self) -> str:
        """The scheme that is expected."""
        return self._authorization.partition(" ")[0]

    def knows(self, authorization: str) -> bool:
        """Whether the header is the expected one."""
        return not self._authorization or authorization == self._authorization

    def types(self, authorization: str) -> frozenset[str] | None:
        """Whoever is in may read everything."""
        return None

    def grant(self, form: Mapping[str, str], *, skew: float = 0) -> dict[str, Any]:
        """No tokens here."""
        raise Refused("unsupported_grant_type", "this server gives no tokens")


def basic(user: str, password: str) -> FixedDoor:
    """A server of one user."""
    return FixedDoor("Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())


def bearer(token: str) -> FixedDoor:
    """A server that handed out one token long ago."""
    return FixedDoor(f"Bearer {token}")
