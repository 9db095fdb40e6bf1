"""How a FHIR server is reached, and as whom: names of files that hold secrets, never a secret."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from exports.errors import FhirloomError


@dataclass(frozen=True)
class Access:
    """The way to one server.

    As whom: `client_id` with `key` (PEM or JWK file of a private key, or a JWKS with one) for SMART
    Backend Services; or `user` with `password_file`; or `bearer_file`, read anew for every
    request; or nobody, where none is given. `scopes` and `token_url` stand in for what the
    server's SMART configuration should have told.

    By which way: `proxy` (URL), `ca` (PEM bundle to trust instead of the system's), `certificate`
    and `certificate_key` (PEM files, mutual TLS), `plain_http` (records may cross the network in
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
    proxy: str = ""
    ca: Path | None = None
    certificate: Path | None = None
    certificate_key: Path | None = None
    plain_http: bool = False
    file_origins: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if bool(self.client_id) != (self.key is not None):
            raise _unusable("Client id and key go together", "client id")
        if bool(self.user) != (self.password_file is not None):
            raise _unusable("User and password file go together", "user")
        if sum(map(bool, (self.client_id, self.user, self.bearer_file))) > 1:
            raise _unusable("There is more than one way to log in", "access", "Give one of them.")
        if self.certificate_key is not None and self.certificate is None:
            raise _unusable("A certificate's key goes with a certificate", "certificate")
        for origin in self.file_origins:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.path:
                raise _unusable(
                    "That is no origin", "file origin", "Write it like https://files.example.org."
                )

    @property
    def principal(self) -> str:
        """As whom the server is asked, as far as that is no secret."""
        return self.client_id or self.user


OPEN = Access()
"""A server that asks nobody who they are."""


def _unusable(what: str, where: str, fix: str = "Give both, or neither.") -> FhirloomError:
    return FhirloomError("bad-input", what, where=where, fix=fix)
