"""A job is waited for at a sane pace, through outages; a failed one is told, in codes alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exports.access import OPEN
from exports.bulk.polling import PollPace, await_manifests
from exports.connection.session import open_session
from exports.connection.transport import Patience
from exports.errors import FhirloomError
from exports.progress import silent
from tests.exports.scripted import Answer, Asked, Script, outcome, serving

HASTE = PollPace(floor=0.0, ceiling=0.01, first=0.001, outage=5.0)
MANIFEST = {"transactionTime": "2026-01-01T00:00:00Z", "output": []}
SECRET = "Jane Roe, MRN 123"  # noqa: S105 - a name, as servers write them


class Events:
    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def event(self, name: str, detail: Any) -> None:
        self.told.append((name, detail))


@pytest.fixture
def server() -> Iterator[Script]:
    with serving() as script:
        yield script


def in_turn(*answers: Answer) -> Callable[[Asked], Answer]:
    """The answers one after the other, and then the last again and again."""
    left = list(answers)
    return lambda asked: left.pop(0) if len(left) > 1 else left[0]


def wait_for(server: Script, pace: PollPace = HASTE, **more: Any) -> Any:
    with open_session(server.base, OPEN, Patience(0)) as session:
        return await_manifests(
            session,
            f"{server.root}/job",
            server.base,
            **{"pace": pace, "progress": silent, "log": Events(), **more},
        )


DONE = Answer(200, MANIFEST)


@pytest.mark.parametrize(
    "passing",
    [
        Answer(202),
        Answer(202, {"resourceType": "OperationOutcome", "issue": []}),
        Answer(429),
        Answer(503, b"<html>maintenance"),
        Answer(502),
        Answer(408),
        Answer(500),
        outcome(500, "transient"),
        outcome(400, "throttled"),
        outcome(503, "exception"),
        Answer(200, None, {"X-Export-Status": "202 Accepted"}),
        Answer(200, outcome(503, "transient").body, {"X-Export-Status": "503 Unavailable"}),
    ],
    ids=str,
)
def test_what_passes_is_waited_out(server: Script, passing: Answer) -> None:
    server.answer = in_turn(passing, passing, DONE)
    assert wait_for(server) == [MANIFEST]
    assert len(server.seen) == 3
    assert {asked.headers["accept"] for asked in server.seen} == {"application/json"}


@pytest.mark.parametrize(
    ("fatal", "told", "polls"),
    [
        (outcome(400, "invalid", SECRET), "400 \\(error: invalid\\)", 1),
        (outcome(403, "forbidden", SECRET), "403 \\(error: forbidden\\)", 1),
        (outcome(500, "exception", SECRET), "500 \\(error: exception\\)", 4),
        (Answer(500, SECRET.encode()), "500$", 4),
        (
            Answer(200, outcome(500, "processing", SECRET).body, {"X-Export-Status": "500 Failed"}),
            "500 \\(error: processing\\)",
            4,
        ),
    ],
    ids=str,
)
def test_what_is_fatal_is_told_by_severity_and_code(
    server: Script, fatal: Answer, told: str, polls: int
) -> None:
    server.answer = in_turn(Answer(202), fatal)
    log = Events()
    with pytest.raises(FhirloomError) as raised:
        wait_for(server, log=log)
    assert raised.match(told.removesuffix("$"))
    assert raised.value.code == "server"
    assert raised.value.where == "the export's status"
    assert SECRET not in str(raised.value)
    assert len(server.seen) == 1 + polls
    (*_, (name, detail)) = log.told
    assert name == "status_error"
    assert SECRET in detail["body"]


@pytest.mark.parametrize("status", [404, 410])
def test_a_job_that_is_gone(server: Script, status: int) -> None:
    server.answer = in_turn(Answer(202), outcome(status, "not-found"))
    assert wait_for(server) is None


def test_an_outage_ends_some_day(server: Script) -> None:
    server.answer = in_turn(outcome(503, "transient", SECRET))
    with pytest.raises(FhirloomError, match="503") as raised:
        wait_for(server, PollPace(0.0, 0.01, 0.001, outage=0.6))
    assert "continues" in raised.value.fix
    assert SECRET not in str(raised.value)
    assert len(server.seen) > 3


def test_nobody_there_is_an_outage_too() -> None:
    with serving() as script:
        pass
    heard: list[tuple[int, int | None, str]] = []
    with pytest.raises(FhirloomError, match="can't be reached"):
        wait_for(
            script,
            PollPace(0.0, 0.01, 0.001, outage=0.6),
            progress=lambda *told: heard.append(told),
        )
    assert heard[0] == (1, None, "polls without an answer")
    assert len(heard) > 2


def test_progress_is_shown(server: Script) -> None:
    server.answer = in_turn(
        Answer(202, headers={"X-Progress": "about 42.5 % of it"}),
        Answer(202, headers={"X-Progress": "in progress"}),
        Answer(202, headers={"X-Progress": "731%"}),
        DONE,
    )
    heard: list[tuple[int, int | None, str]] = []
    log = Events()
    wait_for(server, progress=lambda *told: heard.append(told), log=log)
    assert heard == [
        (42, 100, "percent prepared"),
        (1, None, "polls"),
        (100, 100, "percent prepared"),
    ]
    assert log.told[0][1]["xProgress"] == "about 42.5 % of it"


@pytest.mark.parametrize("body", [b"", b"<html>", [1], {"resourceType": "OperationOutcome"}])
def test_a_completed_job_without_a_manifest_is_told(server: Script, body: Any) -> None:
    server.answer = in_turn(Answer(200, body))
    with pytest.raises(FhirloomError, match="no manifest"):
        wait_for(server)


def page(number: int, after: str = "") -> dict[str, Any]:
    link = [{"relation": "next", "url": after}] if after else []
    output = [{"type": "Patient", "url": f"https://ehr.example/{number}"}]
    return {**MANIFEST, "output": output, "link": link}


def test_all_pages_are_followed_through_failures(server: Script) -> None:
    second = in_turn(Answer(503), Answer(202), Answer(200, page(2, "../page-3")))
    pages = {
        "/job": in_turn(Answer(200, page(1, f"{server.root}/page-2"))),
        "/page-2": second,
        "/page-3": in_turn(Answer(200, page(3))),
    }
    server.answer = lambda asked: pages[asked.path](asked)
    assert wait_for(server) == [
        page(1, f"{server.root}/page-2"),
        page(2, "../page-3"),
        page(3),
    ]


def test_pages_in_a_circle_are_not_followed_for_ever(server: Script) -> None:
    server.answer = lambda asked: Answer(200, page(1, "/job" if "2" in asked.path else "/page-2"))
    with pytest.raises(FhirloomError, match="without end"):
        wait_for(server)


def test_pages_that_tell_nothing_new_are_not_followed_for_ever(server: Script) -> None:
    server.answer = lambda asked: Answer(200, page(1, f"/page-{len(server.seen)}"))
    with pytest.raises(FhirloomError, match="without end"):
        wait_for(server)
    assert len(server.seen) < 200


def test_a_page_that_is_gone_is_a_job_that_is_gone(server: Script) -> None:
    server.answer = lambda asked: Answer(410) if "2" in asked.path else Answer(200, page(1, "/2"))
    assert wait_for(server) is None


def test_partial_manifests_are_kept_once_and_add_what_the_last_one_lacks(server: Script) -> None:
    server.answer = in_turn(
        Answer(202, page(1)), Answer(202, page(1)), Answer(202, page(2)), Answer(200, page(2))
    )
    kept: list[dict[str, Any]] = []
    before = [page(0)]
    bodies = wait_for(server, partials=before, keep=kept.append)
    assert kept == [page(1), page(2)]
    told = [entry["url"][-1] for body in bodies for entry in body["output"]]
    assert told == ["2", "0", "1"]


def answered(value: str) -> httpx.Response:
    return httpx.Response(202, headers={"retry-after": value})


@pytest.mark.parametrize(
    ("value", "least", "most"),
    [
        ("7", 7, 7),
        ("0", 0.2, 0.2),
        ("0.5", 0.5, 0.5),
        ("86400", 600, 600),
        ("soon", 0.7, 1.3),
        ("-5", 0.7, 1.3),
        ("", 0.7, 1.3),
    ],
)
def test_the_pace_is_the_server_s_within_bounds(value: str, least: float, most: float) -> None:
    assert least <= PollPace().pause(answered(value), 0) <= most


@pytest.mark.parametrize(
    ("ahead", "least", "most"),
    [(timedelta(seconds=90), 60, 90), (timedelta(days=-1), 0.2, 0.2)],
    ids=["ahead", "past"],
)
def test_a_date_is_waited_for(ahead: timedelta, least: float, most: float) -> None:
    then = format_datetime(datetime.now(UTC) + ahead, usegmt=True)
    test_the_pace_is_the_server_s_within_bounds(then, least, most)


@pytest.mark.parametrize("unit", [1, 1000])
def test_an_epoch_is_a_moment_unless_it_lies_far_ahead(unit: int) -> None:
    now = int(time.time())
    test_the_pace_is_the_server_s_within_bounds(str(unit * (now + 90)), 60, 90)
    test_the_pace_is_the_server_s_within_bounds(str(unit * (now + 10**7)), 600, 600)


def printable(text: str) -> bool:
    return text.isascii() and text.isprintable()


@given(
    st.integers(-(10**20), 10**20).map(str)
    | st.floats().map(str)
    | st.datetimes().map(lambda time: format_datetime(time))
    | st.text().filter(printable),
    st.integers(0, 10**6),
)
def test_no_value_breaks_the_bounds(value: str, polls: int) -> None:
    assert 0.5 <= PollPace(0.5, 30.0).pause(answered(value), polls) <= 30.0


def test_a_week_of_polling_without_a_word_from_the_server_is_no_load() -> None:
    pace = PollPace()
    pauses = [pace.pause(answered(""), polls) for polls in range(200)]
    assert pauses[0] < 2
    assert min(pauses[8:]) >= 45
    assert max(pauses) <= 75
