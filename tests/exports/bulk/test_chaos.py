"""A client killed with -9 goes on where it was, and ends with the same landing zone each time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from exports.landing.zone import open_landing
from exports.options import DEFAULT_OPTIONS
from tests.exports.mortal import forks, start
from tests.exports.ward import write_ward

KILLS = int(os.environ.get("FHIRLOOM_KILLS", "10"))
CONTEXT = forks()
LONGEST = 60.0
TROUBLE = ("many-tiny-files", "cut-socket", "short-lived-tokens", "no-retry-after")


@pytest.fixture
def troubled(start_ehr: Callable[..., Any], tmp_path: Path) -> Any:
    """A server of many files that cuts some of them, and whose tokens don't live long."""
    write_ward(tmp_path / "ward")
    return start_ehr(folder=tmp_path / "ward", faults=TROUBLE, rate=0.05, seed=3)


def finish(ehr: Any, phi: Path) -> str:
    """Let an export end, and tell the digest of its landing zone."""
    process = start(CONTEXT, ehr.request, phi)
    process.join(LONGEST)
    assert process.exitcode == 0
    return open_landing(phi).sealed.digest


def test_killed_at_random_moments_it_ends_the_same(troubled: Any, tmp_path: Path) -> None:
    finish(troubled, tmp_path / "warm-up" / "phi")
    began = time.monotonic()
    expected = finish(troubled, tmp_path / "undisturbed" / "phi")
    undisturbed = time.monotonic() - began

    random, kills, zones = Random(KILLS), 0, 0  # noqa: S311 - moments, not secrets
    while kills < KILLS:
        phi = tmp_path / f"zone-{zones}" / "phi"
        process = start(CONTEXT, troubled.request, phi)
        process.join(random.uniform(0, undisturbed))
        if process.exitcode is None:
            process.kill()
            process.join()
            kills += 1
        else:
            assert process.exitcode == 0
            assert open_landing(phi).sealed.digest == expected
            zones += 1
    assert finish(troubled, tmp_path / f"zone-{zones}" / "phi") == expected


@pytest.mark.parametrize(
    ("method", "part", "number"),
    [
        ("POST", "/token", 1),
        ("GET", "$export", 1),
        ("GET", "/jobs/", 1),
        ("GET", "/rows-", 1),
        ("GET", "/rows-", 7),
        ("DELETE", "/jobs/", 1),
    ],
    ids=["token", "kick-off", "polling", "first file", "seventh file", "end"],
)
def test_killed_at_a_request_it_goes_on_from_there(
    start_ehr: Callable[..., Any], tmp_path: Path, method: str, part: str, number: int
) -> None:
    write_ward(tmp_path / "ward")
    ehr = start_ehr(folder=tmp_path / "ward", faults=("many-tiny-files",))
    expected = finish(ehr, tmp_path / "undisturbed" / "phi")
    files = len(ehr.paths("GET", "/rows-"))
    ehr.seen.clear()
    phi = tmp_path / "killed" / "phi"

    def kill(request: Request) -> Response | None:
        if len(ehr.paths(method, part)) >= number:
            process.kill()
            return Response(status_code=503)
        return None

    ehr.meddle = kill
    process = start(CONTEXT, ehr.request, phi)
    process.join(LONGEST)
    assert process.exitcode == -9
    ehr.meddle = lambda request: None

    assert finish(ehr, phi) == expected
    # A status URL is on the disk before the first poll, and a file that is whole stays.
    assert len(ehr.paths("GET", "$export")) == (2 if part == "$export" else 1)
    assert files <= len(ehr.paths("GET", "/rows-")) <= files + DEFAULT_OPTIONS.parallel


def test_killed_in_the_middle_of_a_file_it_takes_no_part_for_the_whole(
    ehr: Any, tmp_path: Path, hospital: Path
) -> None:
    expected = finish(ehr, tmp_path / "undisturbed" / "phi")
    phi, whole = tmp_path / "work" / "phi", (hospital / "Observation.0001.ndjson.gz").read_bytes()

    class HalfAFile(Response):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            half = whole[: len(whole) // 2]
            await send({"type": "http.response.body", "body": half, "more_body": True})
            process.kill()
            while (await receive())["type"] != "http.disconnect":
                pass

    ehr.meddle = lambda request: HalfAFile() if "Observation" in request.url.path else None
    process = start(CONTEXT, ehr.request, phi)
    process.join(LONGEST)
    assert process.exitcode == -9
    ehr.meddle = lambda request: None
    assert finish(ehr, phi) == expected
