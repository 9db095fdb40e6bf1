"""The text of a document in Rich Text Format (RTF 1.9.1): what is printed, nothing beside it."""

from __future__ import annotations

import codecs
import re
from typing import Final

_PIECE: Final = re.compile(
    rb"\\([a-zA-Z]{1,32})(-?\d{1,10})? ?|\\'([0-9a-fA-F]{2})|\\([^a-zA-Z0-9])|"
    rb"([{}])|[\r\n]+|([^\\{}\r\n]+)"
)
_ASIDE: Final = frozenset(
    b"aftncn aftnsep aftnsepc annotation atnauthor atnid atnref atntime author bkmkend bkmkstart "
    b"buptim category colorschememapping colortbl comment company creatim datafield datastore "
    b"defchp defpap doccomm docvar fldinst fontemb fontfile fonttbl ftncn ftnsep ftnsepc generator "
    b"info keywords latentstyles listoverridetable listtable manager mmathPr nonshppict objdata "
    b"object operator panose pict pntext printim private revtbl revtim rsidtbl stylesheet subject "
    b"themedata title wgrffmtfilter xmlnstbl".split()
)
"""Destinations that are not printed (RTF 1.9.1, "Destinations")."""
_PRINTED: Final = {
    b"par": "\n", b"line": "\n", b"sect": "\n", b"page": "\n", b"row": "\n", b"tab": "\t",
    b"cell": "  ", b"emdash": "—", b"endash": "–", b"bullet": "•", b"lquote": "‘",
    b"rquote": "’", b"ldblquote": "“", b"rdblquote": "”", b"emspace": " ", b"enspace": " ",
}  # fmt: skip
_SYMBOLS: Final = {b"~": " ", b"_": "-", b"-": "", b"\n": "\n", b"\r": "\n"}
_CODE_PAGES: Final = {b"ansi": "cp1252", b"mac": "mac_roman", b"pc": "cp437", b"pca": "cp850"}
DEEPEST: Final = 1000
"""Groups within groups; no program writes as many."""


def rtf_text(content: bytes) -> str:
    r"""The printed text, `\'hh` by the document's code page, `\uN` as it is.

    Raises `ValueError` for what is no RTF, and `LookupError` for an unknown code page.
    """
    if not content.lstrip().startswith(b"{\\rtf"):
        raise ValueError("no RTF")
    reader = _Reader()
    for piece in _PIECE.finditer(content):
        reader.take(piece)
    return reader.text()


class _Reader:
    def __init__(self) -> None:
        self.parts: list[str] = []
        self.held = bytearray()
        self.code_page = "cp1252"
        self.groups: list[tuple[bool, int]] = []
        self.aside, self.substitutes = False, 1
        self.skipping = 0
        self.starred = False

    def take(self, piece: re.Match[bytes]) -> None:
        word, number, hexed, symbol, brace, plain = piece.groups()
        if plain is not None:
            self._print(plain)
        elif hexed is not None:
            self._print(bytes([int(hexed, 16)]))
        elif word is not None:
            self._word(word, None if number is None else int(number))
        elif symbol is not None:
            self._symbol(symbol)
        elif brace == b"{":
            if len(self.groups) > DEEPEST:
                raise ValueError("too deep")
            self.groups.append((self.aside, self.substitutes))
        elif brace == b"}" and self.groups:
            self.aside, self.substitutes = self.groups.pop()
            self.skipping = 0

    def text(self) -> str:
        self._flush()
        joined = "".join(self.parts)
        # A character beyond 16 bits comes as two halves.
        return joined.encode("utf-16", "surrogatepass").decode("utf-16")

    def _word(self, word: bytes, number: int | None) -> None:
        if word == b"bin":
            raise ValueError("binary data")
        if word in _ASIDE or self.starred:
            self.aside = True
        self.starred = False
        if word in _CODE_PAGES:
            self.code_page = _CODE_PAGES[word]
        elif word == b"ansicpg" and number:
            self.code_page = codecs.lookup(f"cp{number}" if number != 65001 else "utf-8").name
        elif word == b"uc" and number is not None:
            self.substitutes = number
        elif word == b"u" and number is not None:
            self._put(chr(number % 65536))
            self.skipping = self.substitutes
        elif word in _PRINTED:
            self._put(_PRINTED[word])

    def _symbol(self, symbol: bytes) -> None:
        if symbol == b"*":
            self.starred = True
        elif symbol in _SYMBOLS:
            self._put(_SYMBOLS[symbol])
        elif symbol in b"\\{}":
            self._print(symbol)

    def _print(self, content: bytes) -> None:
        kept = content[self.skipping :]
        self.skipping = max(0, self.skipping - len(content))
        if not self.aside:
            self.held += kept

    def _put(self, text: str) -> None:
        if not self.aside:
            self._flush()
            self.parts.append(text)

    def _flush(self) -> None:
        if self.held:
            self.parts.append(self.held.decode(self.code_page))
            self.held.clear()
