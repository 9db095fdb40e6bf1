"""A client of a sandbox server that knows the protocol and nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import orjson

from exports.connection.smart import CLIENT_ASSERTION_TYPE, assertion

KICK_OFF = {"Accept": "application/fhir+json", "Prefer": "respond-async"}


@contextmanager
def logged_in(ehr: Any, scope: str = "system/*.rs") -> Iterator[httpx.Client]:
    """An HTTP client with a token, whose URLs begin at the server's root."""
    form = {
        "grant_type": "client_credentials",
        "scope": scope,
        "client_assertion_type": CLIENT_ASSERTION_TYPE,
        "client_assertion": assertion(ehr.key, "test-client", f"{ehr.root}/token"),
    }
    with httpx.Client(base_url=ehr.root, trust_env=False) as http:
        token = http.post("/token", data=form).json()["access_token"]
        http.headers["Authorization"] = f"Bearer {token}"
        yield http


def parameters(*given: tuple[str, str, Any]) -> dict[str, Any]:
    """A Parameters resource of (name, type of the value, value)."""
    return {
        "resourceType": "Parameters",
        "parameter": [{"name": name, f"value{kind}": value} for name, kind, value in given],
    }


def completed(http: httpx.Client, accepted: httpx.Response) -> httpx.Response:
    """The answer to the status request of a job that is complete."""
    assert accepted.status_code == 202, accepted.text
    url = accepted.headers["content-location"]
    while (status := http.get(url)).status_code == 202:
        time.sleep(0.01)
    assert status.status_code == 200, status.text
    return status


def rows(http: httpx.Client, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every row of those files, each as many as the manifest counts."""
    found = []
    for entry in entries:
        lines = http.get(entry["url"]).content.splitlines()
        assert len(lines) == entry["count"]
        found += [orjson.loads(line) for line in lines]
    return found
