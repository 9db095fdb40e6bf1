"""A second opinion on the released strings: Presidio's pattern recognizers, without any model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from presidio_analyzer import EntityRecognizer
from presidio_analyzer.predefined_recognizers import (
    CreditCardRecognizer,
    DateRecognizer,
    EmailRecognizer,
    IpRecognizer,
    PhoneRecognizer,
    UrlRecognizer,
    UsSsnRecognizer,
)

from deid.proofs.leak_scan import released_strings
from deid.proofs.proof import Evidence, Verdict

LOWEST_SCORE: Final = 0.4
"""Presidio's score from which a match counts; its bare patterns score 0.05 to 0.3."""


class _OfflineEmailRecognizer(EmailRecognizer):
    """Presidio's own looks up the list of public suffixes on the network."""

    def validate_result(self, pattern_text: str) -> None:
        return None


def opinions(strings: Iterable[str]) -> dict[str, set[str]]:
    """The strings in which a recognizer sees an identifier, each with the entities' names."""
    recognizers: list[EntityRecognizer] = [
        _OfflineEmailRecognizer(),
        PhoneRecognizer(),
        UsSsnRecognizer(),
        CreditCardRecognizer(),
        IpRecognizer(),
        UrlRecognizer(),
        DateRecognizer(),
    ]
    seen: dict[str, set[str]] = {}
    for text in strings:
        for recognizer in recognizers:
            entities = recognizer.supported_entities
            # The third argument is for recognizers that look at words; patterns need none.
            for match in recognizer.analyze(text, entities, None):  # type: ignore[arg-type]
                if match.score >= LOWEST_SCORE:
                    seen.setdefault(text, set()).add(match.entity_type)
    return seen


def verdict(evidence: Evidence) -> Verdict:
    """The proof over tables that are not released yet."""
    strings = released_strings(evidence.folder, evidence.vocabulary.published)
    seen = opinions(strings)
    return Verdict(
        "second opinion",
        not seen,
        {"strings_scanned": len(strings), "strings_suspected": len(seen)},
        f"Presidio takes {len(seen)} of the strings to be released for identifiers",
        tuple(f"{text}: {', '.join(sorted(entities))}" for text, entities in seen.items()),
    )
