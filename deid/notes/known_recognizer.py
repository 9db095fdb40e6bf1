"""What the records know, found in a note however it is written there.

All of it is looked for at once (Aho-Corasick) in the note's letters and digits alone, so that
`Hama-` / `nová`, `J O H N`, `12 34 56` and `(617) 555-0123` are found like their plain forms. What
is found has to begin and end where a word does, and to be written as such a thing can be.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import permutations
from typing import Any, Final

from ahocorasick_rs import BytesAhoCorasick
from presidio_analyzer import EntityRecognizer, RecognizerResult

from deid.notes.known import NAMED, ORGANIZATION, Known
from deid.notes.lexicon import Lexicon, words_of
from deid.notes.shadow import Shadow, shadow_of, squeezed
from deid.notes.spans import Find

SCORE: Final = 1.0
PARTICLES: Final = words_of(
    "van von der den de la las los del della di da das dos du le el al bin ibn ben ter ten zu san "
    "santa st saint y e jr sr ii iii iv md rn do np dr mr mrs ms"
)
_EXPANDED: Final = str.maketrans(
    {"ß": "ss", "ä": "ae", "ö": "oe", "ü": "ue", "ø": "oe", "å": "aa", "æ": "ae", "œ": "oe",
     "Ä": "Ae", "Ö": "Oe", "Ü": "Ue", "Ø": "Oe", "Å": "Aa", "Æ": "Ae", "Œ": "Oe"}
)  # fmt: skip
_ROADS: Final = (
    ("street", "st"), ("avenue", "ave"), ("road", "rd"), ("drive", "dr"), ("lane", "ln"),
    ("court", "ct"), ("boulevard", "blvd"), ("terrace", "ter"), ("circle", "cir"), ("place", "pl"),
)  # fmt: skip
_SPACED: Final = re.compile(rb"[A-Za-z0-9](?:[ .\n]{1,3}[A-Za-z0-9])+")
_BROKEN: Final = re.compile(rb"[A-Za-z0-9']+-?[ ]*\n[ ]*[A-Za-z0-9']+|[A-Za-z]+[-'][A-Za-z'-]+")
_FAR: Final = re.compile(rb"[^A-Za-z0-9]{6,}")
_APART: Final = re.compile(rb"[0-9A-Za-z](?:[-. /()_:#]{0,3}[0-9A-Za-z])*")


@dataclass(frozen=True, slots=True)
class _Form:
    """One way to write something known: as a `name` (one word), `phrase` or `number`."""

    entity: str
    kind: str
    spaces: bool = False


class KnownRecognizer(EntityRecognizer):
    """Finds `known`; a name that is also a word of the language counts where it is capitalised."""

    def __init__(self, known: Iterable[Known], lexicon: Lexicon, *, name: str = "known") -> None:
        self.lexicon = lexicon
        forms: dict[str, _Form] = {}
        for item in known:
            for written, form in _forms(item):
                forms.setdefault(written, form)
        self.written = list(forms)
        self.forms = list(forms.values())
        self.matcher = BytesAhoCorasick([written.encode() for written in self.written])
        super().__init__(sorted({form.entity for form in self.forms}) or [ORGANIZATION], name=name)

    def load(self) -> None:
        """Nothing to load: the automaton is built."""

    def analyze(
        self, text: str, entities: list[str], nlp_artifacts: Any = None
    ) -> list[RecognizerResult]:
        """Every place where something known is written, the longest of each entity."""
        shadow = shadow_of(text)
        results: list[RecognizerResult] = []
        found = self.matcher.find_matches_as_indexes(shadow.squeezed, overlapping=True)
        for number, begin, end in found:
            form = self.forms[number]
            start, stop = int(shadow.places[begin]), int(shadow.places[end - 1]) + 1
            if self._is_written(shadow, start, stop, form, self.written[number]):
                results.append(Find(form.entity, start, stop, SCORE))
        return results

    def _is_written(self, shadow: Shadow, start: int, stop: int, form: _Form, written: str) -> bool:
        plain = shadow.plain
        before, after = plain[start - 1 : start] if start else b"", plain[stop : stop + 1]
        inner = plain[start:stop]
        if form.kind == "number":
            torn = before.isdigit() or after.isdigit()
            whole = inner.isalnum() if stop - start < 6 else bool(_APART.fullmatch(inner))
            return not torn and whole
        if before.isalnum() or after.isalnum():
            return False
        if form.kind == "phrase":
            return not _FAR.search(inner)
        if not inner.isalnum() and not (
            _SPACED.fullmatch(inner)
            or _BROKEN.fullmatch(inner)
            or (form.spaces and not _FAR.search(inner))
        ):
            return False
        return inner[:1].isupper() or not self.lexicon.is_word(written)


def _forms(known: Known) -> Iterator[tuple[str, _Form]]:
    """The ways in which something known may be written, squeezed."""
    if known.entity in NAMED:
        yield from _names(known)
        return
    form = squeezed(known.value)
    if known.entity == "DATE":
        yield from ((date, _Form("BIRTH", "number")) for date in _dates(known.value))
    elif known.entity in ("PLACE", ORGANIZATION):
        kind = "phrase" if " " in known.value.strip() else "name"
        if len(form) > 3:
            yield form, _Form(known.entity, kind)
    elif known.entity == "ADDRESS":
        if len(form) > 5:
            yield form, _Form("ADDRESS", "phrase")
            for long, short in _ROADS:
                for one, other in ((long, short), (short, long)):
                    if form.endswith(one):
                        yield form.removesuffix(one) + other, _Form("ADDRESS", "phrase")
    elif len(form) > 3:
        entity = known.entity
        yield form, _Form(entity, "number" if form.isdigit() else "phrase")
        digits = "".join(char for char in form if char.isdigit())
        if entity == "PHONE" and len(digits) > 9:
            yield digits[-10:], _Form(entity, "number")
            yield digits[-7:], _Form(entity, "number")
        elif form.isdigit() and len(form.lstrip("0")) > 4:
            yield form.lstrip("0"), _Form(entity, "number")


def _names(known: Known) -> Iterator[tuple[str, _Form]]:
    """A person's names: each by itself, together in any order, and with initials."""
    for given, family in _spellings(known.value):
        parts = [part for part in re.split(r"[\s.]+", given) if part]
        short = [squeezed(part) for part in parts]
        last = squeezed(family)
        clinician = known.entity == "KNOWN_CLINICIAN"
        for part in parts if not clinician else ():
            yield from _alone(part, known.entity)
        if not clinician:
            yield from _alone(family, known.entity)
            for part in re.split(r"[\s-]+", family):
                yield from _alone(part, known.entity)
        for count in range(1, min(3, len(short)) + 1):
            for order in permutations(short, count):
                together = "".join(order)
                if last and len(together) > 1:
                    yield together + last, _Form(known.entity, "phrase")
                    yield last + together, _Form(known.entity, "phrase")
        if last and short and short[0]:
            initials = "".join(part[0] for part in short if part)
            for initial in {initials, initials[0]}:
                if len(last) > 2:
                    yield initial + last, _Form(known.entity, "phrase")
                    yield last + initial, _Form(known.entity, "phrase")


def _alone(part: str, entity: str) -> Iterator[tuple[str, _Form]]:
    word = squeezed(part)
    if len(word) > 1 and word not in PARTICLES and not (len(word) == 2 and word in _SHORT_WORDS):
        yield word, _Form(entity, "name", spaces=" " in part.strip())


_SHORT_WORDS: Final = words_of(
    "am an as at be by do ed go he hi ho if in is it la le ma me my no of oh ok on or pa pt so to "
    "up us we"
)


def _spellings(value: str) -> Iterator[tuple[str, str]]:
    """Given and family names as they are, and with the letters that ASCII writes as two."""
    given, _, family = value.partition("\t")
    yield given, family
    expanded = (given.translate(_EXPANDED), family.translate(_EXPANDED))
    if expanded != (given, family):
        yield expanded


def _dates(value: str) -> set[str]:
    """The digits of a day as they follow one another in any order that is in use."""
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value):
        return set()
    year, month, day = value.split("-")
    days, months = {day, day.lstrip("0")}, {month, month.lstrip("0")}
    found = {year + month + day, day + month + year[2:], month + day + year[2:]}
    for one in months:
        for other in days:
            found |= {one + other + year, other + one + year}
    return found
