from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

from flows.exit_codes import COMPLETE, NOT_TRAINED
from flows.settings import load_settings

RUNS = """
SELECT run.state_type, run.auto_scheduled, run.parameters, run.next_scheduled_start_time
FROM flow_run AS run JOIN deployment ON deployment.id = run.deployment_id
WHERE deployment.name = 'nightly'
"""


def flow_runs(work: Path) -> list[tuple[str, int, str, str]]:
    """State, whether the scheduler made it, parameters and due time of each flow run."""
    with sqlite3.connect(work / "research" / "prefect" / "prefect.db") as database:
        return database.execute(RUNS).fetchall()


def test_one_command_runs_the_pipeline_on_a_schedule(
    work: Path, few_patients: Path, tmp_path: Path
) -> None:
    command: list[str | Path] = [
        Path(sys.executable).with_name("fhirloom"),
        "schedule",
        "--work",
        work,
    ]
    command += ["--ndjson", few_patients, "--cron", "0 2 * * *", "--at-once"]
    summary = work / "research" / "summary.json"
    with (tmp_path / "told").open("w") as told:
        serving = subprocess.Popen(command, stderr=told)
    try:
        deadline = time.monotonic() + 120
        while "COMPLETED" not in {state for state, *_ in flow_runs(work)}:
            assert serving.poll() is None, (tmp_path / "told").read_text()
            assert time.monotonic() < deadline, (tmp_path / "told").read_text()
            time.sleep(0.5)
        runs = flow_runs(work)
        serving.send_signal(signal.SIGINT)
        assert serving.wait(30) == COMPLETE
    finally:
        serving.kill()

    assert json.loads(summary.read_text())["exit_code"] == NOT_TRAINED
    assert load_settings(work / "phi").ndjson == str(few_patients)
    assert {json.loads(parameters)["work"] for *_, parameters, _ in runs} == {str(work)}
    nights = sorted(datetime.fromisoformat(run[3]) for run in runs if run[1])
    assert len(nights) >= 2
    assert {(night.hour, night.minute) for night in nights} == {(2, 0)}
    assert nights[1] - nights[0] == timedelta(days=1)
