"""What a run studies: its task and features, and what a bundle needs to score by them."""

from __future__ import annotations

import json
from pathlib import Path

from deid.oracle import FILE as ORACLE_FILE
from deid.research import RULES, ResearchTables
from deid.rules import load_rules
from deid.vocabulary import FILE as VOCABULARY_FILE
from exports.errors import FhirloomError
from exports.sealed import CURRENT, open_sealed
from features.matrix import FeatureMatrix
from features.prefetch import prefetch_templates
from features.spec import FeatureSpec, load_spec, read_spec
from features.task import Task, load_task, read_task
from flows.settings import Settings


def task(settings: Settings) -> Task:
    """The task that the settings name, shipped or in a file."""
    named = settings.task
    return read_task(Path(named)) if named.endswith((".yaml", ".yml")) else load_task(named)


def features(settings: Settings) -> FeatureSpec:
    """The feature spec that the settings name, shipped or in a file."""
    named = settings.features
    return read_spec(Path(named)) if named.endswith((".yaml", ".yml")) else load_spec(named)


def check(settings: Settings) -> None:
    """Read both declarations, so that a wrong one is refused before anything keeps its name."""
    task(settings)
    features(settings)


def oracle(tables: ResearchTables, research: Path) -> Path | None:
    """The true risks that belong to these very tables; None outside sandbox runs."""
    sealed = open_sealed(research / "oracle" / CURRENT)
    if sealed is None or sealed.inputs["crosswalk"] != tables.sealed.inputs["crosswalk"]:
        return None
    return sealed.path / ORACLE_FILE


def parts(
    tables: ResearchTables, matrix: FeatureMatrix, settings: Settings
) -> dict[str, Path | bytes]:
    """What goes into a bundle beside the model, so that it can make a live row.

    Raises `FhirloomError` (bad-input) where the matrix was built from other declarations.
    """
    studied, spec = task(settings), features(settings)
    same_study = matrix.sealed.facts["spec"] == {"task": studied.hash, "features": spec.hash}
    if not same_study or matrix.sealed.inputs["tables"] != tables.sealed.digest:
        raise FhirloomError(
            "bad-input",
            "The features were built from other tables, or by another task or feature spec",
            where="research/features",
            fix="Run `fhirloom features build` again.",
        )
    rules = tables.sealed.path / RULES
    return {
        "features.json": _json(spec.declaration()),
        "task.json": _json(studied.declaration()),
        "prefetch.json": _json(prefetch_templates(spec, load_rules(rules))),
        RULES: rules,
        VOCABULARY_FILE: tables.sealed.path / VOCABULARY_FILE,
    }


def _json(value: object) -> bytes:
    return json.dumps(value, indent=1, sort_keys=True).encode()
