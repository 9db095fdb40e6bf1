"""The pipeline on a schedule: Prefect's scheduler and runner, served by one command."""

from __future__ import annotations

import asyncio
from pathlib import Path

from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.flow_runs import arun_deployment
from prefect.runner import Runner
from prefect.types.entrypoint import EntrypointType

from exports.errors import FhirloomError
from flows.orchestrator import wait_until_ready
from flows.pipeline import fhirloom_pipeline, settings_for


def serve(work: Path, cron: str, api: str, *, at_once: bool) -> None:
    """Run the pipeline on the work folder whenever `cron` says, until stopped.

    Each run is a process of its own, one at a time. With `at_once`, one run is due immediately.
    Raises `FhirloomError` (bad-input) for a `cron` that means nothing.
    """
    schedule = _schedule(cron)
    wait_until_ready(api)
    with settings_for(api):
        asyncio.run(_serve(work, schedule, at_once))


def _schedule(cron: str) -> CronSchedule:
    try:
        return CronSchedule(cron=cron, timezone="UTC")
    except ValueError:
        raise FhirloomError(
            "bad-input",
            "That is no cron expression",
            where="--cron",
            fix='Write it like "0 2 * * *": minute, hour, day of month, month, day of week.',
        ) from None


async def _serve(work: Path, schedule: CronSchedule, at_once: bool) -> None:
    runner = Runner(name="fhirloom", limit=1)
    deployment = await runner.aadd_flow(
        fhirloom_pipeline,
        name="nightly",
        schedules=[schedule],
        parameters={"work": str(work)},
        entrypoint_type=EntrypointType.MODULE_PATH,
    )
    if at_once:
        await arun_deployment(deployment, timeout=0, as_subflow=False)
    await runner.start()
