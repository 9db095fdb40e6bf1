"""What the released strings say, in every form in which an identifier may be told again.

Each run of up to `LONGEST_PHRASE` tokens of a string is a phrase: in normal form (NFKC, case
folded, whole tokens by Unicode's letters and digits), by its digits alone, in any order of its
tokens (a name is told either way round), and a date in every usual way to write it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import permutations
from typing import Final

from deid.proofs.date_forms import dates_told, forms_of
from deid.proofs.identifiers import SHORTEST, SHORTEST_NUMBER, Identifier, digits, normal

LONGEST_PHRASE: Final = 8
"""Tokens in a run of an output string."""
LONGEST_NAME: Final = 4
"""Tokens of a name that may stand in any order."""


@dataclass(frozen=True)
class Phrases:
    """Phrases with the places where they stand.

    `orders` has the tokens of each short run sorted.
    """

    words: Mapping[str, frozenset[str]]
    numbers: Mapping[str, frozenset[str]]
    orders: Mapping[str, frozenset[str]]

    def told(self, identifier: Identifier) -> dict[str, str]:
        """The places that tell an identifier, each with a note on how."""
        form = normal(identifier.value)
        found: dict[str, str] = {}
        if len(form) >= SHORTEST:
            # A longer one is found by its beginning.
            begin = " ".join(form.split(" ", LONGEST_PHRASE)[:LONGEST_PHRASE])
            found |= dict.fromkeys(self.words.get(begin, ()), "")
            if identifier.letter == "A":
                others = self.orders.get(" ".join(sorted(form.split(" "))), ())
                found |= {place: ", any order" for place in others if place not in found}
        number = digits(identifier.value)
        if len(number) >= SHORTEST_NUMBER:
            others = self.numbers.get(number, ())
            found |= {place: ", digits" for place in others if place not in found}
        return found

    def searched(self) -> Iterator[str]:
        """Every phrase that a text has to hold, token by token, for `told` to find it there."""
        yield from self.words
        for tokens in (order.split(" ") for order in self.orders):
            # A token that is long enough is a phrase itself.
            if max(map(len, tokens)) < SHORTEST:
                yield from (" ".join(order) for order in permutations(tokens))


def phrases_of(strings: Mapping[str, str]) -> Phrases:
    """The phrases of strings, which come with their places."""
    words: dict[str, set[str]] = defaultdict(set)
    numbers: dict[str, set[str]] = defaultdict(set)
    orders: dict[str, set[str]] = defaultdict(set)
    for text, place in strings.items():
        tokens = normal(text).split()
        runs = [
            tokens[start:end]
            for start in range(len(tokens))
            for end in range(start + 1, min(start + LONGEST_PHRASE, len(tokens)) + 1)
        ]
        for run in runs:
            phrase = " ".join(run)
            if len(phrase) >= SHORTEST:
                words[phrase].add(place)
                if 1 < len(run) <= LONGEST_NAME:
                    orders[" ".join(sorted(run))].add(place)
        for told in (text, *map(" ".join, runs)):
            number = digits(told)
            if len(number) >= SHORTEST_NUMBER:
                numbers[number].add(place)
        for day in dates_told(tokens):
            for form in forms_of(day):
                words[form].add(place)
    return Phrases(_frozen(words), _frozen(numbers), _frozen(orders))


def _frozen(places: Mapping[str, set[str]]) -> dict[str, frozenset[str]]:
    return {phrase: frozenset(found) for phrase, found in places.items()}
