"""The one way in which a JSON value is written as bytes, so that a signature is over its meaning.

RFC 8785 (JSON Canonicalization Scheme): UTF-8, no spaces, members in the order of their names'
UTF-16 code units, numbers as ECMAScript writes them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final

LARGEST: Final = 2**53 - 1
"""Whole numbers beyond are not the same number in every reader (RFC 8785, appendix D)."""


def canonical(value: Any) -> bytes:
    """The canonical bytes of a JSON value; raises `ValueError` for what JSON does not have."""
    return _written(value).encode()


def read(written: bytes) -> Any:
    """The value that bytes tell: whole numbers of more than 53 bits are doubles, as in JSON.

    Raises `ValueError` where they are no JSON.
    """
    return json.loads(written, parse_int=_whole)


def _whole(digits: str) -> int | float:
    return int(digits) if abs(int(digits)) <= LARGEST else float(digits)


def _written(value: Any) -> str:
    match value:
        case None | bool() | str():
            return json.dumps(value, ensure_ascii=False)
        case int():
            if abs(value) > LARGEST:
                raise ValueError("a whole number of more than 53 bits")
            return str(value)
        case float():
            return _number(value)
        case Mapping():
            names = sorted(value, key=lambda name: name.encode("utf-16-be"))
            return f"{{{','.join(f'{_written(name)}:{_written(value[name])}' for name in names)}}}"
        case Sequence():
            return f"[{','.join(map(_written, value))}]"
    raise ValueError(f"{type(value).__name__} is not of JSON")


def _number(value: float) -> str:
    """ECMA-262, Number::toString: the fewest digits that read back as the same double."""
    if not math.isfinite(value):
        raise ValueError("a number that is not finite")
    if value == 0:
        return "0"
    sign, figures, shift = Decimal(repr(value)).normalize().as_tuple()
    digits, point = "".join(map(str, figures)), len(figures) + int(shift)
    if 0 < point <= 21:
        whole = digits.ljust(point, "0")
        written = whole[:point] + (f".{whole[point:]}" if len(whole) > point else "")
    elif -6 < point <= 0:
        written = f"0.{'0' * -point}{digits}"
    else:
        fraction = f".{digits[1:]}" if len(digits) > 1 else ""
        written = f"{digits[0]}{fraction}e{point - 1:+d}"
    return f"-{written}" if sign else written
