"""An authenticated session with one FHIR server: the token goes there and nowhere else."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final
from urllib.parse import urlsplit

import httpx

from exports.access import Access
from exports.request import LOOPBACK
from exports.smart import BackendServices, read_key
from exports.transport import Patience, refusal, send, unreachable

TIMEOUT: Final = httpx.Timeout(60.0, connect=10.0)


class Session:
    """Requests to the server that an `ExportRequest` names."""

    def __init__(
        self, http: httpx.Client, base: str, login: BackendServices | None, patience: Patience
    ) -> None:
        self._http = http
        self._origin = _origin(base)
        self._login = login
        self._patience = patience

    @contextmanager
    def stream(
        self,
        method: str,
        url: str,
        *,
        what: str,
        headers: Mapping[str, str],
        params: Mapping[str, str] | None = None,
        with_token: bool = True,
        answers: frozenset[int] = frozenset(),
        patience: Patience | None = None,
    ) -> Iterator[httpx.Response]:
        """The answer to a request, its body unread.

        A token that the server refuses is renewed once. Raises `FhirloomError` (server) unless
        the status is 2xx or one of `answers`; `what` names the request in it.
        """
        login = self._login if with_token and _origin(url) == self._origin else None

        def request() -> httpx.Request:
            token = {} if login is None else {"Authorization": f"Bearer {login.token()}"}
            return self._http.build_request(
                method, url, params=params, headers={**headers, **token}
            )

        def attempt() -> httpx.Response:
            return send(
                self._http,
                request,
                what=what,
                patience=patience or self._patience,
                answers=answers | {401},
            )

        response = attempt()
        try:
            if response.status_code == 401 and login is not None:
                response.close()
                login.renew()
                response = attempt()
            if response.status_code == 401 and 401 not in answers:
                response.read()
                raise refusal(response, what)
            yield response
        finally:
            response.close()

    def send(
        self,
        method: str,
        url: str,
        *,
        what: str,
        headers: Mapping[str, str],
        params: Mapping[str, str] | None = None,
        answers: frozenset[int] = frozenset(),
        patience: Patience | None = None,
    ) -> httpx.Response:
        """The answer to a request, its body read. Raises as `stream` does."""
        with self.stream(
            method,
            url,
            what=what,
            headers=headers,
            params=params,
            answers=answers,
            patience=patience,
        ) as response:
            try:
                response.read()
            except httpx.RequestError as failure:
                raise unreachable(failure, what) from None
            return response


@contextmanager
def open_session(base: str, access: Access, patience: Patience) -> Iterator[Session]:
    """A session with the server at `base`, as whom `access` says."""
    # httpx logs each URL, and that of a file may be a signed one.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    # A proxy for the outside world can't reach this machine's own loopback.
    loopback = urlsplit(base).hostname in LOOPBACK
    with httpx.Client(timeout=TIMEOUT, trust_env=not loopback) as http:
        login = None
        if access.key is not None:
            key = read_key(access.key)
            login = BackendServices(http, base, access.client_id, key, patience)
        yield Session(http, base, login, patience)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    default = {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, parts.port or default
