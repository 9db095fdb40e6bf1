"""Each stage on a work folder: its inputs opened, its function called, its facts told.

What a stage needs is imported by that stage: the libraries for training alone take seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from exports.errors import FhirloomError, value_free
from exports.progress import Progress
from exports.sealed import CURRENT, Sealed, is_whole, open_sealed
from flows import facts
from flows.display import Display
from flows.meter import folder_bytes, metered
from flows.settings import kept_settings, landed_by, load_settings, record_landed
from flows.sources import land, screen_of
from flows.summary import Facts
from flows.work import Work

SEALED_IN_CLEAR: Final = (
    *("phi/landing", "phi/extract", "phi/vocabulary"),
    *("research/*", "phi/limited/*"),
)
"""Folders, as patterns, in which stages seal what isn't encrypted; earlier stages come first."""


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
    if safe.code == "internal":
        safe = _damage(work, safe.ref) or safe
    # Raised in the open, so that Python chains nothing to it that may hold a value.
    safe.__cause__ = safe.__context__ = None
    raise safe.with_traceback(None)


def _damage(work: Work, ref: str) -> FhirloomError | None:
    """What is told instead of a defect where a stage's input is not what was sealed."""
    for links in SEALED_IN_CLEAR:
        for link in sorted(work.path.glob(f"{links}/{CURRENT}")):
            sealed = open_sealed(link)
            if link.is_symlink() and (sealed is None or not is_whole(sealed)):
                return FhirloomError(
                    "bad-input",
                    "A sealed folder lacks a file, or has another than was sealed",
                    where=link.parent.relative_to(work.path).joinpath(link.readlink()).as_posix(),
                    fix="Put it back from a backup; or remove it, and run what makes it again "
                    "(phi/landing: `fhirloom export --fresh`).",
                    ref=ref,
                )
    return None


def _land(work: Work, progress: Progress) -> Done:
    settings = load_settings(work.phi)
    zone = land(settings, work, progress)
    record_landed(settings, zone.sealed, work.phi)
    return Done(facts.of_landing(zone), zone.sealed, zone.sealed.fresh)


def _deidentify(work: Work, progress: Progress, *, refreeze: bool = False) -> Done:
    from deid.deidentify import deidentify
    from deid.rules import load_rules
    from exports.landing.zone import open_landing
    from features.valuesets import declared

    landing = open_landing(work.phi)
    landed = landed_by(landing.sealed, work.phi)
    left_out = screen_of(landed).opted_out if landed else frozenset()
    made = deidentify(
        landing,
        work.path,
        declared=declared(),
        truth=work.truth(landed) if landed and landed.source == "sandbox" else None,
        rules=load_rules(policy=kept_settings(work.phi).privacy),
        refreeze_vocabulary=refreeze,
        left_out=left_out,
        progress=progress,
    )
    return Done(facts.of_deidentified(made), landing.sealed, made.tables.sealed.fresh)


def _notes(work: Work, progress: Progress) -> Done:
    from deid.notes.notes import deidentify_notes
    from deid.rules import load_rules
    from exports.landing.zone import open_landing

    landing, settings = open_landing(work.phi), load_settings(work.phi)
    landed = landed_by(landing.sealed, work.phi)
    made = deidentify_notes(
        landing,
        work.path,
        rules=load_rules(policy=settings.privacy),
        model=Path(settings.notes_model) if settings.notes_model else None,
        truth=work.truth(landed) if landed and landed.source == "sandbox" else None,
        progress=progress,
    )
    return Done(facts.of_notes(made), landing.sealed, made.sealed.fresh)


def _build(work: Work, progress: Progress) -> Done:
    from deid.research import open_tables
    from features.build import build
    from flows import study

    settings = load_settings(work.phi)
    research = work.released(settings.policy)
    tables = open_tables(research)
    task, features = study.task(settings), study.features(settings)
    matrix = build(tables, research, task, features, progress=progress)
    return Done(facts.of_matrix(matrix), tables.sealed, matrix.sealed.fresh)


def _train(work: Work, progress: Progress) -> Done:
    from deid.research import open_tables
    from features.matrix import open_matrix
    from flows import study
    from training.bundle import bundle
    from training.registry import register, tracking_uri
    from training.report import write_report
    from training.train import TrainedModel, train

    settings = load_settings(work.phi)
    research = work.released(settings.policy)
    tables, matrix = open_tables(research), open_matrix(research)
    oracle = study.oracle(tables, research)
    result = train(matrix, research, oracle=oracle, progress=progress)
    registered, fresh = None, True
    if isinstance(result, TrainedModel):
        fresh = result.sealed.fresh
        parts = study.parts(tables, matrix, settings)
        sealed = bundle(result, parts, research)
        name = str(matrix.sealed.facts["task"])
        registered = register(sealed.path, result.evaluation, name=name, research=research)
        told = facts.of_model(result, registered, sealed.path, tracking_uri(research))
    else:
        told = facts.of_not_trained(result)
    page = write_report(facts.of_report(tables, matrix, result, registered), research)
    told["artifacts"] = _scanned(work, research, progress)
    return Done(
        {**told, "report": str(page), "policy": matrix.sealed.facts["policy"]},
        matrix.sealed,
        fresh,
    )


def _scanned(work: Work, research: Path, progress: Progress) -> Facts | None:
    """What the leak scan of all that was written says; None where it is no release, or all that
    it could be held against has been purged.

    Raises `FhirloomError` (proof-failed).
    """
    from deid.proofs.artifacts import scan_artifacts
    from exports.landing.zone import open_landing

    if research != work.research or not (work.phi / "landing" / CURRENT).exists():
        return None
    return scan_artifacts(research, open_landing(work.phi), work.phi, progress=progress)


EXPORT: Final = Stage("export", _land)
DEID: Final = Stage("deid", _deidentify)
REFREEZE: Final = Stage("deid", lambda work, progress: _deidentify(work, progress, refreeze=True))
FEATURES: Final = Stage("features", _build)
TRAIN: Final = Stage("train", _train)
NOTES: Final = Stage("notes", _notes)
"""Not one of `ALL`: free text is written where it is asked for."""
ALL: Final = (EXPORT, DEID, FEATURES, TRAIN)
