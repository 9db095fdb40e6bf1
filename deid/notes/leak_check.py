"""The proof over notes: nothing that the records know of a patient is left in the patient's notes.

It shares nothing with the recognizers but what is known: it compares normal forms, as the leak scan
over the tables does (`deid.proofs.identifiers`). Of a word of the language that is also a name it
counts what is capitalised. Each run carries its negative control, which has to be found.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from deid.notes.known import NAMED, ORGANIZATION, Known
from deid.notes.known_recognizer import PARTICLES
from deid.notes.lexicon import Lexicon
from deid.notes.shadow import squeezed
from deid.proofs.identifiers import SHORTEST, SHORTEST_NUMBER, digits, normal

_STAND_IN: Final = re.compile(r"\[(?:[A-Z_0-9]+(?:-\d+)?|day [+-]\d+)\]")
_NUMBERS: Final = re.compile(r"\d(?:[-. ()/]{0,2}\d)*")
_WORD: Final = re.compile(r"[^\W\d_]+")


@dataclass
class Check:
    """What was looked for in how many notes, and what was found, by entity."""

    notes: int = 0
    identifiers: int = 0
    hits: Counter[str] = field(default_factory=Counter)
    values: list[str] = field(default_factory=list)
    control_found: bool | None = None

    @property
    def passed(self) -> bool:
        """Nothing was found but the control. Without any identifier there is no control to find."""
        return not self.hits and self.control_found is not False

    def facts(self) -> dict[str, Any]:
        """What may be told outside the PHI zone."""
        return {
            "name": "notes without known identifiers",
            "passed": self.passed,
            "detail": {
                "notes": self.notes,
                "identifiers": self.identifiers,
                "hits": dict(sorted(self.hits.items())),
                "negative_control_found": self.control_found,
            },
        }

    def look(self, known: Iterable[Known], notes: Iterable[str], lexicon: Lexicon) -> None:
        """Hold a patient's notes against what is known of the patient."""
        forms = sorted({form for item in known for form in _forms(item)})
        self.identifiers += len(forms)
        if self.control_found is None and forms:
            self.control_found = bool(
                _found(forms[:1], f"seen by {forms[0][1].upper()} today", lexicon)
            )
        for note in notes:
            self.notes += 1
            for entity, form in _found(forms, note, lexicon):
                self.hits[entity] += 1
                self.values.append(f"{entity}: {form}")


def _forms(known: Known) -> Iterable[tuple[str, str]]:
    """The normal forms of an identifier that are long enough to tell anybody."""
    if known.entity == ORGANIZATION:
        return
    if known.entity in NAMED:
        if known.entity == "KNOWN_CLINICIAN":
            given, _, family = known.value.partition("\t")
            together = normal(f"{given} {family}")
            if given and " " in together:
                yield known.entity, together
            return
        for word in normal(known.value).split():
            if len(word) >= SHORTEST and word not in PARTICLES:
                yield known.entity, word
        return
    form = normal(known.value)
    if len(form) >= SHORTEST:
        yield known.entity, form
    number = digits(known.value)
    if len(number) >= SHORTEST_NUMBER and number.isdigit():
        yield known.entity, number


def _found(forms: Iterable[tuple[str, str]], note: str, lexicon: Lexicon) -> list[tuple[str, str]]:
    bare = _STAND_IN.sub(" | ", note)
    tokens = f" {normal(bare)} "
    numbers = {digits(found) for found in _NUMBERS.findall(bare)}
    hits = []
    for entity, form in forms:
        written = f" {form} " in tokens and not (
            lexicon.is_word(squeezed(form)) and _only_small(form, bare)
        )
        if written or form in numbers:
            hits.append((entity, form))
    return hits


def _only_small(form: str, note: str) -> bool:
    """Whether a word stands in the note with a small first letter alone."""
    return all(word[0].islower() for word in _WORD.findall(note) if word.casefold() == form)
