"""The golden notes: what is marked as identifying goes, what is marked as clinical stays."""

from __future__ import annotations

import pytest

from tests.deid.notes.subjects import GOLDEN, deidentified, golden

NAMES = sorted(path.name for path in GOLDEN.iterdir())


@pytest.mark.parametrize("name", NAMES)
def test_golden(name: str) -> None:
    note = golden(name)
    spans = deidentified(note.text).spans
    gone = {place for span in spans for place in range(span.start, span.end)}
    left = [
        note.text[start:end]
        for start, end in note.identifying
        if any(note.text[place].isalnum() and place not in gone for place in range(start, end))
    ]
    lost = [
        note.text[start:end]
        for start, end in note.clinical
        if any(place in gone for place in range(start, end))
    ]
    assert (left, lost) == ([], [])
