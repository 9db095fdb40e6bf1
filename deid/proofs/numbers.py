"""The numbers that are about to be released, as a set of fixed size, and the digits of many lines.

The set may take a number for one of its own that is none, but never the other way round; so its
memory does not grow with the tables.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, log2
from typing import Final

import numpy as np
from numpy.typing import NDArray

from deid.proofs.identifiers import SHORTEST_NUMBER

LONGEST_NUMBER: Final = 18
"""Digits that fit into 64 bits."""
BITS_EACH: Final = 256
FEWEST, MOST = 20, 30
"""The set has 2 to the power of that many bits: at most 128 MiB."""
_ZERO: Final = ord("0")
_TENS: Final[NDArray[np.int64]] = 10 ** np.arange(LONGEST_NUMBER + 1, dtype=np.int64)


class NumberSet:
    """Whole numbers of 6 to 18 digits; `count` is how many there may be."""

    def __init__(self, numbers: Iterable[NDArray[np.int64]], count: int) -> None:
        power = min(max(ceil(log2(BITS_EACH * max(count, 1))), FEWEST), MOST)
        self._mask = np.int64(2**power - 1)
        self._bytes = np.zeros(2 ** (power - 3), np.uint8)
        self._sizes = np.zeros(LONGEST_NUMBER + 1, bool)
        self.seen = 0
        for values in numbers:
            self._add(values[(values >= _TENS[SHORTEST_NUMBER - 1]) & (values < _TENS[-1])])

    def _add(self, values: NDArray[np.int64]) -> None:
        self.seen += len(values)
        self._sizes[np.searchsorted(_TENS, np.unique(values), side="right")] = True
        slots = values & self._mask
        for bit in range(8):
            of_bit = slots[(slots & 7) == bit] >> 3
            self._bytes[of_bit] |= np.uint8(1 << bit)

    def has(self, values: NDArray[np.int64]) -> NDArray[np.bool_]:
        """For each value, whether it may be in the set."""
        slots = values & self._mask
        found: NDArray[np.bool_] = (self._bytes[slots >> 3] >> (slots & 7).astype(np.uint8)) & 1 > 0
        return found

    def lines(self, digits: bytes) -> set[int]:
        """The lines in which a run of digits, without leading zeros, may be in the set.

        All that `digits` holds besides digits and line feeds are characters below the digits.
        """
        if not self.seen or not digits:
            return set()
        text = np.frombuffer(digits, np.uint8)
        inside = np.zeros(len(text) + 2, np.int8)
        inside[1:-1] = text >= _ZERO
        edges = np.flatnonzero(inside[1:] != inside[:-1])
        starts, ends = edges[::2], edges[1::2]
        sizes = ends - starts
        possible = sizes >= SHORTEST_NUMBER
        starts, ends, sizes = starts[possible], ends[possible], sizes[possible]
        possible = self._sizes[np.minimum(sizes, LONGEST_NUMBER)] | (text[starts] == _ZERO)
        possible &= _begins_with_zeros(text, starts, sizes - LONGEST_NUMBER)
        ends, sizes = ends[possible], np.minimum(sizes[possible], LONGEST_NUMBER)
        values = np.zeros(len(ends), np.int64)
        for place in range(LONGEST_NUMBER):
            there = sizes > place
            if not there.any():
                break
            values[there] += (text[ends[there] - 1 - place] - _ZERO) * _TENS[place]
        return set(lines_of(digits, ends[self.has(values)] - 1).tolist())


def _begins_with_zeros(
    text: NDArray[np.uint8], starts: NDArray[np.int64], many: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether the first `many` characters are zeros; true where that is none."""
    zeros = np.ones(len(starts), bool)
    place = 0
    while len(left := np.flatnonzero(zeros & (many > place))):
        zeros[left] = text[starts[left] + place] == _ZERO
        place += 1
    return zeros


def lines_of(text: bytes, positions: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of the line, from 0, in which each position lies."""
    feeds = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("\n"))
    return np.searchsorted(feeds, positions)
