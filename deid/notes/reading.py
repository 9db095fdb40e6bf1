"""From an attachment to the text that a person would read in it (FHIR R4, Attachment).

Plain text, HTML, XHTML and RTF, as base64; the character set is the content type's own parameter,
then what the document says of itself, then UTF-8. What can't be read without a guess is not read.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from collections.abc import Callable
from email.message import Message
from typing import Final, Literal

from deid.notes.html_text import html_text
from deid.notes.rtf_text import rtf_text
from deid.notes.shadow import clean

Unread = Literal["content type not supported", "not decodable", "empty", "too long"]

LONGEST: Final = 2**20
"""Characters of a note; longer ones are no notes, and are counted instead."""
PREFERRED: Final = (
    "text/plain",
    "text/html",
    "application/xhtml+xml",
    "application/rtf",
    "text/rtf",
)
"""Content types that are read; of a document's several forms, which are equivalent, the first."""
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_DECLARED: Final = re.compile(rb"""(?:charset|encoding)\s*=\s*["']?\s*([A-Za-z0-9_.:-]+)""")
_TEXTS: Final[dict[str, Callable[[str], str]]] = {
    "text/html": html_text,
    "application/xhtml+xml": html_text,
}


class NotReadError(Exception):
    """An attachment that gives no text; the reason is one of `Unread`."""

    def __init__(self, reason: Unread) -> None:
        super().__init__(reason)
        self.reason = reason


def media_type(content_type: str) -> tuple[str, str]:
    """A content type's kind and character set, small; either may be empty."""
    header = Message()
    header["Content-Type"] = content_type or "application/octet-stream"
    charset = header.get_param("charset")
    return header.get_content_type(), str(charset).lower() if isinstance(charset, str) else ""


def read_attachment(content_type: str, data: str) -> str:
    """The text of base64 `data`. Raises `NotReadError`."""
    kind, charset = media_type(content_type)
    if kind not in PREFERRED:
        raise NotReadError("content type not supported")
    try:
        content = base64.b64decode("".join(data.split()), validate=True)
        if kind.endswith("rtf"):
            text = rtf_text(content)
        else:
            text = _decoded(content, charset, declares=kind in _TEXTS)
            text = _TEXTS.get(kind, str)(text)
    except (binascii.Error, UnicodeError, ValueError, LookupError, RecursionError):
        raise NotReadError("not decodable") from None
    text = clean(text).strip()
    if not text:
        raise NotReadError("empty")
    if len(text) > LONGEST:
        raise NotReadError("too long")
    return text


def _decoded(content: bytes, charset: str, *, declares: bool) -> str:
    marked = next((name for mark, name in _MARKS if content.startswith(mark)), "")
    if not charset and not marked and declares and (found := _DECLARED.search(content[:1024])):
        charset = found[1].decode()
    text = content.decode(marked or charset or "utf-8")
    if "\0" in text:
        raise ValueError("not text")
    return text
