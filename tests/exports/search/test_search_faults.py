"""A server that fails in the middle: the same records in the end, or a clear word, and no value."""

from __future__ import annotations

import gzip
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from exports.access import Access
from exports.errors import FhirloomError
from exports.landing.zone import LandingZone
from exports.options import ExportOptions
from exports.search.source import search
from tests.exports.search.searchable import FAST, SearchServer, observation, outcome

ALONE = ExportOptions(parallel=1)
TYPES = ("Patient", "Observation")
CLIENT = """
import sys
from pathlib import Path
from exports.options import ExportOptions
from exports.request import ExportRequest
from exports.search.source import search
server, phi = sys.argv[1:]
request = ExportRequest(server, level="patient", types=("Patient", "Observation"))
search(request, Path(phi), options=ExportOptions(parallel=1))
"""


def run(server: SearchServer, tmp_path: Path, **more: Any) -> LandingZone:
    asked = server.request(**{"types": TYPES, **more})
    return search(asked, tmp_path / "phi", options=ALONE, patience=FAST)


def on_page(
    answer: Callable[[], Response], *, times: int, after: str = "3"
) -> Callable[[Request], Response | None]:
    """Answer so, `times` times, instead of giving the page of observations that begins there."""
    left = [times]

    def meddle(request: Request) -> Response | None:
        at = request.query_params.get("_after", "0")
        if request.url.path.endswith("/Observation") and at == after and left[0]:
            left[0] -= 1
            return answer()
        return None

    return meddle


class Short(Response):
    """A body that ends before its announced length."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-length", b"4000"), (b"content-type", b"application/fhir+json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        body = b'{"resourceType":"Bundle","total":7,"entry":['
        await send({"type": "http.response.body", "body": body, "more_body": True})
        raise ConnectionResetError


@pytest.mark.parametrize(
    "answer",
    [
        lambda: outcome(500, "exception"),
        lambda: outcome(429, "throttled", {"Retry-After": "0"}),
        lambda: outcome(503, "transient"),
        lambda: Response("<html>Zebediah Quux</html>", status_code=200),
        lambda: Response('{"resourceType":"Bundle","total":7,"entry":[{"resource":{"id"'),
        lambda: JSONResponse({"resourceType": "OperationOutcome", "issue": []}),
        lambda: Short(),
        lambda: Response(gzip.compress(b"{}" * 5000)[:40], headers={"Content-Encoding": "gzip"}),
    ],
    ids=["500", "429", "503", "html", "cut-json", "outcome", "cut-socket", "cut-gzip"],
)
def test_a_page_that_fails_once_is_asked_for_again(
    server: SearchServer, tmp_path: Path, answer: Callable[[], Response]
) -> None:
    server.meddle = on_page(answer, times=1)
    zone = run(server, tmp_path)
    assert zone.rows() == {"Observation": 7, "Patient": 3}
    assert zone.findings == ()


def test_a_page_that_always_fails_ends_in_an_error_without_its_words(
    server: SearchServer, tmp_path: Path
) -> None:
    server.meddle = on_page(lambda: outcome(500, "exception"), times=1000)
    with pytest.raises(FhirloomError, match=r"answered 500 \(exception\)") as raised:
        run(server, tmp_path)
    assert raised.value.code == "server"
    assert "Zebediah" not in str(raised.value.facts)


def test_a_page_without_its_next_link_is_noticed_by_the_total(
    server: SearchServer, tmp_path: Path
) -> None:
    entry = {"resource": orjson.loads(observation(0, "p-1"))}
    page = {"resourceType": "Bundle", "total": 4, "entry": [entry]}
    server.meddle = on_page(lambda: JSONResponse(page), times=1, after="0")
    assert run(server, tmp_path).rows() == {"Observation": 7, "Patient": 3}


def test_a_total_that_never_comes_is_incomplete_and_nothing_is_landed(
    server: SearchServer, tmp_path: Path
) -> None:
    page = {"resourceType": "Bundle", "total": 7}
    server.meddle = on_page(lambda: JSONResponse(page), times=1000, after="3")
    server.rows["Observation"] = [observation(n, "p-1") for n in range(7)]
    with pytest.raises(FhirloomError, match="3 of 7 resources came, 3 times") as raised:
        run(server, tmp_path)
    assert raised.value.code == "incomplete"
    assert not (tmp_path / "phi" / "landing").exists()
    assert len(server.asked("Observation", patient="p-1", _after="3")) == 3


def test_an_estimated_total_gives_way_to_the_count(server: SearchServer, tmp_path: Path) -> None:
    def estimates(request: Request) -> Response | None:
        if not request.url.path.endswith("/Observation") or "_summary" in request.query_params:
            return None
        mine = [r for r in server.rows["Observation"] if request.query_params["patient"] in r]
        entries = [{"resource": orjson.loads(row)} for row in mine]
        return JSONResponse({"resourceType": "Bundle", "total": 1000, "entry": entries})

    server.meddle = estimates
    zone = run(server, tmp_path)
    assert zone.rows() == zone.server_rows == {"Observation": 7, "Patient": 3}


def test_patients_that_never_come_are_incomplete(server: SearchServer, tmp_path: Path) -> None:
    page = {"resourceType": "Bundle", "total": 9}
    lost = [2]

    def loses_patients(request: Request) -> Response | None:
        if request.url.path.endswith("/Patient") and not request.query_params.get("_id"):
            lost[0] -= 1
            return JSONResponse(page) if lost[0] >= 0 else None
        return None

    server.meddle = loses_patients
    assert run(server, tmp_path).rows() == {"Observation": 7, "Patient": 3}
    lost[0] = 1000
    with pytest.raises(FhirloomError, match="0 of 9 resources came") as raised:
        run(server, tmp_path / "again")
    assert raised.value.code == "incomplete"


def test_pages_may_come_packed(server: SearchServer, tmp_path: Path) -> None:
    page = orjson.dumps({"resourceType": "Bundle", "total": 0})
    packed = Response(gzip.compress(page), headers={"Content-Encoding": "gzip"})
    server.meddle = lambda request: packed if request.url.path.endswith("/Observation") else None
    assert run(server, tmp_path).server_rows == {"Observation": 0, "Patient": 3}


def test_an_empty_page_is_not_the_last_one(server: SearchServer, tmp_path: Path) -> None:
    def begins_empty(request: Request) -> Response | None:
        given = request.query_params
        if not request.url.path.endswith("/Observation") or given.keys() & {"_after", "_summary"}:
            return None
        link = {"relation": "next", "url": f"Observation?patient={given['patient']}&_after=0"}
        return JSONResponse({"resourceType": "Bundle", "link": [link]})

    server.meddle = begins_empty
    assert run(server, tmp_path).rows() == {"Observation": 7, "Patient": 3}


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://elsewhere.example/fhir/Observation?page=2", "another server"),
        ("Observation?patient=p-1&_after=0&_count=200", "never ends"),
    ],
)
def test_a_next_page_that_cannot_be_followed_is_told(
    server: SearchServer, tmp_path: Path, bearer: Access, url: str, words: str
) -> None:
    page = {"resourceType": "Bundle", "link": [{"relation": "next", "url": url}]}

    def astray(request: Request) -> Response | None:
        return JSONResponse(page) if request.url.path.endswith("/Observation") else None

    server.meddle = astray
    with pytest.raises(FhirloomError) as raised:
        run(server, tmp_path, access=bearer)
    assert words in f"{raised.value}"
    assert "p-1" not in str(raised.value)


def test_a_token_refused_in_the_middle_is_renewed_and_the_pages_go_on(
    server: SearchServer, tmp_path: Path, bearer: Access
) -> None:
    assert bearer.bearer_file is not None
    token = bearer.bearer_file

    def expired() -> Response:
        token.write_text("another-token")
        return outcome(401, "expired")

    server.meddle = on_page(expired, times=1)
    assert run(server, tmp_path, access=bearer).rows() == {"Observation": 7, "Patient": 3}
    assert server.seen[0][2] == "Bearer secret-token"
    assert server.seen[-1][2] == "Bearer another-token"
    assert len(server.asked("Observation", patient="p-1", _after="3")) == 2


def test_a_token_that_is_refused_twice_ends_it(
    server: SearchServer, tmp_path: Path, bearer: Access
) -> None:
    server.meddle = lambda request: outcome(401, "login")
    with pytest.raises(FhirloomError, match=r"answered 401 \(login\)"):
        run(server, tmp_path, access=bearer)
    assert len(server.seen) == 2


@pytest.mark.parametrize("moment", [("Patient", "p-2"), ("Observation", "p-1")])
def test_killed_in_the_middle_it_continues_and_lands_the_same(
    server: SearchServer, tmp_path: Path, moment: tuple[str, str]
) -> None:
    people = [f"p-{n}" for n in range(100, 145)]
    server.rows["Patient"] = [f'{{"resourceType":"Patient","id":"{p}"}}' for p in people]
    server.rows["Observation"] = [observation(n, person) for n, person in enumerate(people)]
    expected = search(
        server.request(types=TYPES), tmp_path / "undisturbed", options=ALONE, patience=FAST
    )
    phi, reached = tmp_path / "phi", []
    kind, last = moment[0], people[25]

    def hold(request: Request) -> Response | None:
        given = request.query_params
        if request.url.path.endswith(kind) and last in given.get("patient", given.get("_id", "")):
            reached.append(kind)
            return outcome(503, "transient", {"Retry-After": "60"})
        return None

    server.meddle = hold
    with subprocess.Popen([sys.executable, "-c", CLIENT, server.base, str(phi)]) as process:
        deadline = time.monotonic() + 60
        while not reached:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    server.meddle = lambda request: None
    server.seen.clear()
    zone = search(server.request(types=TYPES), phi, options=ALONE, patience=FAST)
    assert zone.sealed.digest == expected.sealed.digest
    parameter = "_id" if kind == "Patient" else "patient"
    asked_again = {given[parameter] for given in server.asked(kind) if parameter in given}
    assert not any(one in asked for asked in asked_again for one in people[:20])
    assert any(last in asked for asked in asked_again)


def test_no_value_and_no_url_with_a_patient_reaches_the_log(
    server: SearchServer, tmp_path: Path, bearer: Access
) -> None:
    server.meddle = on_page(lambda: outcome(500, "exception"), times=1)
    run(server, tmp_path, access=bearer)
    logs = [path for path in (tmp_path / "phi" / "logs").rglob("*") if path.is_file()]
    assert logs
    for path in logs:
        written = path.read_bytes()
        for secret in (b"p-1", b"Zebediah", b"secret-token", b"o-3"):
            assert secret not in written


def test_a_worker_that_dies_is_told_with_the_place_of_its_detail(
    server: SearchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho p-1 is not a value to show >&2\nexit 3\n")
    broken.chmod(0o700)
    monkeypatch.setenv("FHIRLOOM_SEARCH_PYTHON", str(broken))
    with pytest.raises(FhirloomError, match=r"phi/logs/search\.log") as raised:
        run(server, tmp_path)
    assert raised.value.code == "internal"
    assert "p-1" not in str(raised.value)
