"""RFC 8785: one spelling for each JSON value."""

from __future__ import annotations

import json
import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deid.attestation.canonical import LARGEST, canonical, read

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-LARGEST, LARGEST)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


def double(bits: str) -> float:
    value: float = struct.unpack(">d", bytes.fromhex(bits))[0]
    return value


@pytest.mark.parametrize(
    ("bits", "written"),
    [
        ("0000000000000000", "0"),
        ("8000000000000000", "0"),
        ("0000000000000001", "5e-324"),
        ("8000000000000001", "-5e-324"),
        ("7fefffffffffffff", "1.7976931348623157e+308"),
        ("4340000000000000", "9007199254740992"),
        ("4430000000000000", "295147905179352830000"),
        ("44b52d02c7e14af5", "9.999999999999997e+22"),
        ("44b52d02c7e14af6", "1e+23"),
        ("444b1ae4d6e2ef4e", "999999999999999700000"),
        ("444b1ae4d6e2ef50", "1e+21"),
        ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
        ("3eb0c6f7a0b5ed8d", "0.000001"),
        ("41b3de4355555553", "333333333.3333332"),
        ("becbf647612f3696", "-0.0000033333333333333333"),
        ("43143ff3c1cb0959", "1424953923781206.2"),
    ],
)
def test_numbers_as_appendix_b_of_the_rfc_has_them(bits: str, written: str) -> None:
    assert canonical(double(bits)) == written.encode()


def test_members_stand_in_the_order_of_their_utf_16_code_units() -> None:
    members = dict.fromkeys(["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\x80", "\xf6"])
    ordered = list(json.loads(canonical(members)))
    assert ordered == ["\r", "1", "\x80", "\xf6", "\u20ac", "\U0001f600", "\ufb33"]


@pytest.mark.parametrize("value", [math.nan, math.inf, LARGEST + 1, {1, 2}], ids=str)
def test_what_is_not_json_has_no_canonical_form(value: object) -> None:
    with pytest.raises(ValueError, match=r"number|JSON"):
        canonical(value)


@given(JSON.filter(lambda value: "\\ud" not in json.dumps(value)))
def test_it_reads_back_as_the_same_and_is_its_own_canonical_form(value: object) -> None:
    written = canonical(value)
    assert read(written) == value
    assert canonical(read(written)) == written
    assert canonical(dict(reversed(value.items())) if isinstance(value, dict) else value) == written
