"""Identifiers by what they look like: the patterns of `patterns.yaml`, matched by RE2.

RE2's time is linear in the text, whatever the pattern, so that no note can make a pattern time out
and slip through. One pass tells which patterns match at all; those alone look for their places.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

import re2
import yaml
from presidio_analyzer import EntityRecognizer, RecognizerResult

from deid.notes.lexicon import Lexicon
from deid.notes.pattern_checks import CHECKS, Check
from deid.notes.shadow import shadow_of
from deid.notes.spans import Find, Span, merged
from exports.sealed import hash_file

PATTERNS: Final = Path(__file__).parent / "patterns.yaml"
SCORE: Final = 0.8
_MEMORY: Final = 64 * 2**20
"""Bytes for RE2's automata; with less of it RE2 is slower, and finds the same."""


@dataclass(frozen=True)
class Pattern:
    """One pattern: the entity that it tells, whether a part of it is what counts, and its check."""

    entity: str
    source: str
    matcher: Any
    group: int
    check: Check | None


@cache
def patterns() -> tuple[Pattern, ...]:
    """The patterns of `patterns.yaml`, compiled."""
    read = yaml.safe_load(PATTERNS.read_text())
    fragments: dict[str, str] = read.pop("fragments")
    found = []
    for entity, listed in read.items():
        for item in listed:
            item = {"pattern": item} if isinstance(item, str) else item
            source = item["pattern"]
            for name, fragment in fragments.items():
                source = source.replace("{" + name + "}", fragment)
            matcher = re2.compile(source.encode(), latin_options())
            group = 1 if "(?P<x>" in source else 0
            found.append(
                Pattern(entity.upper(), source, matcher, group, CHECKS.get(item.get("check", "")))
            )
    return tuple(found)


@cache
def patterns_hash() -> str:
    """The hash of the patterns as they are written."""
    return hash_file(PATTERNS)


def latin_options() -> Any:
    """RE2's options for patterns over a shadow, whose bytes are characters."""
    options = re2.Options()
    options.max_mem = _MEMORY
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    return options


class PatternRecognizer(EntityRecognizer):
    """What looks like an identifier, whosoever's it is."""

    def __init__(self, lexicon: Lexicon) -> None:
        self.lexicon = lexicon
        self.patterns = patterns()
        self.filter = re2.Set.SearchSet(latin_options())
        for pattern in self.patterns:
            self.filter.Add(pattern.source.encode())
        self.filter.Compile()
        super().__init__(sorted({pattern.entity for pattern in self.patterns}), name="patterns")

    def load(self) -> None:
        """Nothing to load: the patterns are compiled."""

    def analyze(
        self,
        text: str,
        entities: list[str],
        nlp_artifacts: Any = None,
    ) -> list[RecognizerResult]:
        """Every match of every pattern, those that overlap as one."""
        shadow = shadow_of(text)
        found = []
        # Nothing is also what a filter answers that has failed: then all of them look.
        matching = self.filter.Match(shadow.plain) or range(len(self.patterns))
        for number in matching:
            pattern = self.patterns[number]
            for match in pattern.matcher.finditer(shadow.plain):
                start, end = match.span(pattern.group)
                if pattern.check is None or pattern.check(shadow, start, end, self.lexicon):
                    found.append(Span(start, end, pattern.entity))
        return [Find(span.entity, span.start, span.end, SCORE) for span in merged(found)]
