"""How well notes were cleaned of what a sandbox had planted in them: by class, with bounds.

Recall is the share of planted identifiers that are no longer in their note; its lower bound holds
with 95 % confidence (Clopper and Pearson, Biometrika 26, 1934, one-sided). Precision is the share
of what was replaced that was, or touched, something planted or known from the records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from deid.notes.known import NAMED
from deid.notes.replacing import Replaced
from deid.notes.shadow import clean
from deid.proofs.recall import CONFIDENCE, FILE, lower_bound

LOCATIONS: Final = ("attachment.data", "presentedForm", "Binary")
CERTAIN: Final = NAMED | {"BIRTH", "OVER_89"}
"""Entities that are identifiers whenever they are found."""
Planted = Mapping[str, tuple[tuple[str, str], ...]]
"""By resource id, the (class, value) pairs that its text holds."""


def planted_in_notes(truth: Path) -> Planted:
    """What a sandbox's truth says was planted in attachments."""
    found: dict[str, set[tuple[str, str]]] = {}
    for row in pq.read_table(truth / FILE).to_pylist():
        if any(part in row["location"] for part in LOCATIONS):
            found.setdefault(row["resource_id"], set()).add((row["class"], row["value"]))
    return {key: tuple(sorted(values)) for key, values in found.items()}


@dataclass
class Measure:
    """Counts by class: planted in notes that are released, and still there; and replacements."""

    planted: Counter[str] = field(default_factory=Counter)
    left: Counter[str] = field(default_factory=Counter)
    replaced: int = 0
    rightly: int = 0

    def add(self, text: str, replaced: Replaced, planted: Iterable[tuple[str, str]]) -> None:
        """Count one note, before and after."""
        spans = []
        for letter, value in planted:
            form = clean(value)
            places = _places(text, form)
            if places:
                self.planted[letter] += 1
                self.left[letter] += form in replaced.text
                spans += places
        self.replaced += len(replaced.spans)
        self.rightly += sum(
            span.entity in CERTAIN
            or any(start < span.end and span.start < end for start, end in spans)
            for span in replaced.spans
        )

    def facts(self) -> dict[str, Any]:
        """Shares by class and together, for the manifest."""
        return {
            "confidence": CONFIDENCE,
            "precision": _rounded(self.rightly / self.replaced) if self.replaced else None,
            "replaced": self.replaced,
            "recall": {
                **{letter: self._share([letter]) for letter in sorted(self.planted)},
                "all": self._share(self.planted),
            },
        }

    def _share(self, letters: Iterable[str]) -> dict[str, Any]:
        chosen = list(letters)
        planted = sum(self.planted[letter] for letter in chosen)
        left = sum(self.left[letter] for letter in chosen)
        return {
            "planted": planted,
            "left": left,
            "share": _rounded(1 - left / planted) if planted else None,
            "at_least": _rounded(lower_bound(planted - left, planted)) if planted else None,
        }


def _places(text: str, form: str) -> list[tuple[int, int]]:
    places, start = [], text.find(form)
    while start >= 0 and form:
        places.append((start, start + len(form)))
        start = text.find(form, start + 1)
    return places


def _rounded(share: float) -> float:
    return float(f"{share:.5f}")
