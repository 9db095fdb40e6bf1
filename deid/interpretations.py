"""The readings of the rule that are relied on, listed for whoever has to sign: none is hidden."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from deid.policy import PolicyName

LIST: Final = Path(__file__).with_suffix(".json")


@dataclass(frozen=True)
class Interpretation:
    """One reading: its `text`, and what it reads: paragraphs of 45 CFR, questions of HHS guidance.

    `policies` are those that rely on it; `id` stays the same when its words are mended.
    """

    id: str
    policies: tuple[PolicyName, ...]
    cites: str
    text: str


def interpretations(policy: PolicyName) -> tuple[Interpretation, ...]:
    """Those that tables made by the policy rely on, in the order of the list."""
    listed = json.loads(LIST.read_text())["interpretations"]
    every = (Interpretation(**{**item, "policies": tuple(item["policies"])}) for item in listed)
    return tuple(each for each in every if policy in each.policies)
