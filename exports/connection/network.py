"""The HTTP client by which a server is reached: proxy, trusted CAs, a certificate of our own."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Final

import httpx

from exports.access import Access
from exports.connection.origins import LOOPBACK
from exports.errors import FhirloomError

TIMEOUT: Final = httpx.Timeout(120.0, connect=10.0)
"""Seconds; the long one is how long nothing at all may come, and some kick-offs take a minute."""
TALKATIVE: Final = ("httpx", "httpcore")
NO_COOKIES: Final = DefaultCookiePolicy(allowed_domains=())
"""A session's cookie is a credential, and would go to every port of a host (RFC 6265, 8.5)."""


@contextmanager
def open_http(access: Access) -> Iterator[httpx.Client]:
    """A client that goes the way `access` says; without a proxy named, the environment's is used.

    Safe in many threads. Raises `FhirloomError` (bad-input) for files that can't be used.
    """
    # These log each URL, and that of a file may be a signed one.
    for name in TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    verify = _tls(access)
    # A proxy for the outside world can't reach this machine's own loopback.
    direct: dict[str, httpx.BaseTransport | None] = {
        f"all://{f'[{host}]' if ':' in host else host}": None for host in LOOPBACK
    }
    try:
        http = httpx.Client(
            timeout=TIMEOUT,
            verify=verify,
            cookies=CookieJar(NO_COOKIES),
            proxy=access.proxy or None,
            mounts=None if access.proxy else direct,
        )
    except (ValueError, ImportError, httpx.InvalidURL):
        raise _unusable(
            "The environment's proxy can't be used",
            "proxy",
            "Set HTTPS_PROXY and NO_PROXY to http(s) URLs and hosts, or give --proxy.",
        ) from None
    with http:
        yield http


def _tls(access: Access) -> ssl.SSLContext:
    try:
        context = (
            httpx.create_ssl_context()
            if access.ca is None
            else ssl.create_default_context(cafile=access.ca)
        )
    except (OSError, ValueError):
        raise _unusable(
            "The CA file can't be used", "CA file", "Give the CA's certificates in a PEM file."
        ) from None
    if access.certificate is not None:
        try:
            # Without a password, OpenSSL would ask for one at the terminal.
            context.load_cert_chain(access.certificate, access.certificate_key, password="")
        except (OSError, ValueError):
            raise _unusable(
                "The certificate can't be used",
                "certificate",
                "Give a PEM certificate and the unencrypted PEM key that belongs to it.",
            ) from None
    return context


def _unusable(what: str, where: str, fix: str) -> FhirloomError:
    return FhirloomError("bad-input", what, where=where, fix=fix)
