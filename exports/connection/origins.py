"""Which servers may see a credential, and which roads are fit for records.

Source: RFC 6454, section 4 (an origin is scheme, host and port, compared exactly). URLs are read
as httpx reads them, so that what is judged is what is connected to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import httpx

from exports.errors import FhirloomError

LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
"""This machine's own addresses: what goes there crosses no network."""
PORTS: Final = {"http": 80, "https": 443}

Origin = tuple[str, str, int | None]


def origin_of(url: httpx.URL | str) -> Origin:
    """Scheme, host (lower case, IDNA) and port of a URL. Raises `httpx.InvalidURL`."""
    read = httpx.URL(url)
    return read.scheme, read.raw_host.decode("ascii"), read.port or PORTS.get(read.scheme)


def in_clear(url: httpx.URL | str) -> bool:
    """Whether what goes there can be read on the way: no TLS, and beyond this machine."""
    read = httpx.URL(url)
    return read.scheme != "https" and read.host not in LOOPBACK


@dataclass(frozen=True)
class Trust:
    """The `origins` that may see a server's credentials, and whether `plain_http` is allowed."""

    origins: frozenset[Origin]
    plain_http: bool

    @classmethod
    def of(cls, base: str, file_origins: tuple[str, ...], plain_http: bool) -> Trust:
        """Trust in the server at `base`, and in the origins that the operator named."""
        return cls(frozenset(map(origin_of, (base, *file_origins))), plain_http)

    def covers(self, url: httpx.URL) -> bool:
        """Whether the credentials may go there."""
        return origin_of(url) in self.origins

    def check_road(self, url: httpx.URL, what: str) -> None:
        """Raise `FhirloomError` (server) where the server sends us onto an open road."""
        if in_clear(url) and not self.plain_http:
            raise FhirloomError(
                "server",
                "The server sends us to plain http, which would show the records",
                where=what,
                fix="Have the server give https, or allow it with --plain-http.",
            )
