"""Lines in, rows and reasons out: nothing is lost and nothing depends on how the bytes arrive."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from exports.ndjson import (
    BLANKS,
    BYTE_ORDER_MARK,
    GZIP_MAGIC,
    LONGEST_LINE,
    DamagedGzip,
    judge,
    judge_all,
    read_lines,
    unpack,
)

GOOD = b'{"resourceType":"Patient","id":"a"}'
LINES = st.one_of(
    st.sampled_from([GOOD, b"", b"  \t\r", b"[]", b"{}", b'{"resourceType":"Patient"}', b"\xff"]),
    st.binary(max_size=12).filter(lambda line: b"\n" not in line),
)


def cut(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        (GOOD, ("Patient", "a")),
        (GOOD + b"\r", ("Patient", "a")),
        (b"", None),
        (b" \t\r", None),
        (b'{"resourceType":"Patient","id":"\xe9"}', "not-utf8"),
        (b'{"resourceType":"Patient","id":"a"', "not-json"),
        (GOOD + GOOD, "not-json"),
        (b'{"resourceType":"Observation","id":"a","value":NaN}', "not-json"),
        (b"[" + GOOD + b"]", "not-object"),
        (b"null", "not-object"),
        (b'{"id":"a"}', "no-type"),
        (b'{"resourceType":7,"id":"a"}', "no-type"),
        (b'{"resourceType":"Patients","id":"a"}', "unknown-type"),
        (b'{"resourceType":"Patient"}', "no-id"),
        (b'{"resourceType":"Patient","id":""}', "no-id"),
        (b'{"resourceType":"Patient","id":12}', "no-id"),
        (b" " * (LONGEST_LINE + 1), "too-long"),
    ],
)
def test_each_line_is_judged(line: bytes, verdict: object) -> None:
    assert judge(line) == verdict


@given(st.lists(LINES), st.integers(1, 9), st.booleans())
def test_every_line_that_is_not_blank_is_a_row_or_has_a_reason(
    lines: list[bytes], size: int, packed: bool
) -> None:
    data = b"\n".join(lines)
    assume(packed or not data.startswith(GZIP_MAGIC))
    stream = gzip.compress(data) if packed else data
    judged = judge_all(read_lines(unpack(cut(stream, size))))
    unmarked = data.removeprefix(BYTE_ORDER_MARK)
    filled = [line for line in unmarked.split(b"\n") if line.strip(BLANKS)]
    assert sum(judged.rows.values()) + sum(judged.bad.values()) == judged.lines == len(filled)


@given(st.lists(LINES), st.integers(1, 9))
def test_offsets_lead_back_to_the_line(lines: list[bytes], size: int) -> None:
    data = b"\n".join(lines)
    for number, offset, line in read_lines(cut(data, size)):
        assert data[offset : offset + len(line)] == line
        assert data[:offset].count(b"\n") == number - 1


@settings(max_examples=50)
@given(st.binary(max_size=2000), st.integers(1, 40), st.data())
def test_a_gzip_cut_anywhere_is_noticed(content: bytes, size: int, data: st.DataObject) -> None:
    packed = gzip.compress(content)
    keep = data.draw(st.integers(2, len(packed) - 1))
    with pytest.raises(DamagedGzip):
        list(unpack(cut(packed[:keep], size)))


def test_gzip_members_in_a_row_are_one_file() -> None:
    packed = gzip.compress(GOOD + b"\n") + gzip.compress(GOOD) + b"\0" * 7
    assert b"".join(unpack(cut(packed, 5))) == GOOD + b"\n" + GOOD


def test_a_small_gzip_never_becomes_a_large_block() -> None:
    packed = gzip.compress(b"\0" * 20_000_000)
    assert max(map(len, unpack([packed]))) <= 2**20


def test_a_line_of_any_length_is_one_bad_line_and_the_next_is_found() -> None:
    giant = orjson.dumps({"resourceType": "Patient", "id": "x" * (LONGEST_LINE * 2)})
    data = GOOD + b"\n" + giant + b"\n" + GOOD + b"\n"
    places = [(number, offset) for number, offset, _ in read_lines(cut(data, 2**20))]
    assert places == [(1, 0), (2, len(GOOD) + 1), (3, len(GOOD) + len(giant) + 2)]
    judged = judge_all(read_lines(cut(data, 2**20)))
    assert (judged.rows, judged.ids, judged.bad) == (
        {"Patient": 2},
        {"Patient": 1},
        {"too-long": 1},
    )


def test_a_byte_order_mark_is_no_part_of_the_first_row() -> None:
    judged = judge_all(read_lines([BYTE_ORDER_MARK + GOOD]))
    assert judged.rows == {"Patient": 1}
    assert not judged.bad
    assert not judged.readable
