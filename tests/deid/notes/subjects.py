"""One patient of the tests, and the notes of `golden/` with what is marked in them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, datetime
from functools import cache
from pathlib import Path
from typing import Final

from deid.notes.analyzer import Analyzer
from deid.notes.dates import Timeline
from deid.notes.html_text import html_text
from deid.notes.known import Known
from deid.notes.lexicon import shipped
from deid.notes.replacing import Replaced, StandIns
from deid.notes.rtf_text import rtf_text
from deid.notes.shadow import clean

GOLDEN: Final = Path(__file__).parent / "golden"
TIMELINE: Final = Timeline(
    zero=datetime(2023, 3, 4, 8, 15),
    begins=datetime(1, 1, 1),
    ends=datetime(9999, 1, 1),
    observed_until=2 * 366 * 86_400,
    birth=date(1950, 3, 4),
    exported=date(2025, 6, 1),
)
OWN: Final = (
    Known("p1", "PATIENT", "Åsa Mary\tHamanová"),
    Known("p1", "RELATIVE", "Jürgen\tOkafor"),
    Known("p1", "MRN", "12345678"),
    Known("p1", "DATE", "1950-03-04"),
    Known("p1", "PHONE", "617-555-0123"),
    Known("p1", "ADDRESS", "12 Maple Avenue"),
    Known("p1", "PLACE", "Lowell"),
)
EVERYONES: Final = (
    Known("", "KNOWN_CLINICIAN", "James\tKowalski"),
    Known("", "ORGANIZATION", "Bay Colony Medical Center"),
)
_MARK: Final = re.compile(r"\[\[|\]\]|\(\((?=[^()]*\)\))|(?<=\S)\)\)")


@dataclass(frozen=True)
class Marked:
    """A note, the spans that identify and the spans that must survive, as (start, end)."""

    text: str
    identifying: tuple[tuple[int, int], ...]
    clinical: tuple[tuple[int, int], ...]


@cache
def analyzer() -> Analyzer:
    return Analyzer(shipped(), EVERYONES)


def deidentified(text: str, known: tuple[Known, ...] = OWN) -> Replaced:
    text = clean(text)
    found = analyzer().find(text, analyzer().knowing(known))
    return StandIns.of(TIMELINE, known).replace(text, found)


def golden(name: str) -> Marked:
    """A golden note, read as its suffix says; `[[ ]]` marks identifiers, `(( ))` what survives."""
    content = (GOLDEN / name).read_bytes()
    if name.endswith(".rtf"):
        written = rtf_text(content)
    elif name.endswith(".html"):
        written = html_text(content.decode())
    else:
        written = content.decode()
    return marked(clean(written))


def marked(written: str) -> Marked:
    text, place = "", 0
    spans: dict[str, list[tuple[int, int]]] = {"[[": [], "((": []}
    opened: list[tuple[str, int]] = []
    for mark in _MARK.finditer(written):
        text += written[place : mark.start()]
        place = mark.end()
        if mark[0] in spans:
            opened.append((mark[0], len(text)))
        else:
            kind, start = opened.pop()
            spans[kind].append((start, len(text)))
    text += written[place:]
    assert not opened
    return Marked(text, tuple(spans["[["]), tuple(spans["(("]))
