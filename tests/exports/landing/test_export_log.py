"""The export log says what happened, survives restarts and kills, and gives no secret away."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exports.landing.export_log import NO_LOG, EventLog, ExportLog, _told


def entries(log: ExportLog) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in log.path.read_bytes().splitlines()]


def test_an_event_has_the_members_of_the_format(tmp_path: Path) -> None:
    log = ExportLog(tmp_path / "phi", "job-1")
    log.event("kickoff", {"exportUrl": "https://x/fhir/$export", "errorCode": None})
    log.event("manifest_complete", {"transactionTime": datetime(2024, 1, 1, tzinfo=UTC)})
    first, second = entries(log)
    assert first.pop("client").startswith("fhirloom ")
    assert set(first) == set(second) == {"exportId", "timestamp", "eventId", "eventDetail"}
    assert (first["exportId"], first["eventId"]) == ("job-1", "kickoff")
    assert first["eventDetail"] == {"exportUrl": "https://x/fhir/$export", "errorCode": None}
    assert second["eventDetail"] == {"transactionTime": "2024-01-01T00:00:00+00:00"}
    assert datetime.fromisoformat(first["timestamp"]).tzinfo is not None
    assert log.path == tmp_path / "phi" / "logs" / "export" / "job-1.ndjson"
    assert log.path.stat().st_mode & 0o777 == 0o600
    assert log.path.parent.stat().st_mode & 0o777 == 0o700


def test_a_restart_goes_on_after_the_last_whole_line(tmp_path: Path) -> None:
    ExportLog(tmp_path, "job").event("kickoff", {})
    path = ExportLog(tmp_path, "job").path
    with path.open("ab") as file:
        file.write(b'{"exportId":"job","eve')
    log = ExportLog(tmp_path, "job")
    log.event("export_complete", {"files": 1})
    assert [entry["eventId"] for entry in entries(log)] == ["kickoff", "export_complete"]


def test_threads_do_not_tear_each_others_lines(tmp_path: Path) -> None:
    log = ExportLog(tmp_path, "job")

    def tell(number: int) -> None:
        log.event(
            "download_complete", {"resourceCount": number, "fileUrl": "https://x/" + "f" * 999}
        )

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(tell, range(200)))
    told = [entry["eventDetail"]["resourceCount"] for entry in entries(log)]
    assert sorted(told) == list(range(200))


@pytest.mark.parametrize(
    "detail",
    [
        {"fileUrl": "https://store.example.org/a/b.ndjson?sig=SECRET&x=1"},
        {"fileUrl": "https://user:SECRET@store.example.org/b#SECRET"},
        {"responseHeaders": {"Set-Cookie": "SECRET", "WWW-Authenticate": "SECRET"}},
        {"responseHeaders": {"Location": "HTTPS://store.example.org/b?SECRET"}},
        {"body": "refused: Bearer SECRET.SECRET, see https://x/y?token=SECRET."},
        {"body": {"access_token": "SECRET", "issue": [{"Authorization": "SECRET"}]}},
        {"requestParameters": {"patient": ["SECRET"], "_type": "Patient"}},
        {"responseHeaders": {"content-location": "/jobs/1?sig=SECRET"}},
        {"body": '{"url":"jobs/1?X-Signature=SECRET", "access_token" : "SECRET"}'},
        {"body": "expired: eyJhbGciOiJFUzM4NCJ9.SECRET.SECRET"},
        {"body": "grant_type=x&client_assertion=SECRET&scope=y"},
    ],
)
def test_no_secret_is_written(tmp_path: Path, detail: dict[str, Any]) -> None:
    log = ExportLog(tmp_path, "job")
    log.event("kickoff", detail)
    assert b"SECRET" not in log.path.read_bytes()


def test_what_is_no_secret_stays(tmp_path: Path) -> None:
    detail = {
        "fileUrl": "https://store.example.org/a/b.ndjson",
        "requestParameters": {"_typeFilter": ["Observation?code=1"], "_since": "2024"},
        "responseHeaders": {"X-Progress": "50 %"},
        "xProgress": "50 %",
        "resourceCount": 7,
    }
    log = ExportLog(tmp_path, "job")
    log.event("download_complete", detail)
    assert entries(log)[0]["eventDetail"] == detail


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**31), 2**31) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=9,
)


@given(value=JSON)
def test_telling_twice_is_telling_once(value: Any) -> None:
    once = _told(value)
    assert _told(once) == once
    assert orjson.loads(orjson.dumps(once)) == once


def test_nobody_has_to_listen() -> None:
    log: EventLog = NO_LOG
    log.event("kickoff", {"exportUrl": "x"})
