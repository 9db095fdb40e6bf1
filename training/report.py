"""One self-contained HTML page that tells a person what a run did and what its model is worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import jinja2
from markupsafe import Markup

from deid.policy import check_place
from exports.sealed import Stage, find_sealed, hash_file, hash_json, sealing
from training import figures
from training.bundle import TEMPLATES, interval
from training.registry import RegisteredModel
from training.train import NotTrained, TrainedModel, TrainingResult

VERSION: Final = 1
PAGE: Final = "report.html"


@dataclass(frozen=True)
class ReportFacts:
    """What the page tells; names and numbers only, never a value of a patient.

    `matrix` are the facts in the feature matrix's manifest. `counts` are rows of a table, each
    `{name, value, detail}`; `proofs` the de-identification proofs, each `{name, passed, detail}`;
    `lineage` maps a stage to its digest; `attestation` is the page that attests to the tables, as
    seen from the report's folder; `registered` is None where nothing was registered.
    """

    matrix: Mapping[str, Any]
    result: TrainingResult
    counts: Sequence[Mapping[str, Any]] = ()
    proofs: Sequence[Mapping[str, Any]] = ()
    lineage: Mapping[str, str] = field(default_factory=dict)
    attestation: str = ""
    registered: RegisteredModel | None = None


def write_report(facts: ReportFacts, research: Path) -> Path:
    """Write `research/reports/<key>/report.html`; the same facts give the same bytes.

    Raises `FhirloomError` (bad-input) where `research` is no place for the policy of the data.
    """
    check_place(facts.matrix, research)
    told = {
        "matrix": dict(facts.matrix),
        "result": facts.result.reason
        if isinstance(facts.result, NotTrained)
        else facts.result.sealed.digest,
        "counts": [dict(row) for row in facts.counts],
        "proofs": [dict(proof) for proof in facts.proofs],
        "lineage": dict(facts.lineage),
        "attestation": facts.attestation,
        "registered": vars(facts.registered) if facts.registered else None,
    }
    stage = Stage(
        "reports", VERSION, {"facts": hash_json(told)}, hash_file(TEMPLATES / f"{PAGE}.j2")
    )
    sealed = find_sealed(research / "reports", stage)
    if sealed is None:
        with sealing(research / "reports", stage) as draft:
            (draft.path / PAGE).write_text(render(facts), encoding="utf-8")
        sealed = draft.result
    return sealed.path / PAGE


def render(facts: ReportFacts) -> str:
    """The page as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"interval": interval, "readable": figures.readable, "count": _count}
    attrition = facts.matrix.get("attrition") or []
    page: dict[str, Any] = {
        "facts": facts,
        "title": figures.readable(str(facts.matrix.get("task") or "risk model")),
        "attrition": attrition,
        "attrition_figure": Markup(figures.attrition(attrition)) if attrition else "",  # noqa: S704
        "not_trained": facts.result if isinstance(facts.result, NotTrained) else None,
    }
    if isinstance(facts.result, TrainedModel):
        page |= _model(facts.result)
    return environment.get_template(f"{PAGE}.j2").render(page)


def _model(model: TrainedModel) -> dict[str, Any]:
    evaluation, curves = model.evaluation, model.curves
    areas = {"model": f"Model {interval(evaluation['model']['auroc'])}"} | {
        name: f"{figures.readable(title(name))} {interval(found['auroc'])}"
        for name, found in evaluation["comparators"].items()
    }
    drawn = {
        "roc": figures.roc(curves, areas),
        "calibration": figures.calibration(curves),
        "decision": figures.decision(curves),
        "importance": figures.importance(evaluation["importance"]),
    }
    return {
        "evaluation": evaluation,
        "model": evaluation["model"],
        "points": model.thresholds["operating_points"],
        "comparators": [
            {"title": title(name), **found} for name, found in evaluation["comparators"].items()
        ],
        # Drawn here, of numbers and of feature names that matplotlib has escaped.
        "figures": {name: Markup(svg) for name, svg in drawn.items()},  # noqa: S704
    }


def title(comparator: str) -> str:
    """How a comparator is called on the page: scores are acronyms, the oracle is explained."""
    return "the true risk" if comparator == "oracle" else comparator.upper()


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)
