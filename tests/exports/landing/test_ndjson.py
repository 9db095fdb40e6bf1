"""Lines in, rows and reasons out: nothing is lost and nothing depends on how the bytes arrive."""

from __future__ import annotations

import gzip
from collections import Counter
from collections.abc import Iterator

import orjson
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from exports.landing.identities import IdHashes
from exports.landing.judging import Judged, judge_all
from exports.landing.ndjson import (
    BLANKS,
    BYTE_ORDER_MARK,
    GZIP_MAGIC,
    LONGEST_LINE,
    DamagedGzip,
    is_header,
    judge,
    read_lines,
    read_resource,
    unpack,
)

GOOD = b'{"resourceType":"Patient","id":"a"}'
LINES = st.one_of(
    st.sampled_from([GOOD, b"", b"  \t\r", b"[]", b"{}", b'{"resourceType":"Patient"}', b"\xff"]),
    st.binary(max_size=12).filter(lambda line: b"\n" not in line),
)


VALUES = st.sampled_from(
    r"""
    1 -0.5 1e9 1.5e+308 1e-999 1e999 [-1e999] 01 1. .5 + NaN Infinity true nul null "" "a" "\u00e9"
    "\ud83d\ude00" "\ud800" "\udc00" "\u00" "\x" "\/" "1e999" "0-1e999" [] {} [1,] {"a":1,}
    {"a":{"b":[1,-1E99]}} "é" 'a' [1 {"a" {"id":7} [{}] [{"code":"R"}] {"tag":[{}]}
    {"security":[{"code":"R"}]} {"security":null} {"security":[]} {"tag":7} {"tag":"x"}
    """.split()  # noqa: SIM905 - a list to read
)
NAMES = st.sampled_from(
    [b"resourceType", b"id", b"meta", b"value", b"i\\u0064", b"", b"\xff", b"tag"]
)
TYPES = st.sampled_from([b"Patient", b"Observation", b"Parameters", b"Pati\\u0065nt", b"X", b""])


@st.composite
def resources(draw: st.DrawFn) -> bytes:
    """A line that is a resource, or nearly one: members repeated, absurd, escaped, broken."""
    members = [
        b'"resourceType":"' + draw(TYPES) + b'"',
        b'"id":"'
        + draw(st.sampled_from([b"a", b"b", b"", b"\\u0061", b"\xc3\xa9", b"\xc3"]))
        + b'"',
    ]
    for name, value in draw(st.lists(st.tuples(NAMES, VALUES), max_size=3)):
        members.insert(
            draw(st.integers(0, len(members))), b'"' + name + b'":' + value.encode() + b""
        )
    line = draw(st.sampled_from([b"", b" "])) + b"{" + b",".join(members) + b"}"
    line += draw(st.sampled_from([b"", b"", b"\r", b" ", b"}", GOOD, b"\0"]))
    if draw(st.booleans()):
        place = draw(st.integers(0, len(line)))
        line = line[:place] + draw(st.binary(max_size=2)) + line[place + draw(st.integers(0, 2)) :]
    return line.replace(b"\n", b"")


def judge_slowly(lines: list[bytes]) -> Judged:
    """What `judge_all` should say, from the verdict on each line alone."""
    rows, bad = Counter[str](), Counter[str]()
    ids: dict[str, set[str]] = {}
    labelled = headers = 0
    for line in lines:
        verdict = judge(line)
        resource = read_resource(line)
        if isinstance(verdict, str):
            bad[verdict] += 1
        elif isinstance(resource, dict) and is_header(resource):
            headers += 1
        elif isinstance(resource, dict):
            rows[resource["resourceType"]] += 1
            ids.setdefault(resource["resourceType"], set()).add(resource["id"])
            meta = resource.get("meta")
            labelled += isinstance(meta, dict) and bool(meta.get("security") or meta.get("tag"))
    distinct = {name: len(found) for name, found in ids.items()}
    end = lines[-1] if lines else b""
    return Judged(
        rows,
        distinct,
        bad,
        marked=False,
        labelled=labelled,
        headers=headers,
        cut=judge(end) in {"not-json", "not-utf8"},
    )


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(LINES, resources(), resources()), max_size=6), st.integers(1, 400))
def test_the_fast_judge_says_what_the_slow_one_says(lines: list[bytes], size: int) -> None:
    data = b"\n".join(lines)
    assume(not data.startswith(BYTE_ORDER_MARK))
    assert judge_all(cut(data, size)) == judge_slowly(lines)


def test_a_deep_line_is_judged_like_any_other() -> None:
    for depth in (500, 1000, 2000, 100_000):
        nested = b'{"resourceType":"Patient","id":"a","x":' + b"[" * depth + b"]" * depth + b"}"
        assert judge_all([nested]) == judge_slowly([nested])


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"1" * 400, b"1" * 5000])
def test_a_number_that_is_json_and_no_double_is_good_to_both(number: bytes) -> None:
    line = b'{"resourceType":"Patient","id":"a","n":' + number + b"}"
    assert judge_all([line]).rows == {"Patient": 1}
    assert judge(line) == ("Patient", "a")
    for broken in (b'"\\ud800"', b"NaN", b'"\xed\xa0\x80"', b"01"):
        bad = line[:-1] + b',"x":' + broken + b"}"
        assert isinstance(judge(bad), str)
        assert judge_all([bad]) == judge_slowly([bad])


def test_labels_and_headers_are_counted() -> None:
    lines = [
        b'{"resourceType":"Parameters","parameter":[{"name":"header"}]}',
        b'{"resourceType":"Patient","id":"a","meta":{"security":[{"code":"R"}]}}',
        b'{"resourceType":"Patient","id":"b","meta":{"tag":[{"code":"x"}]}}',
        b'{"resourceType":"Patient","id":"c","meta":{"security":[],"tag":[]}}',
    ]
    judged = judge_all([b"\n".join(lines)])
    assert (judged.labelled, judged.headers, judged.rows) == (2, 1, {"Patient": 3})
    assert not judged.readable
    assert judge_all([lines[3]]).readable


def test_the_hashes_are_of_the_good_lines_only() -> None:
    hashes = IdHashes()
    judge_all([GOOD + b"\n" + GOOD + b'\n{"resourceType":"Observation","id":7}'], hashes)
    assert hashes.distinct() == {"Patient": 1}


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
        (b'{"resourceType":"Patient","id":"a","multipleBirthInteger":1e999}', ("Patient", "a")),
        (b'{"resourceType":"Parameters","parameter":[]}', None),
        (b'{"resourceType":"Parameters","id":""}', "no-id"),
        (b'{"resourceType":"Parameters","id":"p"}', ("Parameters", "p")),
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
    judged = judge_all(unpack(cut(stream, size)))
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
    judged = judge_all(cut(data, 2**20))
    assert (judged.rows, judged.ids, judged.bad) == (
        {"Patient": 2},
        {"Patient": 1},
        {"too-long": 1},
    )


def test_a_byte_order_mark_is_no_part_of_the_first_row() -> None:
    judged = judge_all([BYTE_ORDER_MARK + GOOD])
    assert judged.rows == {"Patient": 1}
    assert not judged.bad
    assert not judged.readable
