"""What each stage's result says, as JSON: the summary's facts, all counts and names, no values."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from flows.summary import Facts, told

if TYPE_CHECKING:
    from deid.deidentify import Deidentified
    from deid.notes.notes import Notes
    from deid.research import ResearchTables
    from exports.landing.reconcile import Finding
    from exports.landing.zone import LandingZone
    from features.matrix import FeatureMatrix
    from training.registry import RegisteredModel
    from training.report import ReportFacts
    from training.train import NotTrained, TrainedModel, TrainingResult


def of_landing(zone: LandingZone) -> Facts:
    """Rows that the server counted beside what became of them, and what did not agree."""
    rows, quarantined = zone.rows(), zone.quarantined
    left_out = {**zone.excluded, **zone.narrowed}
    landed = sum(rows.values())
    accounted = landed + sum(quarantined.values()) + sum(left_out.values())
    server = None if zone.server_rows is None else sum(zone.server_rows.values())
    return {
        "landing": {
            "source": zone.sealed.facts["source"],
            "server_rows": server,
            "landed_rows": landed,
            "equal": server is None or server == accounted,
            "rows": rows,
            "quarantined": quarantined,
            "left_out": left_out,
            "applied_here": list(zone.sealed.facts.get("dropped", ())),
            "findings": _found(zone.findings),
        }
    }


def _found(findings: Iterable[Finding]) -> list[Facts]:
    """Disagreements by kind, severity and type; a file's name stays in `phi/`."""
    expected: Counter[tuple[str, ...]] = Counter()
    found: Counter[tuple[str, ...]] = Counter()
    for each in findings:
        about = (each.severity, each.kind, each.type)
        expected[about] += each.expected or 0
        found[about] += each.found
    return [
        {
            **dict(zip(("severity", "kind", "type"), about, strict=True)),
            "expected": expected[about],
            "found": number,
        }
        for about, number in sorted(found.items())
    ]


def of_deidentified(made: Deidentified) -> Facts:
    """Each view's balance of rows, and the proofs."""
    views = [
        {
            "view": view.view,
            "rows": view.rows,
            "kept": view.kept,
            "dropped": dict(view.dropped),
            "quarantined": dict(view.quarantined),
            "adds_up": view.rows == view.kept + _total(view.dropped) + _total(view.quarantined),
        }
        for view in made.counts
    ]
    proofs = [
        {"name": proof.name, "passed": proof.passed, "detail": dict(proof.detail)}
        for proof in made.proofs
    ]
    return {
        "policy": dict(made.tables.policy),
        "views": views,
        "proofs": proofs,
        "tables": str(made.tables.sealed.path),
        "attestation": str(made.attestation.page),
        "stated": made.attestation.stated,
    }


def of_notes(made: Notes) -> Facts:
    """How many notes there are, what was replaced in them, and that they need review."""
    told_of = ("label", "notes", "left_out", "replaced", "proofs", "measured")
    told_facts = {name: made.sealed.facts[name] for name in told_of}
    return {"notes": told_facts, "text": str(made.sealed.path)}


def of_matrix(matrix: FeatureMatrix) -> Facts:
    """Index events, and how many were left at each step."""
    facts = matrix.sealed.facts
    return {
        "policy": facts["policy"],
        "cohort": {
            "task": facts["task"],
            "index_events": facts["rows"],
            "events": facts["events"],
            "died_first": facts["died_first"],
            "features": len(facts["features"]),
            "attrition": [dict(step) for step in facts["attrition"]],
        },
        "matrix": str(matrix.sealed.path),
    }


def of_not_trained(result: NotTrained) -> Facts:
    """Why there is no model."""
    return {"model": None, "not_trained": result.reason}


def of_model(model: TrainedModel, registered: RegisteredModel, bundle: Path, store: str) -> Facts:
    """How good the model is, how true its graph, and where all of it lies."""
    evaluation = model.evaluation
    return {
        "model": {
            "recipe": evaluation["recipe"],
            "auroc": evaluation["model"]["auroc"],
            "comparators": {
                name: found["auroc"] for name, found in evaluation["comparators"].items()
            },
            "train": evaluation["split"]["train"],
            "test": evaluation["split"]["test"],
            "parity": evaluation["parity"],
        },
        "registered": asdict(registered),
        "bundle": str(bundle),
        "mlflow_ui": f"mlflow ui --backend-store-uri {shlex.quote(store)}",
    }


def of_report(
    tables: ResearchTables,
    matrix: FeatureMatrix,
    result: TrainingResult,
    registered: RegisteredModel | None,
) -> ReportFacts:
    """What the report tells beside the evaluation: where rows went, the proofs, the lineage."""
    from deid.attestation.issue import attestation_of
    from training.report import ReportFacts

    written = tables.sealed.facts
    attested = attestation_of(tables.sealed)
    lineage = {"tables": tables.sealed.digest, "features": matrix.sealed.digest}
    return ReportFacts(
        matrix=matrix.sealed.facts,
        result=result,
        counts=[
            {
                "name": f"{view['view']} rows kept",
                "value": view["kept"],
                "detail": told({"of": view["rows"], **view["dropped"], **view["quarantined"]}),
            }
            for view in written["counts"]
        ],
        proofs=[{**proof, "detail": told(proof["detail"])} for proof in written["proofs"]],
        lineage={**tables.sealed.inputs, **lineage},
        # From reports/<key>/ to the page beside the tables.
        attestation=f"../../{attested.place}" if attested else "",
        registered=registered,
    )


def _total(reasons: Mapping[str, int]) -> int:
    return sum(reasons.values())
