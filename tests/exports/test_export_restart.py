"""A client killed with -9 continues where it was, and ends with the same landing zone."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from exports.bulk import export

CLIENT = """
import sys
from pathlib import Path
from exports.access import Access
from exports.bulk import export
from exports.request import ExportRequest
server, key, phi = sys.argv[1:]
export(ExportRequest(server, Access("test-client", Path(key))), Path(phi))
"""


def run_until_killed(ehr: Any, phi: Path, reached: list[str]) -> None:
    """Run the client in a process of its own, killed once `reached` has an entry."""
    arguments = [ehr.request.server, str(ehr.request.access.key), str(phi)]
    with subprocess.Popen([sys.executable, "-c", CLIENT, *arguments]) as process:
        deadline = time.monotonic() + 30
        while not reached:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.kill()


@pytest.mark.parametrize("moment", ["polling", "download"])
def test_killed_and_started_again_it_ends_the_same(ehr: Any, tmp_path: Path, moment: str) -> None:
    expected = export(ehr.request, tmp_path / "undisturbed" / "phi").sealed.digest
    ehr.seen.clear()
    phi, reached = tmp_path / "work" / "phi", []

    def hold(request: Request) -> Response | None:
        path = request.url.path
        if moment == "polling" and path.count("/") == 2 and "/jobs/" in path:
            reached.append(path)
            return Response(status_code=202, headers={"Retry-After": "60"})
        if moment == "download" and "Patient.0001" in path:
            reached.append(path)
            return Response(status_code=503, headers={"Retry-After": "60"})
        return None

    ehr.meddle = hold
    run_until_killed(ehr, phi, reached)
    ehr.meddle = lambda request: None
    zone = export(ehr.request, phi)
    assert zone.sealed.digest == expected
    assert len(ehr.paths("GET", "$export")) == 1
    assert len(ehr.paths("GET", "Observation")) == 1


def test_killed_in_the_middle_of_a_file_it_takes_no_part_for_the_whole(
    ehr: Any, tmp_path: Path, hospital: Path
) -> None:
    expected = export(ehr.request, tmp_path / "undisturbed" / "phi").sealed.digest
    phi, reached = tmp_path / "work" / "phi", []
    whole = (hospital / "Observation.0001.ndjson.gz").read_bytes()

    class HalfAFile(Response):
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            start = {"type": "http.response.start", "status": 200, "headers": []}
            await send(start)
            half = whole[: len(whole) // 2]
            await send({"type": "http.response.body", "body": half, "more_body": True})
            reached.append("half")
            await receive()
            while (await receive())["type"] != "http.disconnect":
                pass

    ehr.meddle = lambda request: HalfAFile() if "Observation" in request.url.path else None
    run_until_killed(ehr, phi, reached)
    ehr.meddle = lambda request: None
    assert export(ehr.request, phi).sealed.digest == expected
