"""How a FHIR server is reached, and as whom: names of files that hold secrets, never a secret."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from exports.connection.origins import LOOPBACK
from exports.errors import FhirloomError

SCOPE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
"""RFC 6749, section 3.3: a scope-token."""
NO_URL: Final = SplitResult("", "", "", "", "")


@dataclass(frozen=True)
class Access:
    """The way to one server.

    As whom: `client_id` with `key` (PEM or JWK file of a private key, or a JWKS with some) for
    SMART Backend Services; or `user` with `password_file`; or `bearer_file`, read anew for every
    request; or nobody, where none is given. `scopes` and `token_url` stand in for what the
    server's SMART configuration should have told.

    By which way: `proxy` (http or https URL, possibly with user and password, and therefore never
    shown), `ca` (PEM bundle to trust instead of the public ones), `certificate` and
    `certificate_key` (PEM files, mutual TLS), `plain_http` (records may cross the network in
    clear). `file_origins` are origins beside the server's own that may see its token.

    Raises `FhirloomError` (bad-input) for a mix that means nothing.
    """

    client_id: str = ""
    key: Path | None = None
    scopes: tuple[str, ...] = ()
    token_url: str = ""
    user: str = ""
    password_file: Path | None = None
    bearer_file: Path | None = None
    proxy: str = field(default="", repr=False)
    ca: Path | None = None
    certificate: Path | None = None
    certificate_key: Path | None = None
    plain_http: bool = False
    file_origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check_principal()
        if self.certificate_key is not None and self.certificate is None:
            raise _unusable("A certificate's key goes with a certificate", "certificate")
        if self.proxy and not _is_origin(_split(self.proxy), with_user=True):
            raise _unusable("That is no proxy", "proxy", "Write it like http://proxy.example:3128.")
        for origin in self.file_origins:
            parts = _split(origin)
            if not _is_origin(parts):
                raise _unusable(
                    "That is no origin", "file origin", "Write it like https://files.example.org."
                )
            self._check_road(parts, "file origin")
        if self.token_url:
            parts = _split(self.token_url)
            if not _is_origin(parts._replace(path="", query="")):
                raise _unusable(
                    "That is no URL", "token URL", "Write it like https://ehr.example/token."
                )
            self._check_road(parts, "token URL")

    @property
    def principal(self) -> str:
        """As whom the server is asked, as far as that is no secret."""
        return self.client_id or self.user

    def _check_principal(self) -> None:
        if bool(self.client_id) != (self.key is not None):
            raise _unusable("Client id and key go together", "client id")
        if bool(self.user) != (self.password_file is not None):
            raise _unusable("User and password file go together", "user")
        if sum(map(bool, (self.client_id, self.user, self.bearer_file))) > 1:
            raise _unusable("There is more than one way to log in", "access", "Give one of them.")
        if ":" in self.user:
            raise _unusable("A user's name has no colon", "user", "RFC 7617 forbids it.")
        if not all(SCOPE.fullmatch(scope) for scope in self.scopes):
            raise _unusable("That is no scope", "scopes", "Write them like system/Patient.rs.")

    def _check_road(self, parts: SplitResult, where: str) -> None:
        if parts.scheme == "http" and parts.hostname not in LOOPBACK and not self.plain_http:
            raise _unusable(
                "Plain http would show the token",
                where,
                "Give an https URL, or allow it with --plain-http where the network is yours.",
            )


OPEN = Access()
"""A server that asks nobody who they are."""


def _split(url: str) -> SplitResult:
    """A URL's parts; those of none where it can't be read."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return NO_URL
    return parts


def _is_origin(parts: SplitResult, *, with_user: bool = False) -> bool:
    named = parts.scheme in ("http", "https") and bool(parts.hostname)
    bare = not (parts.path.strip("/") or parts.query or parts.fragment)
    return named and bare and (with_user or "@" not in parts.netloc)


def _unusable(what: str, where: str, fix: str = "Give both, or neither.") -> FhirloomError:
    return FhirloomError("bad-input", what, where=where, fix=fix)
