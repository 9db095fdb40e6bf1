"""A second opinion on the released strings: Presidio's pattern recognizers, without any model."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Final

from presidio_analyzer import EntityRecognizer, pattern_recognizer
from presidio_analyzer.predefined_recognizers import (
    CreditCardRecognizer,
    DateRecognizer,
    EmailRecognizer,
    IpRecognizer,
    PhoneRecognizer,
    UrlRecognizer,
    UsSsnRecognizer,
)

from deid.proofs.proof import Evidence, Verdict
from deid.proofs.released import released_strings

LOWEST_SCORE: Final = 0.4
"""Presidio's score from which a match counts; its bare patterns score 0.05 to 0.3."""


TIMED_OUT: Final = "TIMED_OUT"


class _OfflineEmailRecognizer(EmailRecognizer):
    """Presidio's own looks up the list of public suffixes on the network."""

    def validate_result(self, pattern_text: str) -> None:
        return None


def opinions(strings: Iterable[str]) -> dict[str, set[str]]:
    """The strings in which a recognizer sees an identifier, each with the entities' names.

    A pattern that takes too long is given up by Presidio, and sees nothing then: its string gets
    the name `TIMED_OUT`.
    """
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
            began = time.monotonic()
            # The third argument is for recognizers that look at words; patterns need none.
            for match in recognizer.analyze(text, entities, None):  # type: ignore[arg-type]
                if match.score >= LOWEST_SCORE:
                    seen.setdefault(text, set()).add(match.entity_type)
            if time.monotonic() - began >= pattern_recognizer.REGEX_TIMEOUT_SECONDS:
                seen.setdefault(text, set()).add(TIMED_OUT)
    return seen


def verdict(evidence: Evidence) -> Verdict:
    """The proof over tables that are not released yet."""
    strings = released_strings(
        evidence.folder, evidence.vocabulary.published, evidence.rules.permitted
    )
    seen = opinions(strings)
    return Verdict(
        "second opinion",
        not seen,
        {"strings_scanned": len(strings), "strings_suspected": len(seen)},
        f"Presidio takes {len(seen)} of the strings to be released for identifiers, or timed out",
        tuple(f"{text}: {', '.join(sorted(entities))}" for text, entities in seen.items()),
    )
