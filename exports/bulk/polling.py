"""Waiting for a job: asked about as often as the server likes, through outages, until it is done.

Source: FHIR Bulk Data Access STU1 to STU4, "Bulk Data Status Request".
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import httpx
import orjson

from exports.bulk.manifest import file_urls, next_page, with_partials
from exports.bulk.refusal import EVERY_STATUS, Refusal, refusal_of
from exports.connection.origins import origin_of
from exports.connection.session import Session
from exports.connection.transport import Patience
from exports.connection.waiting import retry_after
from exports.errors import FhirloomError
from exports.landing.export_log import EventLog
from exports.progress import Progress

WHAT: Final = "the export's status"
GONE: Final = frozenset({404, 410})
UNREACHED: Final = re.compile(r"can't be reached|No secure connection|answered (408|425|429|5\d\d)")
"""What `connection.transport` says of a failure that passes, be it the token's endpoint."""
FEW: Final = 4
ELSEWHERE: Final = (
    "The server gave its status another origin than its own, where nobody answers: check what it"
    " is told of its public URL, and which of its names and ports can be reached from here."
)
MOST_PAGES: Final = 20_000
MOST_STALE_PAGES: Final = 100
"""Pages in a row that tell of no new file, after which none is expected to."""
FIRST_FIXED: Final = 5.0
"""Seconds; a server that asks for no more than that is always taken at its word."""
ENOUGH_DOUBLINGS: Final = 30
"""A job of weeks is polled more often than a float can be doubled."""
PERCENT: Final = re.compile(r"(\d{1,3})(?:\.\d+)?\s*%")


@dataclass(frozen=True)
class PollPace:
    """How a job is polled, in seconds.

    Between two polls lie `floor` to `ceiling`, whatever the server asks for; where it asks for
    nothing, pauses grow from `first` to a minute. Where what it asks for may be a `fixed` number,
    a pause is no longer than the wait so far (five seconds at first). An outage (nobody there, or
    failures that call themselves transient) is waited out for `outage`.
    """

    floor: float = 0.2
    ceiling: float = 600.0
    first: float = 1.0
    outage: float = 3600.0
    fixed: bool = False

    def between(self, response: httpx.Response, polls: int, waited: float) -> float:
        """The pause of a job that goes on, for which `waited` seconds have been waited so far."""
        pause = self.pause(response, polls)
        return min(pause, max(self.floor, FIRST_FIXED, waited)) if self.fixed else pause

    def pause(self, response: httpx.Response, polls: int) -> float:
        """The pause that the server asks for, else one that grows."""
        told = retry_after(response)
        return self.backoff(polls) if told is None else self.bounded(told)

    def backoff(self, polls: int) -> float:
        """The pause after so many polls (from 0) for which nobody told one, with jitter."""
        patience = Patience(first_wait=self.first, longest_wait=60.0)
        return self.bounded(patience.wait(min(polls, ENOUGH_DOUBLINGS)))

    def bounded(self, seconds: float) -> float:
        """`seconds` within the bounds."""
        return min(self.ceiling, max(self.floor, seconds))


def await_manifests(
    session: Session,
    status_url: str,
    base: str,
    *,
    pace: PollPace,
    progress: Progress,
    log: EventLog,
    partials: Sequence[dict[str, Any]] = (),
    keep: Callable[[dict[str, Any]], None] = lambda partial: None,
) -> list[dict[str, Any]] | None:
    """The bodies of the completed job's manifest, page by page; None where the job is gone.

    `partials` are partial manifests that an earlier run has seen, `keep` is given each new one.
    Raises `FhirloomError` (server) for a failed job, and for an outage that doesn't end.
    """
    seen = list(partials)

    def keep_new(partial: dict[str, Any]) -> None:
        if partial not in seen:
            seen.append(partial)
            keep(partial)

    pages: list[dict[str, Any]] = []
    asked: set[str] = set()
    told: set[str] = set()
    stale = 0
    url: str | None = status_url
    while url is not None:
        if url in asked or stale > MOST_STALE_PAGES or len(pages) > MOST_PAGES:
            raise FhirloomError(
                "server",
                "The export's manifest goes on without end",
                where=WHAT,
                fix="Run again; if it stays so, tell the server's operator.",
            )
        asked.add(url)
        page = _Poll(
            session, url, pace, progress, log, keep_new, _is_elsewhere(url, base)
        ).until_done()
        if page is None:
            return None
        pages.append(page)
        new = file_urls(page) - told
        told |= new
        stale = 0 if new else stale + 1
        url = next_page(page, base)
    return [dict(body) for body in with_partials(pages, seen)]


class _Poll:
    """One URL, polled until it is answered."""

    def __init__(
        self,
        session: Session,
        url: str,
        pace: PollPace,
        progress: Progress,
        log: EventLog,
        keep: Callable[[dict[str, Any]], None],
        elsewhere: bool,
    ) -> None:
        self._session = session
        self._url = url
        self._pace = pace
        self._progress = progress
        self._log = log
        self._keep = keep
        self._unproven = elsewhere
        self._failing_since: float | None = None
        self._failures = 0
        self._bare_failures = 0

    def until_done(self) -> dict[str, Any] | None:
        """The body of the complete manifest (page); None where the server knows it no longer."""
        polls, began = 0, time.monotonic()
        while True:
            response = self._ask()
            if response is None:
                continue
            self._unproven = False
            status = _job_status(response)
            if status in GONE:
                return None
            if status == 202:
                self._failing_since, self._failures, self._bare_failures = None, 0, 0
                self._told(response, polls)
                time.sleep(self._pace.between(response, polls, time.monotonic() - began))
                polls += 1
            elif 200 <= status < 300:
                return _json_object(response)
            else:
                self._failed(response, refusal_of(response, WHAT, status))
                time.sleep(self._pace.pause(response, self._failures - 1))

    def _ask(self) -> httpx.Response | None:
        """The answer; None where there was none, and the time to wait for one isn't over."""
        try:
            return self._session.send(
                "GET",
                self._url,
                what=WHAT,
                headers={"Accept": "application/json"},
                answers=EVERY_STATUS,
                patience=Patience(retries=0),
            )
        except FhirloomError as failure:
            if not UNREACHED.search(failure.what):
                raise
            self._outlast(failure)
            time.sleep(self._pace.backoff(self._failures - 1))
            return None

    def _told(self, response: httpx.Response, polls: int) -> None:
        said = response.headers.get("x-progress", "")
        percent = PERCENT.search(said)
        if percent is None:
            self._progress(polls, None, "polls")
        else:
            self._progress(min(100, int(percent[1])), 100, "percent prepared")
        self._log.event(
            "status_progress",
            {
                "body": None,
                "xProgress": said or None,
                "retryAfter": response.headers.get("retry-after"),
            },
        )
        with suppress(FhirloomError):
            body = _json_object(response)
            if isinstance(body.get("output"), list):
                self._keep(body)

    def _failed(self, response: httpx.Response, refusal: Refusal) -> None:
        """Go on after a failure that passes. Raises `FhirloomError` for one that doesn't."""
        self._log.event("status_error", refusal.for_log())
        if refusal.status == 401:
            raise refusal.error(self._session.remedy(response))
        self._bare_failures += not refusal.passes
        if not refusal.passes and (refusal.status < 500 or self._bare_failures == FEW):
            raise refusal.error(
                "Look at the server's own words in the export log, then start another job with"
                " --fresh."
            )
        self._outlast(refusal.error("Run again later: the export continues where it stopped."))

    def _outlast(self, failure: FhirloomError) -> None:
        """Note one more failure. Raises it, where they have gone on for too long."""
        now = time.monotonic()
        self._failures += 1
        if self._unproven and self._failures == FEW:
            raise FhirloomError(failure.code, failure.what, where=WHAT, fix=ELSEWHERE)
        if self._failing_since is None:
            self._failing_since = now
        elif now - self._failing_since > self._pace.outage:
            raise failure
        self._progress(self._failures, None, "polls without an answer")


def _is_elsewhere(url: str, base: str) -> bool:
    try:
        return origin_of(url) != origin_of(base)
    except httpx.InvalidURL:
        return True


def _job_status(response: httpx.Response) -> int:
    """The status of the job, which STU4 tells apart from that of the answer."""
    separate = re.match(r"\s*([2-5]\d\d)\b", response.headers.get("x-export-status", ""))
    return int(separate[1]) if separate and response.is_success else response.status_code


def _json_object(response: httpx.Response) -> dict[str, Any]:
    with suppress(orjson.JSONDecodeError):
        body = orjson.loads(response.content)
        if isinstance(body, dict) and body.get("resourceType") != "OperationOutcome":
            return body
    raise FhirloomError(
        "server",
        "The completed export has no manifest",
        where=WHAT,
        fix="Run again; if it stays so, tell the server's operator.",
    )
