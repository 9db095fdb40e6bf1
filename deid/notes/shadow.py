"""A note's shadow: the same text letter by letter, but in ASCII, so that fast matchers see words.

RE2's and Aho-Corasick's word boundaries are those of ASCII: they would miss Åsa and Hamanová. In
the shadow every character of the note has exactly one of ASCII, so a match's place there is its
place in the note, and each letter of whatever script counts as a letter.
"""

from __future__ import annotations

import codecs
import unicodedata
from functools import cache, cached_property, lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

_LETTERS: Final = dict(zip("øØłŁđĐßæÆœŒıþÞðÐħĦŧŦŋŊ", "oOlLdDsaAoOitTdDhHtTnN", strict=True))
_MARKS: Final = {
    **dict.fromkeys("‐‑‒–—―−﹣－", "-"),
    **dict.fromkeys("‘’‚‛ʼ′`´＇", "'"),
    **dict.fromkeys("“”„‟″«»", '"'),
}
_LIGATURES: Final = {
    code: unicodedata.normalize("NFKC", chr(code)) for code in range(0xFB00, 0xFB07)
}
_NOT_SEEN: Final = frozenset({"Cf", "Cc"})
_ALNUM: Final = np.array([chr(code).isalnum() and code < 128 for code in range(256)])
_OTHERS: Final = bytes(code for code in range(256) if not _ALNUM[code])
_LOWER: Final = bytes(range(256)).lower()


@cache
def _ascii(char: str) -> str:
    if char in _LETTERS:
        return _LETTERS[char]
    if char in _MARKS:
        return _MARKS[char]
    base = unicodedata.normalize("NFKD", char)[0]
    if base.isascii():
        return base
    if char.isspace():
        return " "
    if char.isdigit():
        return str(unicodedata.digit(char))
    if char.isalpha():  # a script of its own: each letter stands for one of ours
        letter = chr(ord("a") + ord(char.lower()[0]) % 26)
        return letter.upper() if char.isupper() else letter
    return "~"


def _shadowed(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_ascii, error.object[error.start : error.end])), error.end


codecs.register_error("fhirloom-shadow", _shadowed)


class Shadow:
    """A text's ASCII form, as bytes of the same length; and its letters and digits alone."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.plain = text.encode("ascii", "fhirloom-shadow")

    @cached_property
    def squeezed(self) -> bytes:
        """Letters and digits alone, small: what spaces and hyphens had torn apart is together."""
        return self.plain.translate(_LOWER, _OTHERS)

    @cached_property
    def places(self) -> NDArray[np.intp]:
        """Where in the text each character of `squeezed` stands."""
        return np.flatnonzero(_ALNUM[np.frombuffer(self.plain, np.uint8)])


@lru_cache(4)
def shadow_of(text: str) -> Shadow:
    """The shadow of a text; every recognizer of one note sees the same."""
    return Shadow(text)


@lru_cache(2**16)
def squeezed(value: str) -> str:
    """A name's or number's letters and digits, as they stand in `Shadow.squeezed`."""
    return Shadow(clean(value)).squeezed.decode()


def clean(text: str) -> str:
    """A text as notes are kept: composed (NFC), nothing that is not seen, lines ended by LF."""
    composed = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    if composed.isascii() and composed.isprintable():
        return composed
    return "".join(_kept(char) for char in composed)


def _kept(char: str) -> str:
    if char in "\n\t" or (char.isascii() and char.isprintable()):
        return char
    if char == "\f":
        return "\n"
    if char.isspace():
        return " "
    if unicodedata.category(char) in _NOT_SEEN:
        return ""
    return _LIGATURES.get(ord(char), char)
