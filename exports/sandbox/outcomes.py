"""What the sandbox server answers when something is wrong: an OperationOutcome, with its status.

Source: FHIR R4, OperationOutcome; the codes are those of its issue-type value set.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import JSONResponse, Response

FHIR_JSON: Final = "application/fhir+json"


class Wrong(Exception):  # noqa: N818 - an answer to the client, not a failure of the server
    """A request that can't be served: HTTP status, issue code, and what is told about it."""

    def __init__(
        self, status: int, code: str, diagnostics: str, headers: Mapping[str, str] | None = None
    ) -> None:
        self.status = status
        self.code = code
        self.diagnostics = diagnostics
        self.headers = dict(headers or {})
        super().__init__(diagnostics)

    def answer(self) -> Response:
        """As FHIR tells it."""
        return JSONResponse(
            operation_outcome("error", self.code, self.diagnostics),
            status_code=self.status,
            media_type=FHIR_JSON,
            headers=self.headers,
        )


def operation_outcome(severity: str, code: str, diagnostics: str) -> dict[str, Any]:
    """An OperationOutcome of one issue."""
    issue = {"severity": severity, "code": code, "diagnostics": diagnostics}
    return {"resourceType": "OperationOutcome", "issue": [issue]}
