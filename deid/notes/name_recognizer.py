"""People by name: a gazetteer, the words around a name, and words that no language has.

Each capitalised word of a note is taken for what it is in the lexicon, and for what its neighbours
make of it. `Dr.`, `son`, `seen by`, a label such as `Attending:` before it or `MD` behind it make a
name of whatever follows; a word of the clinic behind it (`Parkinson's disease`, `Foley catheter`)
makes an eponym of it. A capitalised word that is neither in the lexicon nor formed like a word of
medicine is taken for a name: recall comes first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from presidio_analyzer import EntityRecognizer, RecognizerResult

from deid.notes.lexicon import Lexicon, words_of
from deid.notes.shadow import Shadow, shadow_of
from deid.notes.spans import Find
from deid.notes.surroundings import (
    CLINICIAN,
    COMMA_NEEDED,
    CREDENTIAL,
    CUE,
    KIN,
    OF_ANYONE,
    OF_FEW,
    PERSON,
    PLACE,
)

SCORES: Final = {CLINICIAN: 0.9, KIN: 0.9, PERSON: 0.7, PLACE: 0.6}

_TOKEN: Final = re.compile(rb"(?<![A-Za-z0-9_@./])[A-Z][A-Za-z']*(?![A-Za-z0-9_@])")
_NEAR: Final = re.compile(rb"(?:\.?[ ]{1,2}|[ ]?,[ ]{0,2}|\.|-|[ ]?-\n[ ]?|[ ]\n?[ ]?)")
_PARTICLES: Final = re.compile(
    rb"[ ,.]*(?:(?:van|von|der|den|de|la|las|los|del|della|di|da|das|dos|du|le|el|al|bin|ibn|ben|"
    rb"ter|ten|zu|y|e|abu|san|santa|st\.?)[ ]){1,3}"
)
_PARTICLES_BEFORE: Final = re.compile(
    rb"(?<![A-Za-z])(?:[Vv]an|[Vv]on|[Dd]er|[Dd]en|[Dd]e|[Ll]a|[Dd]el|[Dd]i|[Dd]a|[Dd]os|[Dd]u|[Ll]e|[Ee]l|[Aa]l)"
    rb"(?:[ ](?:der|den|la|las|los))?[ -]$"
)
_NEVER: Final = words_of(
    "the and for with from who whom this that these those she he his her him they them their it "
    "its was were will would has had have not now then there here please thank thanks patient "
    "history date time all any none no yes in on at of to by is are be as an or if we our us you "
    "your i dr mr mrs ms miss md rn"
)
"""Words that no cue makes a name of."""
_INNER: Final = re.compile(r"(?:Mc|Mac|O'|D'|De|Di|La|Le|Du|Van|Von|Fitz|St|L'|Al|El)[A-Z][a-z']+")
_SHAPED: Final = re.compile(r"[A-Z][a-z]+(?:'[a-z]+)?")
_SHORTEST_CAPITALS: Final = 6
"""Letters; a shorter word in capitals that nobody knows is an abbreviation rather than a name."""


@dataclass(slots=True)
class _Word:
    """A capitalised word in the note: `text` as written, `key` small; `role` once it is a name."""

    start: int
    end: int
    text: str
    key: str
    role: str = ""


class NameRecognizer(EntityRecognizer):
    """Names of people (and of larger places) that no record told beforehand.

    `staff` holds the family names of the practitioners on record, small.
    """

    def __init__(self, lexicon: Lexicon, staff: frozenset[str] = frozenset()) -> None:
        self.lexicon = lexicon
        self.staff = staff
        super().__init__([PERSON, CLINICIAN, KIN, PLACE], name="names")

    def load(self) -> None:
        """Nothing to load: the lexicon is at hand."""

    def analyze(
        self, text: str, entities: list[str], nlp_artifacts: Any = None
    ) -> list[RecognizerResult]:
        """Every name, its parts joined."""
        shadow = shadow_of(text)
        words, cues = _words(shadow), _cues(shadow)
        for run in _runs(words, shadow):
            self._judge(run, cues, shadow)
        return [Find(role, start, end, SCORES[role]) for role, start, end in _joined(words, shadow)]

    def _judge(
        self, run: list[_Word], cues: Mapping[int, tuple[str, bool]], shadow: Shadow
    ) -> None:
        """Give a role to each word of a run of capitalised words that is part of a name."""
        signed = next((n for n, word in enumerate(run) if _credentialed(word, shadow)), None)
        if signed is not None and signed + 1 < len(run):
            self._judge(run[signed + 1 :], cues, shadow)
            run = run[: signed + 1]
        for word in run:
            role, strong = cues.get(word.start, ("", False))
            if role and self._follows(word, strong):
                eponym = self._alone(word) or self._eponym(word, shadow)
                word.role = role if strong or role == KIN or not eponym else ""
            word.role = word.role or self._by_itself(word, shadow)
        if signed is not None:
            self._signed(run)
        if len(run) == 1:
            return
        for order in (range(len(run)), reversed(range(len(run)))):
            for number in order:
                if not run[number].role:
                    run[number].role = self._by_neighbours(run, number, shadow)

    def _follows(self, word: _Word, strong: bool) -> bool:
        if word.key in _NEVER:
            return False
        if strong:
            return self.lexicon.is_name(word.key) or not (
                self.lexicon.is_listed(word.key) and word.key not in self.staff
            )
        known = self.lexicon.is_name(word.key) and len(word.key) > 2
        return known or (not self.lexicon.is_listed(word.key) and not word.text.isupper())

    def _by_itself(self, word: _Word, shadow: Shadow) -> str:
        lexicon, key = self.lexicon, word.key
        if len(key) < 3 or self._alone(word):
            return ""
        if lexicon.is_word(key) and key not in self.staff:
            return ""
        if self._eponym(word, shadow):
            return ""
        if key in self.staff and not lexicon.is_word(key):
            return CLINICIAN
        capitals = word.text.isupper()
        if lexicon.is_name(key):
            return "" if lexicon.is_word(key) or (capitals and len(key) < 4) else PERSON
        if key in lexicon.places:
            return "" if capitals and len(key) < _SHORTEST_CAPITALS else PLACE
        if capitals:
            return PERSON if len(key) > _SHORTEST_CAPITALS else ""
        return PERSON if _SHAPED.fullmatch(word.text) or _INNER.match(word.text) else ""

    def _alone(self, word: _Word) -> bool:
        """Whether a word is an eponym even by itself: a catheter rather than a person."""
        return word.key in self.lexicon.eponyms and not self.lexicon.is_name(word.key)

    def _eponym(self, word: _Word, shadow: Shadow) -> bool:
        """Whether what follows a word makes an eponym of it."""
        if OF_ANYONE.match(shadow.plain, word.end):
            return True
        known = word.key in self.lexicon.eponyms
        return known and bool(OF_FEW.match(shadow.plain, word.end))

    def _signed(self, run: list[_Word]) -> None:
        """The words before `MD`: the last three at most, from the first that can be a name."""
        names = run[-3:]
        while (
            names
            and self.lexicon.is_word(names[0].key)
            and not (self.lexicon.is_name(names[0].key) or len(names[0].key) == 1)
            and len(names) > 1
        ):
            names = names[1:]
        for word in names:
            if word.key not in _NEVER:
                word.role = CLINICIAN

    def _by_neighbours(self, run: list[_Word], number: int, shadow: Shadow) -> str:
        word = run[number]
        before = run[number - 1] if number else None
        after = run[number + 1] if number + 1 < len(run) else None
        roles = [near.role for near in (before, after) if near is not None and near.role]
        if not roles:
            return self._both_ambiguous(word, after, shadow)
        role = roles[0]
        if role == PLACE or word.key in _NEVER:
            return ""
        if self._eponym(word, shadow):
            return ""
        if len(word.key) == 1 and word.key not in ("i", "a"):
            return role
        if len(word.key) == 2 and word.text.isupper():
            return ""
        if self.lexicon.is_name(word.key) or word.key in self.lexicon.eponyms:
            return role
        known = self.lexicon.is_listed(word.key) or (
            self.lexicon.is_word(word.key) and len(word.key) > 2
        )
        return role if not known and len(word.key) > 1 else ""

    def _both_ambiguous(self, word: _Word, after: _Word | None, shadow: Shadow) -> str:
        """`Mark Young`: a given and a family name in a row, be they words as well."""
        both = (
            after is not None
            and word.key in self.lexicon.given
            and after.key in self.lexicon.family
            and min(len(word.key), len(after.key)) > 2
            and not self._eponym(after, shadow)
        )
        if both and after is not None:
            after.role = PERSON
            return PERSON
        return ""


def _words(shadow: Shadow) -> list[_Word]:
    words = []
    for found in _TOKEN.finditer(shadow.plain):
        start, end = found.span()
        text = found[0].decode()
        if text.endswith(("'s", "'S")):
            text, end = text[:-2], end - 2
        bare = text.rstrip("'")
        words.append(_Word(start, end - len(text) + len(bare), bare, bare.replace("'", "").lower()))
    return words


def _runs(words: list[_Word], shadow: Shadow) -> Iterator[list[_Word]]:
    """Words that stand side by side."""
    run: list[_Word] = []
    for word in words:
        if run and not _beside(run[-1], word, shadow):
            yield run
            run = []
        run.append(word)
    if run:
        yield run


def _beside(left: _Word, right: _Word, shadow: Shadow) -> bool:
    gap = shadow.plain[left.end : right.start]
    if len(gap) > 12:
        return False
    if _NEAR.fullmatch(gap):
        # A full stop ends a sentence, but for that behind an initial or a title.
        return b"." not in gap or len(left.text) <= 3
    return bool(_PARTICLES.fullmatch(gap))


def _cues(shadow: Shadow) -> dict[int, tuple[str, bool]]:
    """Where a capitalised word follows a cue: the role it gives, and whether beyond doubt."""
    found: dict[int, tuple[str, bool]] = {}
    for role, strong, matcher in CUE:
        for match in matcher.finditer(shadow.plain):
            found.setdefault(match.end() - 1, (role, strong))
    return found


def _credentialed(word: _Word, shadow: Shadow) -> bool:
    found = CREDENTIAL.match(shadow.plain, word.end)
    if not found:
        return False
    written = found[0].strip(b" ,").replace(b".", b"")
    return b"," in found[0] or written not in COMMA_NEEDED


def _joined(words: list[_Word], shadow: Shadow) -> Iterator[tuple[str, int, int]]:
    """The named words as (role, start, end), those side by side as one."""
    current: tuple[str, int, int] | None = None
    last: _Word | None = None
    for word in words:
        if not word.role:
            continue
        same = current is not None and (current[0] == PLACE) == (word.role == PLACE)
        if current is not None and last is not None and same and _beside(last, word, shadow):
            role = max(current[0], word.role, key=lambda role: SCORES[role])
            current = (role, current[1], word.end)
        else:
            if current is not None:
                yield current
            start = word.start
            if particle := _PARTICLES_BEFORE.search(shadow.plain, max(0, start - 12), start):
                start = particle.start()
            current = (word.role, start, word.end)
        last = word
    if current is not None:
        yield current
