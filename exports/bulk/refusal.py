"""A server's refusal: its OperationOutcome's severities and codes to tell, its words to itself.

Source: FHIR R4, OperationOutcome. What a server writes as free text may name a patient.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import orjson

from exports.connection.outcomes import oauth_error, outcome_issues
from exports.errors import FhirloomError

EVERY_STATUS: Final = frozenset(range(300, 600))
PASSING: Final = frozenset({408, 425, 429, 502, 503, 504})
PASSING_CODES: Final = frozenset({"transient", "throttled", "timeout", "lock-error", "no-store"})
LONGEST_TOLD: Final = 3
LONGEST_LOGGED: Final = 20_000


@dataclass(frozen=True)
class Refusal:
    """An answer that is none: its status, and (severity, code) of each issue in its body.

    `words` is all free text in the issues, to be searched and never to be shown; `body` is for
    the log in `phi` alone.
    """

    what: str
    status: int
    issues: tuple[tuple[str, str], ...] = ()
    words: str = field(default="", repr=False)
    body: str = field(default="", repr=False)

    @property
    def codes(self) -> frozenset[str]:
        """The issues' codes."""
        return frozenset(code for _, code in self.issues)

    @property
    def passes(self) -> bool:
        """Whether the same request may be answered later."""
        return self.status in PASSING or bool(PASSING_CODES & self.codes)

    @property
    def told(self) -> str:
        """Status, severities and codes."""
        issues = dict.fromkeys(": ".join(filter(None, issue)) for issue in self.issues)
        told = "; ".join(list(issues)[:LONGEST_TOLD])
        return f"{self.status} ({told})" if told else str(self.status)

    def error(self, fix: str) -> FhirloomError:
        """The refusal as an error, without the server's words."""
        return FhirloomError("server", f"The server answered {self.told}", where=self.what, fix=fix)

    def for_log(self) -> dict[str, Any]:
        """The refusal as the export log tells it."""
        return {"code": self.status, "body": self.body, "message": self.told}


def refusal_of(response: httpx.Response, what: str, status: int | None = None) -> Refusal:
    """The refusal in an answer; `status` where that of the job is another than the answer's."""
    oauth = oauth_error(response)
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        body = None
    return Refusal(
        what=what,
        status=response.status_code if status is None else status,
        issues=tuple(outcome_issues(response)) or (("", oauth),) * bool(oauth),
        words="\n".join(_words(body)),
        body=response.text[:LONGEST_LOGGED],
    )


def _words(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _words(part)
    elif isinstance(value, list):
        for part in value:
            yield from _words(part)
