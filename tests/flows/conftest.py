from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from exports.sandbox.population import Hospital, write_export
from flows.orchestrator import prefect_server, wait_until_ready
from flows.quiet import quieten

Command = Callable[..., "subprocess.CompletedProcess[str]"]
FHIRLOOM = Path(sys.executable).with_name("fhirloom")


@pytest.fixture(scope="session")
def fhirloom() -> Command:
    """Runs the installed command to its end; its way out of the machine leads nowhere."""
    nowhere = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"), "http://127.0.0.1:9")

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [str(each) for each in (FHIRLOOM, *arguments)]
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            env={**os.environ, **nowhere},
        )

    return run


@pytest.fixture(scope="session")
def few_patients(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of NDJSON of a small hospital: enough for every stage but training."""
    folder = tmp_path_factory.mktemp("few-patients")
    (folder / "ndjson").mkdir()
    hospital = Hospital(seed=7, patients=20)
    write_export(hospital, folder / "ndjson", folder / "truth", rows_per_file=1000)
    return folder / "ndjson"


@pytest.fixture(scope="session")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Prefect home whose database is migrated: half of a first start, done once."""
    research = tmp_path_factory.mktemp("prefect")
    kept = dict(os.environ)
    quieten(research)
    try:
        with prefect_server(research / "server.log") as api:
            wait_until_ready(api)
    finally:
        os.environ.clear()
        os.environ.update(kept)
    return research / "prefect"


@pytest.fixture
def work(tmp_path: Path, prefect_home: Path) -> Path:
    """A work folder in which Prefect has started before."""
    folder = tmp_path / "work"
    shutil.copytree(prefect_home, folder / "research" / "prefect")
    return folder
