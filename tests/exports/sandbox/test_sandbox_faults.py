"""Each fault makes a difference that a client can see: a table of faults that do nothing proves
nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx

from exports.connection.smart import CLIENT_ASSERTION_TYPE, assertion
from exports.sandbox.faults import FAULTS
from exports.sandbox.mischief.exchange import Memory
from tests.exports.sandbox.asking import KICK_OFF, parameters
from tests.exports.ward import write_ward

NARROWED = "_type=Patient&_since=2020-01-01T00:00:00Z&_elements=id&_typeFilter=Patient%3F_id%3D1"
TOLD = ("content-encoding", "content-range", "content-type", "retry-after", "location")
SKEW = timedelta(minutes=5)
Seen = list[tuple[object, ...]]


class Witness:
    """Goes through a whole export, stubbornly, and writes down what it sees."""

    def __init__(self, ehr: Any, http: httpx.Client) -> None:
        self._ehr, self._http = ehr, http
        self.seen: Seen = []

    def look(self) -> Seen:
        for path in ("/fhir/.well-known/smart-configuration", "/fhir/metadata"):
            self._ask("GET", path)
        self._log_in("system/*.rs", "system/*.read")
        self._log_in("system/Patient.read system/Practitioner.read")
        body = parameters(("patient", "Reference", {"reference": "Patient/p-1"}))
        self._ask("POST", "/fhir/Patient/$export", headers=KICK_OFF, json=body)
        self._ask("GET", f"/fhir/$export?{NARROWED}", headers=KICK_OFF)
        started = self._ask("GET", "/fhir/$export", headers=KICK_OFF)
        if started is not None and "content-location" in started.headers:
            self._follow(started.headers["content-location"])
        return self.seen

    def _log_in(self, *scopes: str) -> None:
        for scope in scopes:
            form = {
                "grant_type": "client_credentials",
                "scope": scope,
                "client_assertion_type": CLIENT_ASSERTION_TYPE,
                "client_assertion": assertion(
                    self._ehr.key, "test-client", f"{self._ehr.root}/token"
                ),
            }
            granted = self._ask("POST", "/token", data=form)
            if granted is not None and granted.status_code == 200:
                token = granted.json()
                self.seen.append((token["expires_in"], token["scope"]))
                self._http.headers["Authorization"] = f"Bearer {token['access_token']}"

    def _follow(self, url: str) -> None:
        self.seen.append((url.startswith("http"),))
        for _ in range(3):
            status = self._ask("GET", url)
        if status is not None and status.headers.get("content-type") == "application/json":
            file = status.json()["output"][0]["url"]
            for headers in ({}, {"Range": "bytes=20-"}, {}):
                self._ask("GET", file, headers=headers)
        self._ask("DELETE", url)

    def _ask(self, method: str, url: str, **given: Any) -> httpx.Response | None:
        try:
            answer = self._http.request(method, url, **given)
        except httpx.TransportError as broken:
            self.seen.append((type(broken).__name__,))
            return None
        except httpx.DecodingError:
            self.seen.append(("not gzip",))
            return None
        told = [answer.headers.get(name) for name in TOLD]
        skewed = abs(parsedate_to_datetime(answer.headers["date"]) - datetime.now(UTC)) > SKEW
        packed_anew = answer.headers.get("etag") == '"packed-anew"'
        text = self._nameless(answer.text)
        self.seen.append((answer.status_code, *told, text, skewed, packed_anew))
        return answer

    def _nameless(self, text: str) -> str:
        """Without what differs from server to server, and from job to job."""
        for name in {part for part in text.replace('"', "/").split("/") if len(part) >= 32}:
            text = text.replace(name, "…")
        return text.replace(self._ehr.root, "…")


def test_each_fault_can_be_seen(start_ehr: Callable[..., Any], tmp_path: Path) -> None:
    write_ward(tmp_path / "ward")
    ehr = start_ehr(folder=tmp_path / "ward", faults=("delete-404",))

    def look(*faults: str) -> Seen:
        ehr.mischief.faults = [FAULTS[name] for name in faults]
        ehr.mischief.memory = Memory()
        http.headers.pop("Authorization", None)
        return Witness(ehr, http).look()

    with httpx.Client(base_url=ehr.root, trust_env=False) as http:
        _prepared(look)
        clean = look()
        assert look() == clean
        for name in FAULTS:
            assert look(name) != clean, name


def _prepared(look: Callable[[], Seen]) -> None:
    """Looks until a manifest is seen: the files are there from then on, and their types told."""
    deadline = time.monotonic() + 60
    while not any('"transactionTime"' in str(part) for seen in look() for part in seen):
        assert time.monotonic() < deadline, "no export was ever complete"
