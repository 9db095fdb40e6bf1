"""How long to wait when a server says so."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest

from exports.transport import Patience, retry_after


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.2),
        ("86400", 3600.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.2),
        ("soon", None),
        ("-5", None),
        ("", None),
    ],
)
def test_retry_after_is_obeyed_within_bounds(told: str, seconds: float | None) -> None:
    assert retry_after(httpx.Response(429, headers={"Retry-After": told})) == seconds


def test_retry_after_may_be_a_date() -> None:
    then = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    seconds = retry_after(httpx.Response(503, headers={"Retry-After": then}))
    assert seconds is not None
    assert 90 < seconds <= 100


def test_pauses_double_up_to_the_longest() -> None:
    patience = Patience(first_wait=1.0, longest_wait=4.0)
    for attempt, expected in enumerate([1.0, 2.0, 4.0, 4.0]):
        assert 0.75 * expected <= patience.wait(attempt) <= 1.25 * expected
