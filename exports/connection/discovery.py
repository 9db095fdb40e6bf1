"""Where a server gives out tokens, and what it says about them.

Sources: SMART App Launch 2.2, "Using Well-Known"; the CapabilityStatement's `oauth-uris` extension
of SMART App Launch 1.0, which servers without a SMART configuration still have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import httpx

from exports.connection.origins import in_clear
from exports.connection.outcomes import json_object
from exports.errors import FhirloomError

OAUTH_URIS: Final = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"
ALGORITHMS: Final = "token_endpoint_auth_signing_alg_values_supported"
ABSENT: Final = frozenset({400, 401, 403, 404, 405, 406, 410, 500, 501})
"""With any of these a server says that it has no such document, whatever it was meant to say."""
WHERE: Final = "the SMART configuration"

Fetch = Callable[[str, str], httpx.Response]
"""The answer to a GET of a URL, accepting a media type; those in `ABSENT` are no errors."""


@dataclass(frozen=True)
class TokenServer:
    """Where to ask for a token; of the rest, what is empty was not told."""

    url: str
    algorithms: frozenset[str] = frozenset()
    scopes: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = ()


def discover(base: str, fetch: Fetch, *, token_url: str, plain_http: bool) -> TokenServer:
    """The token server of the FHIR server at `base`; `token_url` is the operator's word for it.

    Raises `FhirloomError` (server) where nobody tells, or where it would be asked in clear.
    """
    told = _document(fetch(f"{base}/.well-known/smart-configuration", "application/json"))
    endpoint = token_url or _text(told.get("token_endpoint"))
    if not endpoint:
        statement = _document(fetch(f"{base}/metadata", "application/fhir+json"))
        endpoint = next(_oauth_tokens(statement), "")
    if not endpoint:
        raise _wrong(
            "The server doesn't tell where it gives out tokens",
            "Check that the server's URL is its FHIR base, or give --token-url.",
        )
    try:
        url = httpx.URL(f"{base}/").join(endpoint)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host:
        raise _wrong("The token endpoint is no URL", "Give the right one with --token-url.")
    if in_clear(url) and not plain_http:
        raise _wrong(
            "The token endpoint is plain http, which would show the token",
            "Give an https one with --token-url, or allow this with --plain-http.",
        )
    return TokenServer(
        str(url),
        frozenset(_texts(told.get(ALGORITHMS))),
        _texts(told.get("scopes_supported")),
        _texts(told.get("capabilities")),
    )


def _oauth_tokens(statement: Mapping[str, Any]) -> Iterator[str]:
    """The token endpoints in the security of a CapabilityStatement's `rest`."""
    for rest in _objects(statement.get("rest")):
        security = rest.get("security")
        for extension in _objects(security.get("extension") if isinstance(security, dict) else ()):
            if extension.get("url") == OAUTH_URIS:
                for part in _objects(extension.get("extension")):
                    if part.get("url") == "token" and (uri := _text(part.get("valueUri"))):
                        yield uri


def _document(response: httpx.Response) -> dict[str, Any]:
    return json_object(response) if response.is_success else {}


def _objects(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _texts(value: object) -> tuple[str, ...]:
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def _wrong(what: str, fix: str) -> FhirloomError:
    return FhirloomError("server", what, where=WHERE, fix=fix)
