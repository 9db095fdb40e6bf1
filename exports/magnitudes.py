"""Numbers in JSON text that no 64-bit float can hold, such as 1e999: strict readers refuse them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from numpy.typing import NDArray

SHORTEST: Final = len("1e999")
LONGEST_RUN: Final = 200
"""So many digits are no overflow yet, whatever exponent of two digits follows them."""
STEP: Final = 64
"""Every run of `LONGEST_RUN` characters holds three places that are multiples of this."""
LONGEST_MANTISSA: Final = 24
"""Characters that are looked through, back from an exponent, for the beginning of the number."""
OPENING: Final = b":,[ \t\r\n"
"""What may stand before a number."""


def may_overflow(text: bytes) -> bool:
    """Whether `text` may hold a number beyond 1.8e308: never wrongly False, rarely wrongly True.

    That takes an exponent of three digits, or two hundred digits in a row.
    """
    import numpy as np

    characters = np.frombuffer(text, dtype=np.uint8)
    if len(characters) < SHORTEST:
        return False
    places = _exponents(characters).tolist()
    return any(_ends_a_number(text, place) for place in places) or _has_long_run(text, characters)


def _exponents(characters: NDArray[Any]) -> NDArray[Any]:
    """Where an e stands after a digit, and before a digit or a plus and then two digits."""
    digits = _is_digit(characters)
    found = (characters[1:-3] | 0x20) == ord("e")
    found &= digits[:-4]
    found &= digits[3:-1]
    found &= digits[4:]
    places = found.nonzero()[0] + 1
    after = places + 1
    exponents: NDArray[Any] = places[digits[after] | (characters[after] == ord("+"))]
    return exponents


def _is_digit(characters: NDArray[Any]) -> NDArray[Any]:
    # Unsigned: what is below "0" wraps around to the top.
    below_ten: NDArray[Any] = (characters - ord("0")) < 10
    return below_ten


def _ends_a_number(text: bytes, place: int) -> bool:
    """Whether what stands before `place` is a number, and no piece of an id or another string."""
    before = text[max(0, place - LONGEST_MANTISSA) : place].rstrip(b"0123456789.")
    return not before or before.removesuffix(b"-")[-1:] in OPENING


def _has_long_run(text: bytes, characters: NDArray[Any]) -> bool:
    sampled = _is_digit(characters[::STEP])
    candidates = (sampled[:-2] & sampled[1:-1] & sampled[2:]).nonzero()[0]
    return any(text[place * STEP : (place + 2) * STEP].isdigit() for place in candidates.tolist())
