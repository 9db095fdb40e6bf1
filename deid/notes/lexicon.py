"""What words are: names, places, eponyms, and those of the language, so that names stand out.

The lists in `lexicon/` are common given and family names, larger cities, eponyms of medicine, and
words of clinical English and of software documentation, as counted there. A word is in its small,
ASCII form. What a site writes beyond them, its own notes tell: what the notes of `SHARED` patients
write small is a word.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Final

from exports.sealed import hash_file, hash_json

FOLDER: Final = Path(__file__).parent / "lexicon"
LISTS: Final = ("given_names", "family_names", "places", "eponyms", "words")

_MEDICAL: Final = re.compile(
    r"(?:itis|osis|emia|aemia|uria|ectomy|otomy|ostomy|plasty|scopy|scopic|graphy|graphic|ogram|"
    r"agram|opathy|pathic|algia|[^k]oma|omata|megaly|penia|penic|cytes?|blasts?|philia|phils?|"
    r"rrhea|rrhage|rrhagic|trophy|trophic|plegia|paresis|phagia|pnea|cardia|tension|tensive|pril|"
    r"sartan|statin|olol|azole|mycin|micin|cillin|cycline|oxacin|[^s]avir|uvir|mab|tinib|dipine|"
    r"thiazide|semide|azepam|azolam|barbital|caine|prazole|tidine|setron|triptan|gliptin|"
    r"gliflozin|glutide|parin|xaban|gatran|grel|fibrate|profen|oxicam|coxib|solone|sonide|terol|"
    r"tropium|lukast|tadine|azine|apine|idone|oxetine|pramine|triptyline|pentin|[td]actone|"
    r"...tion|...tions|...sion|...sions|...ment|...ments|lessness|ology|ologic|ological|ologists?|"
    r"iatry|iatric|iatrics|....ical|....ically|..cular|.able|.ible|....ous|ated|ating|izing|ized|"
    r"olytic|genic|lysis|[aeiou]rine|amine|zide|amide|oxide|chloride|sulfate|phosphate|acetate|"
    r"[aeiou]xin|lipase|kinase|ylase|inase|erase|idase|cystine|emic|otic|itic|aline|inal|onal|"
    r"ously|fully|lessly|fulness|iveness|ability|ivity|osity|icity|ality|arity)$"
)
"""Endings that words of medicine have and names, as good as never, have not."""
_ENDINGS: Final = (
    ("s", ""), ("es", ""), ("ies", "y"), ("ed", ""), ("ed", "e"), ("ing", ""), ("ing", "e"),
    ("ly", ""), ("ally", "al"), ("er", ""), ("er", "e"), ("ers", ""), ("al", ""), ("ness", ""),
    ("less", ""), ("ful", ""), ("y", ""), ("ic", ""),
)  # fmt: skip
_BEGINNINGS: Final = re.compile(
    r"(?:un|non|re|pre|post|peri|sub|super|inter|intra|extra|trans|hyper|hypo|anti|micro|macro|"
    r"mid|over|under|out|multi|poly|uni|bi|tri|contra|epi|retro|supra|infra|para|hemi|semi|fore|self|"
    r"neuro|cardio|gastro|cerebro|musculo|broncho|electro|echo|thrombo|hemo|osteo|arthro|nephro|"
    r"hepato|pneumo|cysto|immuno|chemo|radio|psycho|tele)"
)


def words_of(listed: str) -> frozenset[str]:
    """The words of a list that is written as a text."""
    return frozenset(listed.split())


@dataclass(frozen=True)
class Lexicon:
    """The lists, and what the site's notes write small (`learned`)."""

    given: frozenset[str]
    family: frozenset[str]
    places: frozenset[str]
    eponyms: frozenset[str]
    words: frozenset[str]
    learned: frozenset[str] = frozenset()
    _known: dict[str, bool] = field(default_factory=dict, compare=False, repr=False)

    def is_name(self, word: str) -> bool:
        """Whether people are called so, whatever else it means."""
        return word in self.given or word in self.family

    def is_word(self, word: str) -> bool:
        """Whether a small ASCII word belongs to the language, or to medicine by its form."""
        known = self._known.get(word)
        if known is None:
            known = self._known[word] = self._is_word(word)
        return known

    def is_listed(self, word: str) -> bool:
        """Whether the lists have a word, or a form of it: that it looks medical is not enough."""
        return word in self.words or word in self.learned or self._inflected(word)

    def _is_word(self, word: str) -> bool:
        if word in self.words:
            return True
        if word in self.given or word in self.family or word in self.places:
            return False
        return (
            word in self.learned
            or len(word) < 3
            or bool(_MEDICAL.search(word))
            or self._inflected(word)
            or bool((begun := _BEGINNINGS.match(word)) and word[begun.end() :] in self.words)
        )

    def _inflected(self, word: str) -> bool:
        for ending, stem in _ENDINGS:
            if word.endswith(ending):
                base = word[: -len(ending)] + stem
                doubled = len(base) > 3 and base[-1] == base[-2] and base[:-1] in self.words
                if (len(base) > 2 and base in self.words) or doubled:
                    return True
        return False


@cache
def shipped() -> Lexicon:
    """The lists that fhirloom ships."""
    given, family, places, eponyms, words = (
        frozenset((FOLDER / f"{name}.txt").read_text().split()) for name in LISTS
    )
    return Lexicon(given, family, places, eponyms, words)


def with_learned(words: Iterable[str]) -> Lexicon:
    """The shipped lists and what a site's own notes write small."""
    own = shipped()
    return Lexicon(own.given, own.family, own.places, own.eponyms, own.words, frozenset(words))


@cache
def lexicon_hash() -> str:
    """The hash of all the lists."""
    return hash_json([hash_file(FOLDER / f"{name}.txt") for name in LISTS])
