"""What a server's error says, as far as it is no words of its own: codes of closed lists.

Sources: FHIR R4 and R5, value sets IssueSeverity and IssueType; RFC 6749, section 5.2; RFC 6750,
section 3.1. A free code could be a name, so one that is in no list is not told.
"""

from __future__ import annotations

from typing import Any, Final

import httpx
import orjson

SEVERITIES: Final = frozenset({"fatal", "error", "warning", "information", "success"})
ISSUE_CODES: Final = frozenset(
    {
        "invalid",
        "structure",
        "required",
        "value",
        "invariant",
        "security",
        "login",
        "unknown",
        "expired",
        "forbidden",
        "suppressed",
        "processing",
        "not-supported",
        "duplicate",
        "multiple-matches",
        "not-found",
        "deleted",
        "too-long",
        "code-invalid",
        "extension",
        "too-costly",
        "business-rule",
        "conflict",
        "limited-filter",
        "transient",
        "lock-error",
        "no-store",
        "exception",
        "timeout",
        "incomplete",
        "throttled",
        "informational",
        "success",
    }
)
OAUTH_CODES: Final = frozenset(
    {
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "invalid_token",
        "insufficient_scope",
        "access_denied",
        "server_error",
        "temporarily_unavailable",
    }
)


def outcome_issues(response: httpx.Response) -> list[tuple[str, str]]:
    """(severity, code) of each issue of an OperationOutcome, the body read; none where it is none.

    Whatever is in no list of the standard is left out: "" for a severity, the issue for a code.
    """
    issues = json_object(response).get("issue")
    return [
        (_listed(issue.get("severity"), SEVERITIES), code)
        for issue in (issues if isinstance(issues, list) else ())
        if isinstance(issue, dict) and (code := _listed(issue.get("code"), ISSUE_CODES))
    ]


def oauth_error(response: httpx.Response) -> str:
    """The code of an OAuth error, the body read; "" where it is none."""
    return _listed(json_object(response).get("error"), OAUTH_CODES)


def json_object(response: httpx.Response) -> dict[str, Any]:
    """The JSON object that is the answer's body; an empty one where it is none."""
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return {}
    return body if isinstance(body, dict) else {}


def _listed(code: object, known: frozenset[str]) -> str:
    return code if isinstance(code, str) and code in known else ""
