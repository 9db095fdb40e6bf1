"""Two attestations, wherever they lie, held against each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deid.attestation.changes import changes
from deid.attestation.verify import LACKING, read_attestation
from deid.vocabulary import FILE as VOCABULARY
from deid.vocabulary import load_vocabulary
from exports.errors import FhirloomError


def compare(before: Path, after: Path) -> dict[str, Any]:
    """What changed between the attestations in two folders; neither is checked.

    Raises `FhirloomError` (bad-input) where one of them can't be read.
    """
    contents, codes = [], []
    for folder in (before, after):
        place, told = read_attestation(folder)
        contents.append(told)
        try:
            codes.append(load_vocabulary(place / VOCABULARY).codes)
        except (OSError, *LACKING):
            raise _unreadable(place) from None
    try:
        return changes(*contents, *codes)
    except LACKING:
        raise _unreadable(after) from None


def _unreadable(place: Path) -> FhirloomError:
    return FhirloomError(
        "bad-input",
        "The attestation lacks what an attestation has",
        where=str(place),
        fix="Check it: fhirloom attest verify.",
    )
