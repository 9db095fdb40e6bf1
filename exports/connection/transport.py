"""One HTTP request, sent with patience: what is transient is tried again, what is fatal told.

Sources: FHIR Bulk Data Access STU2, "Error Status" (an OperationOutcome, possibly of code
`transient`); RFC 9110, section 15.4 (redirects).
"""

from __future__ import annotations

import random
import re
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Final

import httpx

from exports.connection.origins import origin_of
from exports.connection.outcomes import oauth_error, outcome_issues
from exports.connection.waiting import retry_after
from exports.errors import FhirloomError

TRANSIENT: Final = frozenset({429, 502, 503, 504})
REDIRECTS: Final = 5
LONGEST_ERROR: Final = 1 << 20
"""Bytes of an error's body that are read: an OperationOutcome fits, a hostile one does no harm."""
HOPELESS: Final = (httpx.UnsupportedProtocol, httpx.LocalProtocolError, httpx.InvalidURL)
ALERTS: Final = ("CERTIFICATE", "UNKNOWN_CA", "HANDSHAKE_FAILURE", "ACCESS_DENIED")
"""Words in the reason OpenSSL gives, where a server takes no client without (or with that)
certificate."""
PROXY_STATUS: Final = re.compile(r"([1-5]\d\d)\b")

Gate = Callable[[httpx.Request], None]
"""Told of each request just before it goes out, redirects included: gives it the credentials that
its destination may see, takes from it those that it may not, or raises `FhirloomError`."""


@dataclass(frozen=True)
class Patience:
    """How often a transient failure is tried again, and how long to wait (seconds, doubling)."""

    retries: int = 6
    first_wait: float = 0.5
    longest_wait: float = 30.0

    def wait(self, attempt: int) -> float:
        """The pause after the attempt of that number (from 0), with jitter."""
        pause = min(self.longest_wait, self.first_wait * 2.0 ** min(attempt, 30))
        return pause * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, hides nothing


def send(
    http: httpx.Client,
    request: Callable[[], httpx.Request],
    *,
    what: str,
    patience: Patience,
    gate: Gate,
    answers: frozenset[int] = frozenset(),
) -> httpx.Response:
    """Send what `request` makes (anew for each attempt) until there is an answer.

    An answer is a status of 2xx, its body unread, or one of `answers`, its body read as far as
    one MiB. `what` names the request in errors. Redirects are followed, five at most, through
    `gate`. The caller closes the response. Safe in many threads. Raises `FhirloomError` (server).
    """
    for attempt in range(patience.retries + 1):
        last = attempt == patience.retries
        try:
            response = _follow(http, request(), what, gate)
            if response.is_success:
                return response
            response = _bounded(response)
        except (httpx.RequestError, httpx.InvalidURL) as failure:
            if last or _is_hopeless(failure):
                raise unreachable(failure, what) from None
            time.sleep(patience.wait(attempt))
            continue
        if response.status_code in answers:
            return response
        if last or not _is_transient(response):
            raise refusal(response, what)
        time.sleep(retry_after(response) or patience.wait(attempt))
    raise AssertionError("the last attempt returns or raises")


def refusal(response: httpx.Response, what: str, fix: str = "") -> FhirloomError:
    """The server's error, told by status and code alone: its own words may name a patient."""
    if response.status_code == 407:
        return _proxy_refusal("407", what)
    code = _code(response)
    return FhirloomError(
        "server",
        f"The server answered {response.status_code}" + (f" ({code})" if code else ""),
        where=what,
        fix=fix or "Check the request, and what this client may read on that server.",
    )


def unreachable(failure: Exception, what: str) -> FhirloomError:
    """The connection's error."""
    if isinstance(failure, httpx.ProxyError):
        told = PROXY_STATUS.match(str(failure))
        return _proxy_refusal(told[1] if told else "", what)
    fault = _tls_fault(failure)
    if isinstance(fault, ssl.SSLCertVerificationError):
        return _untrusted(fault, what)
    if fault is not None and _is_hopeless(failure):
        problem = "The server refuses the connection without the right client certificate"
        fix = (
            "Give the certificate and key that it knows, with --certificate and --certificate-key."
        )
    elif fault is not None:
        problem = "No secure connection came about (TLS)"
        fix = "Check that the server speaks TLS 1.2 or later at this address and port."
    elif isinstance(failure, HOPELESS):
        problem = f"The request can't be sent ({type(failure).__name__})"
        fix = "Check the server's URL; if the URL is one that the server gave, tell its operator."
    else:
        problem = f"The server can't be reached ({type(failure).__name__})"
        fix = "Check the server's address, then run again: the export continues where it stopped."
    return FhirloomError("server", problem, where=what, fix=fix)


def _follow(http: httpx.Client, request: httpx.Request, what: str, gate: Gate) -> httpx.Response:
    for _ in range(REDIRECTS + 1):
        gate(request)
        response = http.send(request, stream=True, follow_redirects=False)
        if response.next_request is None:
            return response
        following = response.next_request
        _bounded(response)
        _check_redirect(request, following, what)
        request = following
    raise _misled("The server redirects without end", what)


def _check_redirect(request: httpx.Request, following: httpx.Request, what: str) -> None:
    if request.url.scheme == "https" and following.url.scheme != "https":
        raise _misled("The server redirects from https to plain http", what)
    if request.method == "GET":
        return
    # Followed, a POST would become a GET without its parameters, which asks for more than was
    # asked; and a body may name patients, which another server has no business to know.
    if following.method != request.method or origin_of(following.url) != origin_of(request.url):
        raise _misled(f"The server redirects a {request.method} to where it can't go", what)


def _bounded(response: httpx.Response) -> httpx.Response:
    """The answer with no more of its body than one MiB, read and unpacked; its stream is closed."""
    body = bytearray()
    # Whatever was packed badly, the status is told.
    with closing(response), suppress(httpx.DecodingError):
        for chunk in response.iter_bytes():
            body += chunk[: LONGEST_ERROR - len(body)]
            if len(body) >= LONGEST_ERROR:
                break
    wire = ("content-encoding", "content-length", "transfer-encoding")
    headers = [(name, value) for name, value in response.headers.multi_items() if name not in wire]
    return httpx.Response(
        response.status_code, headers=headers, content=bytes(body), request=response.request
    )


def _is_transient(response: httpx.Response) -> bool:
    return response.status_code in TRANSIENT or (
        response.is_server_error and _code(response) == "transient"
    )


def _code(response: httpx.Response) -> str:
    """The code of an OAuth error, or of an OperationOutcome's first issue; "" where none."""
    return oauth_error(response) or next((code for _, code in outcome_issues(response)), "")


def _is_hopeless(failure: Exception) -> bool:
    """Whether the same request will fail in the same way however often it is sent."""
    if isinstance(failure, HOPELESS):
        return True
    if isinstance(failure, httpx.ProxyError):
        return str(failure).startswith("4")
    fault = _tls_fault(failure)
    return fault is not None and any(word in (fault.reason or "") for word in ALERTS)


def _tls_fault(failure: BaseException) -> ssl.SSLError | None:
    return next((cause for cause in _causes(failure) if isinstance(cause, ssl.SSLError)), None)


def _causes(failure: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = failure
    while cause is not None:
        yield cause
        cause = cause.__cause__ or cause.__context__


def _untrusted(fault: ssl.SSLCertVerificationError, what: str) -> FhirloomError:
    name_differs = "mismatch" in fault.verify_message.lower()
    expired = fault.verify_code == 10  # X509_V_ERR_CERT_HAS_EXPIRED
    if name_differs:
        problem, fix = "is for another name", "Give the server's URL by the name it is certified."
    elif expired:
        problem, fix = "has expired", "Have its operator renew it, or set this machine's clock."
    else:
        problem, fix = "isn't trusted", "Give the CA that issued it, as a PEM file, with --ca."
    return FhirloomError("server", f"The server's certificate {problem}", where=what, fix=fix)


def _proxy_refusal(status: str, what: str) -> FhirloomError:
    return FhirloomError(
        "server",
        f"The proxy refuses{f' ({status})' if status else ''}",
        where=what,
        fix="Check --proxy; where it asks for a login, name a file that holds the whole URL.",
    )


def _misled(what: str, where: str) -> FhirloomError:
    fix = "Give the server's URL as it is after the redirect, or tell its operator."
    return FhirloomError("server", what, where=where, fix=fix)
