"""Instants in any writing compare as time does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exports.increments.versions import Version, good_lines, instant, place

ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(datetime(1900, 1, 2), datetime(9998, 1, 1), timezones=ZONES)


@given(MOMENTS, MOMENTS)
def test_instants_compare_as_time_does(one: datetime, other: datetime) -> None:
    written = instant(one.isoformat()), instant(other.isoformat())
    assert (written[0] < written[1]) == (one < other)
    assert (written[0] == written[1]) == (one == other)
    # It is the written form of an instant itself.
    assert instant(written[0]) == written[0]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("2026-01-01T12:00:00Z", "2026-01-01T12:00:00"),
        ("2026-01-01T12:00:00.500+01:00", "2026-01-01T11:00:00.5"),
        ("2026-01-01T12:00:00+0100", "2026-01-01T11:00:00"),
        ("2026-01-01T12:00:00.1234567891Z", "2026-01-01T12:00:00.1234567891"),
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00"),
        ("2026-01-01T12:00:00", "2026-01-01T12:00:00"),
        ("2026-01-01T12:00", "2026-01-01T12:00:00"),
        ("2026-01-01", "2026-01-01T00:00:00"),
        ("0999-01-01T00:00:00Z", "0999-01-01T00:00:00"),
        ("2026-02-30T00:00:00Z", ""),
        ("0001-01-01T00:00:00+14:00", ""),
        ("9999-12-31T23:59:60Z", ""),
        ("2026", ""),
        ("yesterday", ""),
        ("", ""),
    ],
)
def test_what_is_no_instant_is_older_than_any(written: str, expected: str) -> None:
    assert instant(written) == expected


def test_a_line_s_place() -> None:
    line = b'{"resourceType":"Patient","id":"a","meta":{"lastUpdated":"2026-01-01T01:00:00+01:00"}}'
    kind, resource_id, version = place(b" " + line + b"\r")
    assert (kind, resource_id, version.updated) == ("Patient", "a", "2026-01-01T00:00:00")
    assert version == place(line)[2]
    untold = [
        place(b'{"resourceType":"Patient","id":"a"%s}' % meta)[2]
        for meta in (b"", b',"meta":7', b',"meta":{}', b',"meta":{"lastUpdated":7}')
    ]
    assert {one.updated for one in untold} == {""}
    assert max(*untold, version) == version
    assert Version("", "f") > Version("", "0")


def test_blank_lines_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "rows.ndjson"
    path.write_bytes(b"1\n\n \r\n22")
    assert list(good_lines(path)) == [(1, 0, b"1"), (4, 6, b"22")]


def test_the_time_of_a_manifest_compares_with_those_of_rows() -> None:
    assert instant(datetime(2026, 1, 1, 1, tzinfo=UTC).isoformat()) == "2026-01-01T01:00:00"
