"""What a proof looks at, and what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deid.identity.custody import Crosswalk
from deid.rules import Rules
from deid.vocabulary import Vocabulary
from exports.landing.zone import LandingZone
from exports.sealed import Sealed


@dataclass(frozen=True)
class Evidence:
    """Tables that are not released yet, in `folder`, and all that they were made from.

    `truth` is the sandbox's list of planted identifiers, where there is one.
    """

    folder: Path
    landing: LandingZone
    extracted: Sealed
    crosswalk: Crosswalk
    vocabulary: Vocabulary
    rules: Rules
    phi: Path
    truth: Path | None = None

    @property
    def spill(self) -> Path:
        """A folder of the PHI zone that a proof may fill, and takes away again."""
        return self.phi / "spill"


@dataclass(frozen=True)
class Verdict:
    """One proof's outcome.

    `detail` is told outside the PHI zone and `failure` is a sentence for whoever runs it: neither
    holds a patient's value. `values` does, and goes to `phi/logs` alone.
    """

    name: str
    passed: bool
    detail: Mapping[str, Any]
    failure: str = ""
    values: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """What may be told outside the PHI zone."""
        return {"name": self.name, "passed": self.passed, "detail": dict(self.detail)}
