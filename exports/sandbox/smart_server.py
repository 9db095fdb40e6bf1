"""SMART Backend Services, the server's side: assertions verified for real, short-lived tokens.

Source: SMART App Launch 2.2, "Backend Services" and "Asymmetric (private_key_jwt)
authentication"; RFC 7523 for the assertion, RFC 6749 section 5.2 for the errors.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import jwt

from exports.resource_types import RESOURCE_TYPES

ALGORITHMS: Final[Mapping[str, Mapping[str, str]]] = {
    "RS384": {"kty": "RSA"},
    "ES384": {"kty": "EC", "crv": "P-384"},
}
SCOPES: Final = ("system/*.rs", "system/*.read")
READING: Final = re.compile(r"system/(\*|[A-Z][A-Za-z]+)\.(read|\*|c?r?u?d?s?)")
LONGEST_ASSERTION_SECONDS: Final = 300
CLOCK: Final = "sandbox.clock"
"""In a request's scope: by how many seconds the server's clock is wrong."""
ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Refused(Exception):  # noqa: N818 - RFC 6749's word
    """A token request that is refused, with an OAuth error code."""

    def __init__(self, error: str, description: str) -> None:
        self.error = error
        self.description = description
        super().__init__(description)


@dataclass(frozen=True)
class _Token:
    end: float
    types: frozenset[str] | None


class Authorizer:
    """Grants tokens to registered clients, and knows the tokens it granted.

    `clients` maps a client id to its registered JWKS (RFC 7517).
    """

    challenge: Final = "Bearer"

    def __init__(
        self, clients: Mapping[str, Mapping[str, Any]], token_url: str, token_seconds: int
    ) -> None:
        self._clients = clients
        self._token_url = token_url
        self._token_seconds = token_seconds
        self._seen: dict[tuple[str, str], float] = {}
        self._tokens: dict[str, _Token] = {}

    def grant(self, form: Mapping[str, str], *, skew: float = 0) -> dict[str, Any]:
        """The token response to a token request, by a clock `skew` seconds ahead.

        Raises `Refused`.
        """
        if form.get("grant_type") != "client_credentials":
            raise Refused("unsupported_grant_type", "grant_type must be client_credentials")
        if form.get("client_assertion_type") != ASSERTION_TYPE:
            raise Refused("invalid_request", "client_assertion_type must be jwt-bearer")
        self._verify(form.get("client_assertion", ""), time.time() + skew)
        asked = form.get("scope", "").split()
        types, now, token = _readable(asked), time.time(), secrets.token_urlsafe(32)
        self._tokens = {known: each for known, each in self._tokens.items() if each.end > now}
        self._tokens[token] = _Token(now + self._token_seconds, types)
        return {
            "access_token": token,
            "token_type": "bearer",
            "expires_in": self._token_seconds,
            "scope": " ".join(asked),
        }

    def knows(self, authorization: str) -> bool:
        """Whether an Authorization header carries a token that is still good."""
        token = self._token(authorization)
        return token is not None and token.end > time.time()

    def types(self, authorization: str) -> frozenset[str] | None:
        """The resource types that the token's scopes cover; None: all."""
        token = self._token(authorization)
        return frozenset() if token is None else token.types

    def _token(self, authorization: str) -> _Token | None:
        scheme, _, token = authorization.partition(" ")
        return self._tokens.get(token) if scheme.lower() == "bearer" else None

    def _verify(self, assertion: str, now: float) -> None:
        try:
            header = jwt.get_unverified_header(assertion)
            claimed = jwt.decode(assertion, options={"verify_signature": False})
        except jwt.PyJWTError:
            raise Refused("invalid_client", "the assertion is not a JWT") from None
        algorithm, client_id = header.get("alg", ""), claimed.get("iss", "")
        key = self._registered_key(client_id, header.get("kid"), algorithm)
        try:
            claims = jwt.decode(
                assertion,
                key,
                algorithms=[algorithm],
                audience=self._token_url,
                issuer=client_id,
                options={"require": ["iss", "sub", "aud", "exp", "jti"], "verify_exp": False},
            )
        except jwt.PyJWTError as fault:
            raise Refused("invalid_client", f"the assertion is bad: {fault}") from None
        if claims["sub"] != client_id:
            raise Refused("invalid_client", "iss and sub differ")
        if not isinstance(claims["exp"], int | float) or claims["exp"] <= now:
            raise Refused("invalid_client", "the assertion has expired")
        if claims["exp"] > now + LONGEST_ASSERTION_SECONDS:
            raise Refused("invalid_client", "the assertion lives longer than five minutes")
        self._use_once(client_id, claims["jti"], time.time() + LONGEST_ASSERTION_SECONDS)

    def _registered_key(self, client_id: object, kid: object, algorithm: str) -> jwt.PyJWK:
        shape = ALGORITHMS.get(algorithm)
        if shape is None:
            raise Refused("invalid_client", "the assertion's alg must be RS384 or ES384")
        registered = self._clients.get(client_id) if isinstance(client_id, str) else None
        if registered is None:
            raise Refused("invalid_client", "the client is not registered")
        keys: Sequence[Mapping[str, Any]] = registered["keys"]
        for jwk in keys:
            if jwk.get("kid") == kid and shape.items() <= jwk.items():
                return jwt.PyJWK(dict(jwk), algorithm=algorithm)
        raise Refused("invalid_client", "no registered key has that kid and fits that alg")

    def _use_once(self, client_id: str, jti: object, expires: float) -> None:
        self._seen = {known: end for known, end in self._seen.items() if end > time.time()}
        used = (client_id, str(jti))
        if used in self._seen:
            raise Refused("invalid_client", "the assertion's jti was used before")
        self._seen[used] = expires


def _readable(scopes: Sequence[str]) -> frozenset[str] | None:
    """The types that v1 and v2 scopes let read and search; None: all. Raises `Refused`."""
    types: set[str] = set()
    for scope in scopes:
        match = READING.fullmatch(scope)
        if match is None or match[1] not in RESOURCE_TYPES | {"*"}:
            raise Refused("invalid_scope", "scopes are like system/*.rs or system/Patient.read")
        if match[2] in ("read", "*") or {"r", "s"} <= set(match[2]):
            types.add(match[1])
    if not types:
        raise Refused("invalid_scope", "no scope lets anything be read and searched")
    return None if "*" in types else frozenset(types)
