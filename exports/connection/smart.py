"""SMART Backend Services, the client's side: a signed assertion for a short-lived access token.

Source: SMART App Launch 2.2, "Backend Services" and "Asymmetric (private_key_jwt)
authentication": RS384 or ES384, `iss` = `sub` = client id, `aud` = the token URL, at most five
minutes, a `jti` never used again.
"""

from __future__ import annotations

import math
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import httpx
import jwt

from exports.access import Access
from exports.connection.discovery import ABSENT, TokenServer, discover
from exports.connection.keys import SigningKey
from exports.connection.login import TOKEN
from exports.connection.origins import Trust
from exports.connection.outcomes import json_object, oauth_error
from exports.connection.scopes import SCOPE, propose
from exports.connection.transport import Patience, refusal, send, unreachable
from exports.connection.waiting import clock_skew
from exports.errors import FhirloomError

ASSERTION_SECONDS: Final = 240
TOKEN_SECONDS: Final = 300.0
"""How long a token is taken to be good whose server doesn't tell: what SMART recommends."""
SHORT_SECONDS: Final = 30.0
"""The same where the server says that it is good no longer."""
TOKEN_MARGIN_SECONDS: Final = 15.0
LARGEST_SKEW_SECONDS: Final = 60.0
CLIENT_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
REFUSED: Final = frozenset({400, 401, 403})
WHERE: Final = "the token request"
DISCOVERY: Final = "the SMART configuration"
UNPROVEN: Final = frozenset({"invalid_client", "invalid_grant"})
"""With either of these servers say that they don't take the assertion."""
REGISTER: Final = "Register the key's public JWKS for this client id, and check the clock."
FIXES: Final = {
    "invalid_client": REGISTER,
    "invalid_grant": REGISTER,
    "invalid_request": "Check the client id: it is to be the one that the server registered.",
    "unauthorized_client": "Have the server's operator activate this client for backend services.",
    "invalid_scope": "Name scopes that the client is registered for with --scope.",
}


def assertion(key: SigningKey, client_id: str, token_url: str, skew: float = 0.0) -> str:
    """A fresh signed JWT by which the client proves who it is, valid for four minutes.

    `skew` is by how many seconds the server's clock is ahead of ours.
    """
    claims = {
        "iss": client_id,
        "sub": client_id,
        "aud": token_url,
        "exp": int(time.time() + skew) + ASSERTION_SECONDS,
        "jti": uuid.uuid4().hex,
    }
    return jwt.encode(claims, key.private, algorithm=key.algorithm, headers={"kid": key.kid})


class BackendServices:
    """A registered client at one server: discovers the token endpoint, and keeps a token fresh.

    Safe in many threads: while one asks for a token, the others wait for it. `types` and
    `scope_style` choose the scopes, as `exports.connection.scopes.propose` says.
    """

    def __init__(
        self,
        http: httpx.Client,
        base: str,
        access: Access,
        keys: Sequence[SigningKey],
        patience: Patience,
        *,
        types: Sequence[str] = (),
        scope_style: str = "",
    ) -> None:
        self._http = http
        self._base = base
        self._access = access
        self._keys = keys
        self._patience = patience
        self._types = types
        self._scope_style = scope_style
        self._trust = Trust.of(base, (), access.plain_http)
        self._lock = threading.Lock()
        self._server: TokenServer | None = None
        self._requests: list[tuple[str, ...]] = []
        self._skew = 0.0
        self._authorization = ""
        self._renew_at = 0.0
        self._granted: tuple[str, ...] = ()

    @property
    def granted(self) -> tuple[str, ...]:
        """The scopes of the last token, as far as they are SMART's; none before the first."""
        return self._granted

    def authorization(self) -> str:
        """A token that is good for a while, as a header. Raises `FhirloomError`.

        `bad-input` for a key that the server can't verify, `server` for a token it doesn't give.
        """
        with self._lock:
            if time.monotonic() >= self._renew_at:
                self._renew()
            return self._authorization

    def refused(self, authorization: str) -> None:
        """Forget the token that the server took no longer, unless it is renewed already."""
        with self._lock:
            if authorization == self._authorization:
                self._renew_at = 0.0

    def _renew(self) -> None:
        if self._server is None:
            server = self._discover()
            self._requests = self._scopes_to_try(server)
            self._server = server
        key = _fitting_key(self._keys, self._server.algorithms)
        asked_at = time.monotonic()
        answer, asked = self._first_granted(self._server, key)
        token, kind = answer.get("access_token"), answer.get("token_type", "bearer")
        if not isinstance(token, str) or not TOKEN.fullmatch(token):
            raise _no_token("The answer has no access_token")
        if not isinstance(kind, str) or kind.lower() != "bearer":
            raise _no_token("The token is of a type that this client doesn't speak")
        self._authorization = f"Bearer {token}"
        scope = answer.get("scope")
        granted = scope.split() if isinstance(scope, str) and scope.strip() else asked
        self._granted = tuple(filter(SCOPE.fullmatch, granted))
        seconds = _seconds(answer.get("expires_in"))
        self._renew_at = asked_at + seconds - min(TOKEN_MARGIN_SECONDS, seconds / 2)

    def _scopes_to_try(self, server: TokenServer) -> list[tuple[str, ...]]:
        if self._access.scopes:
            return [self._access.scopes]
        proposals = propose(self._types, server.scopes, server.capabilities, self._scope_style)
        if not proposals:
            raise _no_token(
                "The server lists no scope that reads what is asked for",
                "Ask for other types, or name the scopes to ask for with --scope.",
            )
        return [proposal.scopes for proposal in proposals]

    def _first_granted(
        self, server: TokenServer, key: SigningKey
    ) -> tuple[Mapping[str, Any], tuple[str, ...]]:
        """The token response, and the scopes that it answers; those refused are asked no more."""
        corrected = False
        while True:
            asked = self._requests[0]
            response = self._ask(server, key, asked)
            if response.is_success:
                return json_object(response), asked
            code, skew = oauth_error(response), clock_skew(response)
            if code == "invalid_scope" and len(self._requests) > 1:
                del self._requests[0]
            elif code in UNPROVEN and not corrected and _differs(skew, self._skew):
                self._skew, corrected = skew, True
            else:
                raise refusal(response, WHERE, FIXES.get(code, ""))

    def _ask(self, server: TokenServer, key: SigningKey, scopes: tuple[str, ...]) -> httpx.Response:
        def request() -> httpx.Request:
            signed = assertion(key, self._access.client_id, server.url, self._skew)
            form = {
                "grant_type": "client_credentials",
                "scope": " ".join(scopes),
                "client_assertion_type": CLIENT_ASSERTION_TYPE,
                "client_assertion": signed,
            }
            headers = {"Accept": "application/json"}
            return self._http.build_request("POST", server.url, data=form, headers=headers)

        return self._whole(request, WHERE, REFUSED)

    def _discover(self) -> TokenServer:
        def fetch(url: str, media_type: str) -> httpx.Response:
            headers = {"Accept": media_type}
            return self._whole(
                lambda: self._http.build_request("GET", url, headers=headers), DISCOVERY, ABSENT
            )

        access = self._access
        return discover(self._base, fetch, token_url=access.token_url, plain_http=access.plain_http)

    def _whole(
        self, request: Callable[[], httpx.Request], what: str, answers: frozenset[int]
    ) -> httpx.Response:
        """An answer with its body read; no credential but the assertion is in the request."""
        response = send(
            self._http,
            request,
            what=what,
            patience=self._patience,
            gate=lambda request: self._trust.check_road(request.url, what),
            answers=answers,
        )
        try:
            response.read()
        except httpx.RequestError as failure:
            raise unreachable(failure, what) from None
        finally:
            response.close()
        return response


def _fitting_key(keys: Sequence[SigningKey], algorithms: frozenset[str]) -> SigningKey:
    """The first key whose signature the server can verify; any, where it doesn't tell."""
    for key in keys:
        if not algorithms or key.algorithm in algorithms:
            return key
    raise FhirloomError(
        "bad-input",
        f"The server doesn't verify {' or '.join(sorted({key.algorithm for key in keys}))}",
        where="key",
        fix="Make a key pair of the other algorithm (RS384, ES384), and register its JWKS.",
    )


def _seconds(told: object) -> float:
    """How long a token is good, whatever the server says about it."""
    try:
        seconds = float(told) if isinstance(told, int | float | str) else TOKEN_SECONDS
    except (ValueError, OverflowError):
        return TOKEN_SECONDS
    if not math.isfinite(seconds):
        return TOKEN_SECONDS
    return seconds if seconds > 0 else SHORT_SECONDS


def _differs(skew: float, corrected: float) -> bool:
    return abs(skew - corrected) > LARGEST_SKEW_SECONDS


def _no_token(what: str, fix: str = "Tell the server's operator.") -> FhirloomError:
    return FhirloomError("server", what, where=WHERE, fix=fix)
