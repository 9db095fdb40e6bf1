"""Access: one way to log in, whole, and no origin that is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from exports.access import OPEN, Access
from exports.errors import FhirloomError
from exports.request import ExportRequest

FILE = Path("secret")


@pytest.mark.parametrize(
    "wrong",
    [
        {"client_id": "c"},
        {"key": FILE},
        {"user": "u"},
        {"password_file": FILE},
        {"client_id": "c", "key": FILE, "bearer_file": FILE},
        {"user": "u", "password_file": FILE, "bearer_file": FILE},
        {"certificate_key": FILE},
        {"file_origins": ("files.example.org",)},
        {"file_origins": ("https://files.example.org/path",)},
    ],
    ids=str,
)
def test_an_access_that_means_nothing_is_bad_input(wrong: dict[str, Any]) -> None:
    with pytest.raises(FhirloomError) as raised:
        Access(**wrong)
    assert raised.value.code == "bad-input"


def test_plain_http_needs_leave_beyond_loopback() -> None:
    server = "http://ehr.example/fhir"
    with pytest.raises(FhirloomError, match="--plain-http"):
        ExportRequest(server)
    assert ExportRequest(server, Access(plain_http=True)).base == server
    assert ExportRequest("http://127.0.0.1/fhir").access == OPEN
