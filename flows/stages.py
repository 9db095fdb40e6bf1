"""Each stage on a work folder: its inputs opened, its function called, its facts told.

What a stage needs is imported by that stage: the libraries for training alone take seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from exports.errors import value_free
from exports.progress import Progress
from exports.sealed import Sealed
from flows import facts
from flows.display import Display
from flows.meter import folder_bytes, metered
from flows.settings import landed_by, load_settings, record_landed
from flows.sources import land
from flows.summary import Facts
from flows.work import Work


@dataclass(frozen=True)
class Done:
    """What a stage has to tell, what it went through, and whether it had to work for it."""

    facts: Facts
    went_through: Sealed
    fresh: bool


@dataclass(frozen=True)
class Stage:
    """A stage by its name."""

    name: str
    go: Callable[[Work, Progress], Done]


def run(stage: Stage, work: Work, shown: Display) -> Facts:
    """Run one stage, shown and measured; its cost is in the facts under `stages`.

    Raises `FhirloomError` alone, and with no other exception behind it: the detail of a defect is
    in `phi/logs`.
    """
    failure: Exception
    try:
        with shown.stage(stage.name) as progress, metered(stage.name) as cost:
            done = stage.go(work, progress)
            cost.input_bytes = folder_bytes(done.went_through.path)
            cost.skipped = not done.fresh
        return {**done.facts, "stages": [cost.facts()]}
    except Exception as error:
        # DuckDB's way of passing a Ctrl-C on.
        if isinstance(error, RuntimeError) and "interrupted" in str(error).lower():
            raise KeyboardInterrupt from None
        failure = error
    safe = value_free(failure, stage=stage.name, phi=work.phi)
    # Raised in the open, so that Python chains nothing to it that may hold a value.
    safe.__cause__ = safe.__context__ = None
    raise safe.with_traceback(None)


def _land(work: Work, progress: Progress) -> Done:
    settings = load_settings(work.phi)
    zone = land(settings, work, progress)
    record_landed(settings, zone.sealed, work.phi)
    return Done(facts.of_landing(zone), zone.sealed, zone.sealed.fresh)


def _deidentify(work: Work, progress: Progress, *, refreeze: bool = False) -> Done:
    from deid.deidentify import deidentify
    from exports.landing.zone import open_landing
    from features.valuesets import declared

    landing = open_landing(work.phi)
    landed = landed_by(landing.sealed, work.phi)
    made = deidentify(
        landing,
        work.path,
        declared=declared(),
        truth=work.truth(landed) if landed and landed.source == "sandbox" else None,
        refreeze_vocabulary=refreeze,
        progress=progress,
    )
    return Done(facts.of_deidentified(made), landing.sealed, made.tables.sealed.fresh)


def _build(work: Work, progress: Progress) -> Done:
    from deid.research import open_tables
    from features.build import build
    from flows import study

    tables, settings = open_tables(work.research), load_settings(work.phi)
    task, features = study.task(settings), study.features(settings)
    matrix = build(tables, work.research, task, features, progress=progress)
    return Done(facts.of_matrix(matrix), tables.sealed, matrix.sealed.fresh)


def _train(work: Work, progress: Progress) -> Done:
    from deid.research import open_tables
    from features.matrix import open_matrix
    from flows import study
    from training.bundle import bundle
    from training.registry import register, tracking_uri
    from training.report import write_report
    from training.train import TrainedModel, train

    research = work.research
    tables, matrix = open_tables(research), open_matrix(research)
    oracle = study.oracle(tables, research)
    result = train(matrix, research, oracle=oracle, progress=progress)
    registered, fresh = None, True
    if isinstance(result, TrainedModel):
        fresh = result.sealed.fresh
        parts = study.parts(tables, matrix, load_settings(work.phi))
        sealed = bundle(result, parts, research)
        name = str(matrix.sealed.facts["task"])
        registered = register(sealed.path, result.evaluation, name=name, research=research)
        told = facts.of_model(result, registered, sealed.path, tracking_uri(research))
    else:
        told = facts.of_not_trained(result)
    page = write_report(facts.of_report(tables, matrix, result, registered), research)
    return Done({**told, "report": str(page)}, matrix.sealed, fresh)


EXPORT: Final = Stage("export", _land)
DEID: Final = Stage("deid", _deidentify)
REFREEZE: Final = Stage("deid", lambda work, progress: _deidentify(work, progress, refreeze=True))
FEATURES: Final = Stage("features", _build)
TRAIN: Final = Stage("train", _train)
ALL: Final = (EXPORT, DEID, FEATURES, TRAIN)
