"""What is tried again and what isn't, how long a server may make us wait, and what errors tell."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import JSONResponse, PlainTextResponse, Response

from exports.connection.outcomes import outcome_issues
from exports.connection.transport import Patience, refusal, send
from exports.connection.waiting import LONGEST_WAIT, SHORTEST_WAIT, clock_skew, retry_after
from exports.errors import FhirloomError
from tests.exports.serving import Asked, serving

QUICK = Patience(retries=3, first_wait=0.01, longest_wait=0.02)


def told(value: str, **headers: str) -> float | None:
    return retry_after(httpx.Response(429, headers={"Retry-After": value, **headers}))


def http_date(seconds_ahead: float) -> str:
    return format_datetime(datetime.now(UTC) + timedelta(seconds=seconds_ahead), usegmt=True)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("7", 7.0),
        ("7.25", 7.25),
        ("0", 0.2),
        ("0.0", 0.2),
        ("86400", 3600.0),
        ("999999999", 3600.0),
        ("9" * 20, 3600.0),
        ("1000000000", 0.2),
        ("1000000000000", 0.2),
        ("4000000000", 3600.0),
        ("4000000000000", 3600.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.2),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 3600.0),
        ("soon", None),
        ("-5", None),
        ("-0.5", None),
        ("nan", None),
        ("inf", None),
        ("1e3", None),
        ("٣", None),
        ("", None),
    ],
)
def test_retry_after_is_obeyed_within_bounds(value: str, seconds: float | None) -> None:
    response = httpx.Response(429, headers=[(b"Retry-After", value.encode())])
    assert retry_after(response) == seconds


@pytest.mark.parametrize("scale", [1, 1000])
def test_retry_after_may_be_an_epoch_in_seconds_or_milliseconds(scale: int) -> None:
    seconds = told(str(int((time.time() + 100) * scale)))
    assert seconds is not None
    assert 80 < seconds <= 100


def test_retry_after_may_be_a_date() -> None:
    seconds = told(http_date(100))
    assert seconds is not None
    assert 80 < seconds <= 100


def test_a_date_is_read_by_the_server_s_own_clock() -> None:
    two_hours = 7200.0
    assert told(http_date(two_hours + 60), Date=http_date(two_hours)) == pytest.approx(60, abs=1)
    skew = clock_skew(httpx.Response(400, headers={"Date": http_date(two_hours)}))
    assert skew == pytest.approx(two_hours, abs=20)
    assert abs(clock_skew(httpx.Response(400))) < 20


@given(st.text(st.characters(codec="latin-1", exclude_categories=["Cc"])), st.booleans())
def test_whatever_retry_after_says_it_stays_in_bounds(value: str, dated: bool) -> None:
    headers = [(b"Retry-After", value.encode("latin-1"))]
    headers += [(b"Date", value.encode("latin-1"))] if dated else []
    seconds = retry_after(httpx.Response(503, headers=headers))
    assert seconds is None or SHORTEST_WAIT <= seconds <= LONGEST_WAIT


def test_pauses_double_up_to_the_longest() -> None:
    patience = Patience(first_wait=1.0, longest_wait=4.0)
    for attempt, expected in enumerate([1.0, 2.0, 4.0, 4.0]):
        assert 0.75 * expected <= patience.wait(attempt) <= 1.25 * expected


def issue(code: Any, severity: Any = "error") -> dict[str, Any]:
    return {"severity": severity, "code": code, "diagnostics": "Jane Doe"}


@pytest.mark.parametrize(
    ("body", "issues"),
    [
        ([issue("transient"), issue("too-costly", "warning")], [("error", "transient")] * 1),
        ([issue("jane-doe"), issue("not-found")], [("error", "not-found")]),
        ([issue("not-found", "Jane")], [("", "not-found")]),
        ([issue(["not-found"]), issue(None), "Jane", None, 7], []),
        ("Jane", []),
        (None, []),
    ],
)
def test_an_outcome_is_told_by_the_standard_s_own_codes(
    body: Any, issues: list[tuple[str, str]]
) -> None:
    response = httpx.Response(500, json={"resourceType": "OperationOutcome", "issue": body})
    assert outcome_issues(response)[: len(issues)] == issues
    assert "Jane" not in repr(outcome_issues(response))
    assert "Jane" not in str(refusal(response, "a request"))


@pytest.mark.parametrize("body", [b"", b"<html>Jane</html>", b"[]", b'"Jane"', b"{}", b"\xff"])
def test_what_is_no_outcome_has_no_issues(body: bytes) -> None:
    response = httpx.Response(500, content=body)
    assert outcome_issues(response) == []
    assert "Jane" not in str(refusal(response, "a request"))


@pytest.fixture
def http() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False) as http:
        yield http


Ask = Callable[..., httpx.Response]


@pytest.fixture
def ask(http: httpx.Client) -> Ask:
    def ask(url: str, method: str = "GET", **options: Any) -> httpx.Response:
        def request() -> httpx.Request:
            return http.build_request(method, url, content=b"body" if method == "POST" else None)

        usual: dict[str, Any] = {"patience": QUICK, "gate": lambda request: None}
        return send(http, request, what="a request", **usual | options)

    return ask


def outcome(status: int, code: str) -> Response:
    return JSONResponse({"resourceType": "OperationOutcome", "issue": [issue(code)]}, status)


@pytest.mark.parametrize("status", [429, 502, 503, 504, "transient"])
def test_what_is_transient_is_tried_again(ask: Ask, status: Any) -> None:
    seen: list[Asked] = []

    def answer(asked: Asked) -> Response:
        seen.append(asked)
        if len(seen) > 2:
            return PlainTextResponse("here")
        return outcome(500, status) if status == "transient" else Response(status_code=status)

    with serving(answer) as root:
        assert ask(root).read() == b"here"
    assert len(seen) == 3


@pytest.mark.parametrize(("status", "code"), [(400, "invalid"), (500, "exception"), (410, "")])
def test_what_is_fatal_is_told_at_once(ask: Ask, status: int, code: str) -> None:
    seen: list[Asked] = []

    def answer(asked: Asked) -> Response:
        seen.append(asked)
        return outcome(status, code)

    with serving(answer) as root, pytest.raises(FhirloomError, match=str(status)) as raised:
        ask(root)
    assert len(seen) == 1
    assert code in str(raised.value)
    assert "Jane" not in str(raised.value)


def test_patience_ends(ask: Ask) -> None:
    seen: list[Asked] = []

    def answer(asked: Asked) -> Response:
        seen.append(asked)
        return outcome(503, "transient")

    with serving(answer) as root, pytest.raises(FhirloomError, match=r"503 \(transient\)"):
        ask(root)
    assert len(seen) == QUICK.retries + 1


def test_nobody_at_the_address_is_unreachable(ask: Ask) -> None:
    with serving(lambda asked: Response()) as root:
        pass
    with pytest.raises(FhirloomError, match="can't be reached"):
        ask(f"{root}/Patient/jane")


@pytest.mark.parametrize(
    "url", ["ftp://ehr.example/jane", "https:///jane", "https://ehr.example:port/jane", ""]
)
def test_what_is_no_url_is_told_without_it_and_tried_once(ask: Ask, url: str) -> None:
    tries: list[httpx.Request] = []
    with pytest.raises(FhirloomError, match="can't be sent") as raised:
        ask(url, gate=tries.append)
    assert len(tries) <= 1
    assert "jane" not in str(raised.value)


@pytest.mark.parametrize("packed", [False, True])
def test_no_more_than_a_mebibyte_of_an_error_is_read(ask: Ask, packed: bool) -> None:
    body = b"[" * (5 << 20)

    def answer(asked: Asked) -> Response:
        if packed:
            return Response(gzip.compress(body), 404, {"Content-Encoding": "gzip"})
        return Response(body, 404)

    with serving(answer) as root:
        response = ask(root, answers=frozenset({404}))
    assert response.content == body[: 1 << 20]


def test_an_error_that_is_packed_badly_is_still_told_by_its_status(ask: Ask) -> None:
    def answer(asked: Asked) -> Response:
        return Response(b"no gzip", 404, {"Content-Encoding": "gzip"})

    with serving(answer) as root, pytest.raises(FhirloomError, match="404"):
        ask(root)


def redirect(status: int, to: str) -> Response:
    return Response(status_code=status, headers={"Location": to})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed_through_the_gate(ask: Ask, status: int) -> None:
    passed: list[str] = []

    def answer(asked: Asked) -> Response:
        return redirect(status, "/there") if asked.path == "/" else PlainTextResponse("there")

    with serving(answer) as root:
        response = ask(root, gate=lambda request: passed.append(request.url.path))
        assert response.read() == b"there"
    assert passed == ["/", "/there"]


def test_redirects_end_after_five(ask: Ask) -> None:
    seen: list[Asked] = []

    def answer(asked: Asked) -> Response:
        seen.append(asked)
        return redirect(302, "/jane")

    with serving(answer) as root, pytest.raises(FhirloomError, match="without end") as raised:
        ask(root)
    assert len(seen) == 6
    assert "jane" not in str(raised.value)


@pytest.mark.parametrize("status", [301, 302, 303])
@pytest.mark.parametrize("method", ["POST", "DELETE"])
def test_a_post_or_delete_never_becomes_a_get(ask: Ask, status: int, method: str) -> None:
    seen: list[str] = []

    def answer(asked: Asked) -> Response:
        seen.append(asked.method)
        if asked.path == "/":
            return redirect(status, "/there")
        return Response(asked.body)

    with serving(answer) as root:
        if (status, method) == (301, "DELETE"):
            assert ask(root, method).is_success
        else:
            with pytest.raises(FhirloomError, match="redirects a"):
                ask(root, method)
    assert "GET" not in seen


def test_a_body_is_sent_on_within_the_origin_and_no_further(ask: Ask) -> None:
    elsewhere: list[Asked] = []

    def other(asked: Asked) -> Response:
        elsewhere.append(asked)
        return Response()

    with serving(other) as far:

        def answer(asked: Asked) -> Response:
            places = {"/far": far, "/near": "/there"}
            if asked.path in places:
                return redirect(307, places[asked.path])
            return Response(asked.body)

        with serving(answer) as root:
            assert ask(f"{root}/near", "POST").read() == b"body"
            with pytest.raises(FhirloomError, match="redirects a POST"):
                ask(f"{root}/far", "POST")
    assert elsewhere == []
