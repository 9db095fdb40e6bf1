"""How an export is to be made: what its operator may choose beside what is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from exports.landing.reconcile import DEFAULT_POLICY, Policy
from exports.landing.screening import TEST_PATIENTS, Screen

Edition = Literal["", "STU1", "STU2", "STU3", "STU4"]


@dataclass(frozen=True)
class ExportOptions:
    """Choices of one export.

    `fresh` asks anew what was asked before. `vendor` names a profile, and `edition` an edition of
    Bulk Data Access, instead of what the CapabilityStatement tells. `allow_wider`: a parameter
    that the server rejects is left out, and applied here. `parallel` downloads at most run at a
    time. `outage` is how many seconds a busy or silent server is waited for. `policy` says which
    disagreements fail the export, `screen` who must not be in it.
    """

    fresh: bool = False
    vendor: str = ""
    edition: Edition = ""
    allow_wider: bool = False
    parallel: int = 4
    outage: float = 3600.0
    policy: Policy = DEFAULT_POLICY
    screen: Screen = TEST_PATIENTS


DEFAULT_OPTIONS: Final = ExportOptions()
"""What holds where nothing is chosen."""
