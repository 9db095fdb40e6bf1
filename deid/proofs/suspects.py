"""Which lines of the input may hold an identifier that stands in the output: searched, not walked.

The released phrases are few, the input's identifiers are not: so the search goes from the output
to the input. A line that holds an identifier whose phrase was released holds that phrase's letters
and digits one after the other, whatever stands between them; a line with a number that was
released has it as the digits of one text, or of the end of a reference. Both are looked for in the
bytes of many lines at once. Lines that are not suspected hold nothing that a walk could find; the
suspected ones are looked at more closely, and what is left is walked.
"""

from __future__ import annotations

import re
import string
from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from ahocorasick_rs import BytesAhoCorasick, Implementation, MatchKind

from deid.proofs.numbers import NumberSet, lines_of
from deid.proofs.phrases import Phrases
from deid.proofs.readable import MARK, attached, readable

_WORD: Final = (string.ascii_letters + string.digits).encode()
_LOWER: Final = bytes(range(256)).lower()
_BETWEEN: Final = bytes(c for c in range(128) if c not in _WORD + b'"\n' + MARK)
_TAIL: Final = (string.ascii_letters + ".-").encode()
"""What may stand between the digits of a reference's end, besides digits."""
_PARTS: Final = bytes(c if c in _WORD + b'"\n.-' else ord("/") for c in range(256))
"""Whatever parts one end of a reference from what stands before it, as a slash."""
_ATTACHED: Final = b'"data""'
SMALL: Final = 50_000
"""Bytes of patterns for which a table of all states is made: faster, and larger."""
_CODED: Final = b'"code""'
_LIKE_A_DATE: Final = re.compile(rb"[12]\d{4}")

_INSIDE: Final = b'xtension"'
_CODE: Final = re.compile(rb'"code"\s*:\s*"(?![12]\d{3}-\d)[^"]*"')
"""Leaves that are no identifiers outside an extension; one that begins like a date may be one."""
_NO_NUMBER: Final = re.compile(
    rb'"(?:code|[a-z]+Date(?:Time)?|date|start|end|issued|recorded|authoredOn|lastUpdated)"'
    rb'\s*:\s*"[^"]*"'
)
"""Leaves whose digits are no number that identifies, outside an extension."""
SPARED: Final = ("code", "date", "start", "end", "issued", "recorded", "authoredOn", "lastUpdated")
"""The names of these leaves: none may be on the list of identifiers."""


class Suspects:
    """The search for released phrases and numbers in the lines of the input.

    `patients` are ids whose lines are suspected as such (a sample of patients is walked whole).
    """

    def __init__(self, phrases: Phrases, numbers: NumberSet, patients: Sequence[str]) -> None:
        self._phrases: dict[bytes, list[str]] = defaultdict(list)
        for phrase in phrases.searched():
            self._phrases[phrase.replace(" ", "").encode()].append(phrase)
        self._letters = list(self._phrases)
        always = [MARK, *(key for patient in patients for key in _as_subject(patient))]
        spared = [_CODED + word + b'"' for word in self._letters if not _LIKE_A_DATE.match(word)]
        self._first_always = len(self._letters)
        self._first_spared = self._first_always + len(always)
        self._attached = self._first_spared + len(spared)
        self._any = _automaton([*self._letters, *always, *spared, _ATTACHED])
        self._each = BytesAhoCorasick(self._letters) if self._letters else None
        digits = [number.encode() for number in phrases.numbers]
        self._digits = _automaton(digits) if digits else None
        self._numbers = numbers

    def among(self, block: bytes) -> list[int]:
        """The positions of the suspected lines of a block of whole lines."""
        text = readable(block)
        squeezed, parts = text.translate(_LOWER, _BETWEEN), text.translate(_PARTS, _TAIL)
        joined = parts.translate(None, b"/")
        worded, attaching, spared, found = self._worded(squeezed)
        if self._digits is not None:
            worded |= _hit(self._digits, joined)
        numbered = self._numbers.lines(parts) | self._numbers.lines(joined)
        if not (worded or attaching or spared or numbered or found):
            return []
        lines = text.split(b"\n")
        worded.update(at for at in spared if _INSIDE in lines[at])
        for position in attaching - found:
            if any(self._told(part) for part in attached(lines[position])):
                found.add(position)
        found.update(at for at in worded - found if self._told(_without(_CODE, lines[at])))
        closer = sorted(numbered - found)
        parts = b"\n".join(_without(_NO_NUMBER, lines[at]) for at in closer).translate(
            _PARTS, _TAIL
        )
        numbered = self._numbers.lines(parts) | self._numbers.lines(parts.translate(None, b"/"))
        return sorted(found | {closer[at] for at in numbered})

    def _worded(self, squeezed: bytes) -> list[set[int]]:
        """Lines with a phrase's letters, with attachments, with a phrase as a code, and others.

        The others are to be walked anyway.
        """
        matches = self._any.find_matches_as_indexes(squeezed)
        if not matches:
            return [set(), set(), set(), set()]
        which, starts, _ = np.array(matches).T
        at = lines_of(squeezed, starts)
        attaching = which == self._attached
        # What looks like an attachment may hide the text `data` before another key.
        worded = (which < self._first_always) | attaching
        spared = (which >= self._first_spared) & ~attaching
        always = ~(worded | spared)
        return [set(at[told].tolist()) for told in (worded, attaching, spared, always)]

    def _told(self, text: bytes) -> bool:
        """Whether a phrase stands in a text as whole tokens, or its digits may."""
        if MARK in text:
            return True
        joined = text.translate(_PARTS, _TAIL).translate(None, b"/")
        if self._digits is not None and self._digits.find_matches_as_indexes(joined):
            return True
        if self._each is None:
            return False
        squeezed = text.translate(_LOWER, _BETWEEN)
        matched = {which for which, _, _ in self._each.find_matches_as_indexes(squeezed, True)}
        return any(
            _whole(phrase).search(text)
            for which in matched
            for phrase in self._phrases[self._letters[which]]
        )


def _automaton(patterns: Sequence[bytes]) -> BytesAhoCorasick:
    """Finds one of the patterns at least wherever there are some; this kind is the fastest."""
    small = sum(map(len, patterns)) <= SMALL
    how = Implementation.DFA if small else None
    return BytesAhoCorasick(patterns, matchkind=MatchKind.LeftmostFirst, implementation=how)


def _hit(automaton: BytesAhoCorasick, text: bytes) -> set[int]:
    matches = automaton.find_matches_as_indexes(text)
    return set(lines_of(text, np.array(matches)[:, 1]).tolist()) if matches else set()


def _as_subject(patient: str) -> tuple[bytes, bytes]:
    """How a patient's own lines tell whose they are, as `_worded` sees it."""
    key = patient.encode().translate(_LOWER, _BETWEEN + b'"')
    return b"patient" + key + b'"', b'"id""' + key + b'"'


def _without(leaves: re.Pattern[bytes], line: bytes) -> bytes:
    """The line without leaves that are no identifiers; below an extension everything is one."""
    return line if _INSIDE in line else leaves.sub(b"", line)


@lru_cache(2**14)
def _whole(phrase: str) -> re.Pattern[bytes]:
    """A phrase in a readable text: its tokens, whatever stands between them.

    A word may end where digits begin, and a date where its time does.
    """
    tokens = [re.escape(token.encode()) for token in phrase.split(" ")]
    before = rb"(?<![A-Za-z0-9])" if phrase[0].isdigit() else rb"(?<![A-Za-z])"
    after = rb"(?![A-SU-Za-su-z0-9])" if phrase[-1].isdigit() else rb"(?![A-Za-z])"
    between = rb'[^A-Za-z0-9\x80-\xff"\n]+'
    return re.compile(before + between.join(tokens) + after, re.IGNORECASE)
