"""What a search brought against what was asked for: every disagreement a finding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from exports.landing.reconcile import Finding, Kind, Policy, count_outcomes
from exports.search.parts import Part, Plan


def of_type(
    name: str, offered: bool, found: Sequence[Part], passed_over: int, policy: Policy
) -> Iterator[Finding]:
    """A type that the server doesn't offer or count, and resources more or fewer than asked for.

    What a reference names and the server doesn't give may be deleted, or not for this client.
    """
    if not offered:
        yield policy.finding("missing-type", 0, of=name)
    if uncounted := sum(part.matches for part in found if part.total is None):
        yield policy.finding("uncounted", uncounted, of=name)
    by_id = [part for part in found if part.asked]
    asked, came = sum(part.asked for part in by_id), sum(part.matches for part in by_id)
    if came < asked:
        yield policy.finding("not-found", came, expected=asked, of=name)
    if passed_over:
        yield policy.finding("extra-rows", passed_over, expected=0, of=name)


def of_plan(plan: Plan, policy: Policy) -> Iterator[Finding]:
    """A group that has another number of patients than it says."""
    if plan.members is not None:
        fewer = len(plan.patients) < plan.members
        kind: Kind = "not-found" if fewer else "extra-rows"
        yield policy.finding(kind, len(plan.patients), expected=plan.members, of="Group")


def of_remarks(file: Path, policy: Policy) -> Iterator[Finding]:
    """What the server remarked beside the results, by severity and code."""
    issues, _ = count_outcomes(file)
    for (severity, code), found in sorted(issues.items()):
        yield policy.finding("outcome", found, of=f"{severity}/{code}", file=file.name)
