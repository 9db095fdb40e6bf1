"""The text of an HTML or XHTML page: blocks on lines of their own, cells apart, no attribute."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from typing import Final

from deid.notes.lexicon import words_of

_BLOCKS: Final = words_of(
    "address article aside blockquote body br caption center dd div dl dt fieldset footer form h1 "
    "h2 h3 h4 h5 h6 header hr html legend li main nav ol p pre section table tbody tfoot thead "
    "title tr ul"
)
_CELLS: Final = frozenset({"td", "th"})
_UNSEEN: Final = frozenset({"script", "style", "template"})
_BLANKS: Final = re.compile(r"[ \t\r\n\xa0]+")
_LINES: Final = re.compile(r" *\n[ \n]*")


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.unseen = 0
        self.kept_as_is = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.unseen += tag in _UNSEEN
        self.kept_as_is += tag == "pre"
        self._apart(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._apart(tag)

    def handle_endtag(self, tag: str) -> None:
        self.unseen = max(0, self.unseen - (tag in _UNSEEN))
        self.kept_as_is = max(0, self.kept_as_is - (tag == "pre"))
        self._apart(tag)

    def handle_data(self, data: str) -> None:
        if not self.unseen:
            self.parts.append(data if self.kept_as_is else _BLANKS.sub(" ", data))

    def _apart(self, tag: str) -> None:
        if tag in _BLOCKS:
            self.parts.append("\n")
        elif tag in _CELLS:
            self.parts.append("  ")


def html_text(page: str) -> str:
    """What a person reads on the page; scripts, styles, comments and attributes are not read."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    return _LINES.sub("\n", "".join(reader.parts))
