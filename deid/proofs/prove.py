"""All the proofs, in order: each looks at tables that are not released yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deid.proofs.proof import Evidence, Verdict
from exports.errors import FhirloomError
from exports.progress import Progress, silent
from exports.sealed import hash_json


def prove(evidence: Evidence, *, progress: Progress = silent) -> list[dict[str, Any]]:
    """Each proof's name, outcome and detail.

    Raises `FhirloomError` (proof-failed) that names every proof that does not hold; what they saw
    is in `phi/logs` then.
    """
    from deid.proofs import (
        anonymity,
        canary,
        closed_domain,
        date_window,
        leak_scan,
        metamorphic,
        recall,
        second_opinion,
    )

    closed = closed_domain.verdict(evidence)
    if not closed.passed:  # the others read the tables as they are declared
        raise _refused([closed], evidence)
    verdicts = [
        closed,
        leak_scan.verdict(evidence, progress=progress),
        second_opinion.verdict(evidence),
        # What was planted is known in sandbox runs alone.
        *([recalled] if (recalled := recall.verdict(evidence)) else []),
        # Dates that are told have no window.
        *([] if evidence.rules.policy.dated else [date_window.verdict(evidence)]),
        anonymity.verdict(evidence),
        canary.verdict(evidence, progress=progress),
        metamorphic.verdict(evidence, progress=progress),
    ]
    if broken := [verdict for verdict in verdicts if not verdict.passed]:
        raise _refused(broken, evidence)
    return [verdict.facts() for verdict in verdicts]


def _refused(broken: Sequence[Verdict], evidence: Evidence) -> FhirloomError:
    ref = f"proof-{hash_json([verdict.facts() for verdict in broken])[:8]}"
    logs = evidence.phi / "logs"
    logs.mkdir(mode=0o700, exist_ok=True)
    lines = [line for verdict in broken for line in (verdict.name, *verdict.values)]
    (logs / f"{ref}.log").write_text("\n".join(lines) + "\n")
    return FhirloomError(
        "proof-failed",
        ". ".join(verdict.failure for verdict in broken),
        where="de-identified tables; nothing was released",
        fix="Correct the view or domain that let it through, or justify an exception.",
        ref=ref,
    )
