"""One HTTP request, sent with patience: what is transient is tried again, what is fatal told.

Sources: FHIR Bulk Data Access STU2, "Error Status" (an OperationOutcome, possibly of code
`transient`); RFC 9110, section 10.2.3 (Retry-After in seconds or as a date).
"""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpx
import orjson

from exports.errors import FhirloomError

SHORTEST_WAIT: Final = 0.2
LONGEST_WAIT: Final = 3600.0
TRANSIENT: Final = frozenset({429, 502, 503, 504})
OUTCOME_CODE: Final = re.compile(r"[a-z][a-z_\-]{1,40}")


@dataclass(frozen=True)
class Patience:
    """How often a transient failure is tried again, and how long to wait (seconds, doubling)."""

    retries: int = 6
    first_wait: float = 0.5
    longest_wait: float = 30.0

    def wait(self, attempt: int) -> float:
        """The pause after the attempt of that number (from 0), with jitter."""
        pause = min(self.longest_wait, self.first_wait * 2.0**attempt)
        return pause * random.uniform(0.75, 1.25)  # noqa: S311 - spreads load, hides nothing


def send(
    http: httpx.Client,
    request: Callable[[], httpx.Request],
    *,
    what: str,
    patience: Patience,
    answers: frozenset[int] = frozenset(),
) -> httpx.Response:
    """Send what `request` makes (anew for each attempt) until there is an answer; body unread.

    An answer is a status of 2xx or one of `answers`. `what` names the request in errors. The
    caller closes the response. Raises `FhirloomError` (server).
    """
    for attempt in range(patience.retries + 1):
        last = attempt == patience.retries
        try:
            response = http.send(request(), stream=True, follow_redirects=True)
            if response.is_success or response.status_code in answers:
                return response
            response.read()
        except (httpx.RequestError, httpx.InvalidURL) as failure:
            if last:
                raise unreachable(failure, what) from None
            time.sleep(patience.wait(attempt))
            continue
        if last or not _is_transient(response):
            raise refusal(response, what)
        time.sleep(retry_after(response) or patience.wait(attempt))
    raise AssertionError("the last attempt returns or raises")


def retry_after(response: httpx.Response) -> float | None:
    """Seconds to wait as the server asks, within 0.2 s and one hour; None where it doesn't."""
    value = response.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        seconds = float(value)
    else:
        try:
            then = parsedate_to_datetime(value)
        except ValueError:
            return None
        zoned = then if then.tzinfo else then.replace(tzinfo=UTC)
        seconds = (zoned - datetime.now(UTC)).total_seconds()
    return min(LONGEST_WAIT, max(SHORTEST_WAIT, seconds))


def refusal(response: httpx.Response, what: str) -> FhirloomError:
    """The server's error, told by status and code alone: its own words may name a patient."""
    code = _outcome_code(response)
    return FhirloomError(
        "server",
        f"The server answered {response.status_code}" + (f" ({code})" if code else ""),
        where=what,
        fix="Check the request, and what this client may read on that server.",
    )


def unreachable(failure: Exception, what: str) -> FhirloomError:
    """The connection's error."""
    return FhirloomError(
        "server",
        f"The server can't be reached ({type(failure).__name__})",
        where=what,
        fix="Check the server's address, then run again: the export continues where it stopped.",
    )


def _is_transient(response: httpx.Response) -> bool:
    return response.status_code in TRANSIENT or (
        response.is_server_error and _outcome_code(response) == "transient"
    )


def _outcome_code(response: httpx.Response) -> str:
    """The code of an OperationOutcome's first issue, or of an OAuth error; "" where none."""
    try:
        body = orjson.loads(response.content)
        code = body["error"] if "error" in body else body["issue"][0]["code"]
    except (orjson.JSONDecodeError, LookupError, TypeError):
        return ""
    return code if isinstance(code, str) and OUTCOME_CODE.fullmatch(code) else ""
