"""The last word on a pattern's match, where its surroundings or its words decide."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from deid.notes.lexicon import Lexicon, words_of
from deid.notes.shadow import Shadow

Check = Callable[[Shadow, int, int, Lexicon], bool]
"""Whether the text from start to end is what its pattern takes it for."""

_WORD: Final = re.compile(rb"[A-Za-z][A-Za-z']+")
_STRONG: Final = re.compile(
    rb"(?:on|since|until|till|dated?|mon|tues?|weds?|thu(?:rs)?|fri|sat|sun|through|thru|admitted|appt|scheduled|lmp|dictated|signed)"
    rb"[\s:.(-]{1,3}$",
    re.IGNORECASE,
)
_AFTER_RATIO: Final = re.compile(
    rb"[ ]?(?:strength|murmur|pain|tabs?\b|tablets?|mg|mcg|ml|mm|cm|hpf|lpf|systolic|diastolic|sem|"
    rb"hsm|dose|dorsi|plantar|throughout|in\sall|bilat|pulses?|edema|reflex|nodes|lymph|positive|"
    rb"scale|score|severity|motor|x\b|ns\b|%|b/l|in\sthe|radial|ounces?|oz|inch|pack|ppd|"
    rb"of\s(?:the|a)|recall|points|items|objects|joints)",
    re.IGNORECASE,
)
_RATED: Final = re.compile(
    rb"(?:^|[^A-Za-z])(?:apgars?(?:\sscores?)?|pain|strength|scored?|gcs|scale|rated|level|at)[\s:=]{1,3}$",
    re.IGNORECASE,
)
_MEASURES: Final = words_of(
    "mg mcg ml cc cm mm kg lb lbs oz units unit meq mmol hours hour hrs hr days day weeks week "
    "months month years year yrs yr yo pm am tabs tablet tablets tab times beats minutes min "
    "per with by and was is seen for from over to of"
)
_GENERIC: Final = words_of(
    "general memorial community regional mercy sacred heart hope veterans va childrens st saint "
    "university county state national mount good samaritan providence trinity methodist baptist "
    "lutheran presbyterian adventist jewish catholic deaconess holy cross shriners kaiser"
)
_JOINING: Final = words_of("of the and for at de our his her their a an to in from by with")
_STATES: Final = words_of(
    "alabama alaska arizona arkansas california colorado connecticut delaware florida georgia "
    "hawaii idaho illinois indiana iowa kansas kentucky louisiana maine maryland massachusetts "
    "michigan minnesota mississippi missouri montana nebraska nevada ohio oklahoma oregon "
    "pennsylvania tennessee texas utah vermont virginia washington wisconsin wyoming"
)


def _words(shadow: Shadow, start: int, end: int) -> list[str]:
    return [
        found.decode().lower().removesuffix("'s")
        for found in _WORD.findall(shadow.plain[start:end])
    ]


def month_and_day(shadow: Shadow, start: int, end: int, lexicon: Lexicon) -> bool:
    """3/14 is a date after `on`; 5/5 before `strength`, and 2/6, 4/10 or 1/2 alone, are none."""
    before = shadow.plain[max(0, start - 16) : start]
    after = shadow.plain[end : end + 14]
    if after[:1] in (b"/", b"%") or before[-1:] in (b"/", b".", b"-"):
        return False
    if _AFTER_RATIO.match(after) or _RATED.search(before):
        return False
    parts = re.split(rb"[/-]", shadow.plain[start:end].split()[0])
    if len(parts) == 3 or len(shadow.plain[start:end].split()) > 1:
        return True
    month, day = parts
    if _STRONG.search(before):
        return True
    padded = month[:1] == b"0" or day[:1] == b"0"
    return padded or int(day) not in (2, 3, 4, 5, 6, 8, 10)


def three_digits(shadow: Shadow, start: int, end: int, lexicon: Lexicon) -> bool:
    """At least three digits, and no year or measure by its looks."""
    return _digits(shadow, start, end) >= 3


def four_digits(shadow: Shadow, start: int, end: int, lexicon: Lexicon) -> bool:
    """At least four digits."""
    return _digits(shadow, start, end) >= 4


def a_digit(shadow: Shadow, start: int, end: int, lexicon: Lexicon) -> bool:
    """One digit at least: plates have few."""
    return _digits(shadow, start, end) >= 1


def letters_and_digits(shadow: Shadow, start: int, end: int, lexicon: Lexicon) -> bool:
    """Both of them."""
    digits = _digits(shadow, start, end)
    return 3 <= digits < end - start


def serial(shadow: Shadow, start: int, end: int, lexicon: Lexicon) -> bool:
    """Letters among five digits and more, as in serial numbers; no dose, no staging."""
    part = shadow.plain[start:end]
    digits = _digits(shadow, start, end)
    return (
        digits >= 4
        and digits + 1 <= len(part)
        and any(65 <= c <= 122 for c in part)
        and (digits >= 5 or len(part) >= 8)
    )


def some_stranger(shadow: Shadow, start: int, end: int, lexicon: Lexicon) -> bool:
    """Not all of its words are words of the language."""
    return any(not lexicon.is_word(word) for word in _words(shadow, start, end))


def an_address(shadow: Shadow, start: int, end: int, lexicon: Lexicon) -> bool:
    """A number and a road, and no measure between them."""
    return _MEASURES.isdisjoint(_words(shadow, start, end))


def unlisted(shadow: Shadow, start: int, end: int, lexicon: Lexicon) -> bool:
    """A name written small, or at least no word of the lists."""
    word = _words(shadow, start, end)[0]
    return lexicon.is_name(word) or not lexicon.is_listed(word)


def no_word(shadow: Shadow, start: int, end: int, lexicon: Lexicon) -> bool:
    """It does not begin with a word of the language, nor is it a state or a country."""
    words = _words(shadow, start, end)
    return bool(words) and words[0] not in _STATES and some_stranger(shadow, start, end, lexicon)


def an_organization(shadow: Shadow, start: int, end: int, lexicon: Lexicon) -> bool:
    """Some word of it tells which one: a name, a state, or what hospitals are called."""
    words = [word for word in _words(shadow, start, end)[:-1] if word not in _JOINING]
    return any(word in _GENERIC or word in _STATES or not lexicon.is_word(word) for word in words)


def _digits(shadow: Shadow, start: int, end: int) -> int:
    return sum(48 <= char <= 57 for char in shadow.plain[start:end])


CHECKS: Final[Mapping[str, Check]] = {
    check.__name__: check
    for check in (
        month_and_day,
        three_digits,
        four_digits,
        a_digit,
        letters_and_digits,
        serial,
        some_stranger,
        no_word,
        an_address,
        unlisted,
        an_organization,
    )
}
