"""Access: one way to log in, whole, and no origin that is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from exports.access import OPEN, Access
from exports.errors import FhirloomError
from exports.request import ExportRequest

FILE = Path("secret")
CLIENT = {"client_id": "c", "key": FILE}


@pytest.mark.parametrize(
    "wrong",
    [
        {"client_id": "c"},
        {"key": FILE},
        {"user": "u"},
        {"password_file": FILE},
        {**CLIENT, "bearer_file": FILE},
        {"user": "u", "password_file": FILE, "bearer_file": FILE},
        {"user": "u:v", "password_file": FILE},
        {"certificate_key": FILE},
        {"file_origins": ("files.example.org",)},
        {"file_origins": ("https://files.example.org/path",)},
        {"file_origins": ("https://files.example.org?a=b",)},
        {"file_origins": ("https://user:secret@files.example.org",)},
        {"file_origins": ("https://files.example.org:port",)},
        {"file_origins": ("https://[files",)},
        {"file_origins": ("http://files.example.org",)},
        {**CLIENT, "token_url": "ehr.example/token"},
        {**CLIENT, "token_url": "http://ehr.example/token"},
        {**CLIENT, "token_url": "https://user:secret@ehr.example/token"},
        {**CLIENT, "scopes": ("system/*.rs system/*.read",)},
        {**CLIENT, "scopes": ("",)},
        {"proxy": "proxy.example:3128"},
        {"proxy": "socks5://proxy.example:3128"},
        {"proxy": "http://user:secret@proxy.example/path"},
    ],
    ids=str,
)
def test_an_access_that_means_nothing_is_bad_input(wrong: dict[str, Any]) -> None:
    with pytest.raises(FhirloomError) as raised:
        Access(**wrong)
    assert raised.value.code == "bad-input"
    assert "secret" not in str(raised.value)


def test_plain_http_needs_leave_beyond_loopback() -> None:
    server = "http://ehr.example/fhir"
    with pytest.raises(FhirloomError, match="--plain-http"):
        ExportRequest(server)
    assert ExportRequest(server, Access(plain_http=True)).base == server
    assert ExportRequest("http://127.0.0.1/fhir").access == OPEN


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8080", "[::1]:8080"])
def test_loopback_may_be_plain_http(host: str) -> None:
    Access("c", FILE, token_url=f"http://{host}/token", file_origins=(f"http://{host}",))


def test_what_the_operator_allows_may_be_plain_http() -> None:
    plain = "http://files.example.org"
    Access("c", FILE, token_url=f"{plain}/token", file_origins=(plain,), plain_http=True)


def test_the_proxy_s_password_is_not_shown() -> None:
    access = Access(proxy="http://user:s3cret@proxy.example:3128")
    assert "s3cret" not in repr(access) + str(access)
