"""The Prefect flow: one task per stage, told nothing but the work folder.

Prefect keeps parameters, states and the text of exceptions. So the settings come from `phi/`, no
result is persisted or hashed for a cache, and a stage's exception reaches Prefect free of values.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import Task, flow
from prefect.cache_policies import NO_CACHE
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    temporary_settings,
)

from exports.errors import FhirloomError
from flows import stages
from flows.display import display
from flows.orchestrator import wait_until_ready
from flows.settings import kept_settings
from flows.summary import Facts, save_summary
from flows.work import at_work, open_work


def _task_of(stage: stages.Stage) -> Task[[str], Facts]:
    def run(work: str) -> Facts:
        return stages.run(stage, open_work(Path(work)), display())

    return Task(run, name=stage.name, cache_policy=NO_CACHE, persist_result=False)


TASKS = [_task_of(stage) for stage in stages.ALL]
NOTES = _task_of(stages.NOTES)


@flow(name="fhirloom", persist_result=False)
def fhirloom_pipeline(work: str) -> Facts:
    """From patients to a registered model in the work folder; returns the summary's facts."""
    folder = open_work(Path(work))
    settings = kept_settings(folder.phi)
    released = folder.released(settings.policy)
    facts: Facts = {"work": work, "stages": []}
    with at_work(folder):
        try:
            for stage_task in [*TASKS, NOTES] if settings.notes else TASKS:
                done = stage_task(work)
                facts = {**facts, **done, "stages": facts["stages"] + done["stages"]}
        except FhirloomError as failure:
            save_summary({**facts, "error": failure.facts}, released)
            raise
        save_summary(facts, released)
    return facts


def settings_for(api: str) -> Any:
    """Prefect's settings for flows run against the server at `api`, as a context."""
    # Without a heartbeat: a flow would wait a second for its thread to end.
    return temporary_settings({PREFECT_API_URL: api, PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None})


def run_pipeline(work: Path, api: str) -> Facts:
    """Run the flow in this process against the Prefect server at `api`, once that is ready."""
    # The slowest libraries load while the server does.
    import training.registry
    import training.report  # noqa: F401

    wait_until_ready(api)
    with settings_for(api):
        return fhirloom_pipeline(str(work))
