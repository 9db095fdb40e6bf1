"""What was found in a note, replaced so that the note can still be read.

A person has the same stand-in in all notes of one patient: `[PATIENT]`, `[CLINICIAN-2]`,
`[RELATIVE-1]`, numbered in the order in which the patient's notes name them. Overlapping finds
become one; the longest tells what it is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from deid.notes.dates import GONE, Timeline, parse_date
from deid.notes.known import Known
from deid.notes.known_recognizer import PARTICLES
from deid.notes.shadow import shadow_of, squeezed
from deid.notes.spans import Span, merged

KINDS: Final = ("names", "dates", "ages", "places", "contacts", "numbers")
"""What replacements are counted by."""
_ROLES: Final = {
    "PATIENT": "PATIENT",
    "RELATIVE": "RELATIVE",
    "KNOWN_CLINICIAN": "CLINICIAN",
    "CLINICIAN": "CLINICIAN",
    "KIN": "RELATIVE",
    "PERSON": "PERSON",
}
_KIND: Final[Mapping[str, str]] = {
    **dict.fromkeys(_ROLES, "names"),
    **dict.fromkeys(("DATE", "BIRTH", "DATE_TIME"), "dates"),
    "OVER_89": "ages",
    **dict.fromkeys(("ADDRESS", "ZIP", "PLACE", "ORGANIZATION", "LOCATION", "NRP"), "places"),
    **dict.fromkeys(("PHONE", "EMAIL", "URL", "IP", "PHONE_NUMBER", "EMAIL_ADDRESS"), "contacts"),
}
_BETWEEN: Final = re.compile(rb"[ ,.]{0,3}(?:[A-Z]\.?[ ,.]{1,3})?|-")
_WORD: Final = re.compile(rb"[A-Za-z][A-Za-z']*")


@dataclass(frozen=True)
class Replaced:
    """A note without what was found, the spans that were replaced, and how many of which kind."""

    text: str
    spans: tuple[Span, ...]
    counts: Mapping[str, int]


@dataclass
class StandIns:
    """The stand-ins of one patient's notes, which follow one another in time."""

    timeline: Timeline
    people: dict[str, str] = field(default_factory=dict)
    numbers: Counter[str] = field(default_factory=Counter)

    @classmethod
    def of(cls, timeline: Timeline, known: Iterable[Known]) -> StandIns:
        """Those of a patient, whose own names are `[PATIENT]`."""
        stand_ins = cls(timeline)
        for item in known:
            if item.entity == "PATIENT":
                for word in re.split(r"[\s\t.-]+", item.value):
                    if len(squeezed(word)) > 1:
                        stand_ins.people[squeezed(word)] = "[PATIENT]"
        return stand_ins

    def replace(self, text: str, spans: Iterable[Span]) -> Replaced:
        """The note, each find replaced."""
        parts: list[str] = []
        done: list[Span] = []
        counts: Counter[str] = Counter()
        place, last = 0, ""
        for span in merged(spans):
            told = self._tell(text, span)
            gap = shadow_of(text).plain[place : span.start]
            if last == told and span.entity in _ROLES and _BETWEEN.fullmatch(gap):
                done[-1] = Span(done[-1].start, span.end, span.entity)
            else:
                parts += [text[place : span.start], told]
                done.append(span)
                counts[_KIND.get(span.entity, "numbers")] += 1
            place, last = span.end, told
        parts.append(text[place:])
        return Replaced("".join(parts), tuple(done), counts)

    def _tell(self, text: str, span: Span) -> str:
        if span.entity in _ROLES:
            return self._person(text, span)
        match span.entity:
            case "DATE":
                written = shadow_of(text).plain[span.start : span.end].decode()
                return self.timeline.tell(parse_date(written, self.timeline.exported))
            case "BIRTH" | "DATE_TIME":
                return GONE
            case "OVER_89":
                return "90+"
            case _:
                return f"[{span.entity}]"

    def _person(self, text: str, span: Span) -> str:
        written = shadow_of(text).plain[span.start : span.end]
        words = [word.decode().replace("'", "").lower() for word in _WORD.findall(written)]
        words = [word for word in words if len(word) > 1 and word not in PARTICLES] or [
            squeezed(text[span.start : span.end])
        ]
        if b"," in written:
            words = words[1:] + words[:1]
        role = _ROLES[span.entity]
        if role == "PATIENT":
            return "[PATIENT]"
        for word in reversed(words[-1:] if len(words) > 1 else words):
            if word in self.people and (role == "PERSON" or self.people[word] != "[PATIENT]"):
                return self.people[word]
        self.numbers[role] += 1
        told = f"[{role}-{self.numbers[role]}]"
        for word in words:
            self.people.setdefault(word, told)
        return told
