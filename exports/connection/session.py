"""An authenticated session with one FHIR server: credentials go there, and nowhere else unasked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import httpx

from exports.access import Access
from exports.connection.keys import read_keys
from exports.connection.login import BasicLogin, BearerFile, Login
from exports.connection.network import open_http
from exports.connection.origins import Trust
from exports.connection.scopes import unreadable
from exports.connection.smart import BackendServices
from exports.connection.transport import Patience, refusal, send, unreachable

Params = Mapping[str, str] | Sequence[tuple[str, str]]
"""A query; pairs where a name is given more than once."""


class Session:
    """Requests to one server, and to where it sends us. Safe in many threads."""

    def __init__(
        self, http: httpx.Client, trust: Trust, login: Login | None, patience: Patience
    ) -> None:
        self._http = http
        self._trust = trust
        self._login = login
        self._patience = patience

    @property
    def login(self) -> Login | None:
        """As whom requests are made; None: nobody."""
        return self._login

    @property
    def granted(self) -> tuple[str, ...]:
        """The scopes of the token in use; none without SMART, or before the first request."""
        return self._login.granted if isinstance(self._login, BackendServices) else ()

    def unreadable(self, types: Iterable[str]) -> tuple[str, ...]:
        """Those of `types` that the granted scopes don't let us read; none where none are told."""
        return unreadable(self.granted, types) if self.granted else ()

    @contextmanager
    def stream(
        self,
        method: str,
        url: str,
        *,
        what: str,
        headers: Mapping[str, str],
        params: Params | None = None,
        content: bytes | None = None,
        with_token: bool = True,
        answers: frozenset[int] = frozenset(),
        patience: Patience | None = None,
    ) -> Iterator[httpx.Response]:
        """The answer to a request, its body unread unless it is one of `answers`.

        Credentials go along where `with_token`, to the server's own origin and to those that the
        operator named, redirects included. A token that the server refuses is renewed once.
        Raises `FhirloomError` (server) unless the status is 2xx or one of `answers`; `what` names
        the request in it.
        """
        login = self._login if with_token else None

        def gate(request: httpx.Request) -> None:
            self._trust.check_road(request.url, what)
            request.headers.pop("Authorization", None)
            if login is not None and self._trust.covers(request.url):
                request.headers["Authorization"] = login.authorization()

        def attempt() -> httpx.Response:
            return send(
                self._http,
                lambda: self._http.build_request(
                    method, _with_query(url, params), content=content, headers=headers
                ),
                what=what,
                patience=patience or self._patience,
                gate=gate,
                answers=answers | {401},
            )

        response = attempt()
        try:
            used = response.request.headers.get("Authorization", "")
            if response.status_code == 401 and login is not None and used:
                response.close()
                login.refused(used)
                if login.authorization() != used:
                    response = attempt()
            if response.status_code == 401 and 401 not in answers:
                raise refusal(response, what, self.remedy(response, with_token=with_token))
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
        params: Params | None = None,
        content: bytes | None = None,
        with_token: bool = True,
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
            content=content,
            with_token=with_token,
            answers=answers,
            patience=patience,
        ) as response:
            try:
                response.read()
            except httpx.RequestError as failure:
                raise unreachable(failure, what) from None
            return response

    def remedy(self, response: httpx.Response, *, with_token: bool = True) -> str:
        """What to do about a 401, by who asked and where."""
        if self._login is None:
            return "Give a client id and key, a user, or a bearer file."
        if not with_token:
            return "The server said that no token is needed; tell its operator."
        if "Authorization" not in response.request.headers:
            return (
                "Another origin asks for the token, maybe the server's own by another name: give"
                " the server's URL by that name, or name it with --file-origin if it may see it."
            )
        return "Check that the client, or user, may read this on that server."


@contextmanager
def open_session(
    base: str,
    access: Access,
    patience: Patience,
    *,
    types: Sequence[str] = (),
    scope_style: str = "",
) -> Iterator[Session]:
    """A session with the server at `base`, as whom `access` says.

    `types` are the resource types that will be read (none: all), and `scope_style` a vendor's
    habit, as `connection.scopes.propose` says. Raises `FhirloomError` (bad-input) for files that
    can't be used.
    """
    with open_http(access) as http:
        login: Login | None = None
        if access.key is not None:
            keys = read_keys(access.key)
            login = BackendServices(
                http, base, access, keys, patience, types=types, scope_style=scope_style
            )
        elif access.password_file is not None:
            login = BasicLogin(access.user, access.password_file)
        elif access.bearer_file is not None:
            login = BearerFile(access.bearer_file)
        trust = Trust.of(base, access.file_origins, access.plain_http)
        yield Session(http, trust, login, patience)


def _with_query(url: str, params: Params | None) -> httpx.URL:
    """A URL with a query beside its own."""
    read = httpx.URL(url)
    if params is None:
        return read
    return read.copy_merge_params(params if isinstance(params, Mapping) else list(params))
