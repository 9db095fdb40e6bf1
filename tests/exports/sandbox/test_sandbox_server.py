"""The sandbox as a process: on loopback, as long as it is wanted, and the same after a restart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest

from exports.bulk.export import export
from exports.connection.transport import Patience
from exports.errors import FhirloomError
from exports.request import ExportRequest
from exports.sandbox.manner import Login, Manner
from exports.sandbox.population import Hospital
from exports.sandbox.server import Sandbox, running_folder, running_sandbox

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
PARENT = """
import sys, time
from pathlib import Path
from datetime import UTC, datetime
from exports.sandbox.server import running_folder
folder, data = map(Path, sys.argv[1:])
with running_folder(folder, datetime(2026, 1, 1, tzinfo=UTC), data=data) as sandbox:
    print(sandbox.base_url, flush=True)
    time.sleep(60)
"""


def answers(base_url: str) -> bool:
    try:
        return httpx.get(f"{base_url}/metadata", trust_env=False).is_success
    except httpx.TransportError:
        return False


def within(seconds: float, holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def request_to(sandbox: Sandbox) -> ExportRequest:
    return ExportRequest(sandbox.base_url, sandbox.access)


def test_it_serves_on_loopback_only_while_the_block_runs(hospital: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with running_folder(hospital, AS_OF, data=data) as sandbox:
        port = urlsplit(sandbox.base_url).port
        children = psutil.Process().children()
        (child,) = (each for each in children if "exports.sandbox.server" in each.cmdline())
        bound = [(each.laddr.ip, each.laddr.port) for each in child.net_connections("inet")]
        assert bound == [("127.0.0.1", port)]
        assert sandbox.key is not None
        assert sandbox.key.stat().st_mode & 0o777 == 0o600
        first = export(request_to(sandbox), tmp_path / "phi")
    assert not answers(sandbox.base_url)
    with running_folder(hospital, AS_OF, data=data) as again:
        assert urlsplit(again.base_url).port == port
        assert again == sandbox
        second = export(request_to(again), tmp_path / "phi", fresh=True)
    assert second.sealed.digest == first.sealed.digest


def test_a_job_outlives_the_server(hospital: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    phi = tmp_path / "phi"

    def stop_at_the_first_file(done: int, total: int | None, unit: str) -> None:
        if unit == "files":
            raise KeyboardInterrupt

    with running_folder(hospital, AS_OF, data=data) as sandbox, pytest.raises(KeyboardInterrupt):
        export(request_to(sandbox), phi, progress=stop_at_the_first_file)
    (record,) = (phi / "export-job").glob("*.json")
    (job,) = data.glob("*/jobs/*.json")
    assert job.stem in record.read_text()
    with running_folder(hospital, AS_OF, data=data) as sandbox:
        zone = export(request_to(sandbox), phi)
    assert zone.rows() == {"Encounter": 300, "Observation": 1000, "Patient": 100}
    assert job.stem in record.read_text()


def test_it_ends_when_whoever_started_it_is_killed(hospital: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(hospital), str(tmp_path / "data")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        base_url = parent.stdout.readline().strip()
        assert answers(base_url)
        os.kill(parent.pid, signal.SIGKILL)
    assert within(10, lambda: not answers(base_url))


def test_a_sandbox_that_can_not_start_says_where_to_look(hospital: Path, tmp_path: Path) -> None:
    with running_folder(hospital, AS_OF, data=tmp_path / "one") as sandbox:
        port = urlsplit(sandbox.base_url).port or 0
        with (
            pytest.raises(FhirloomError, match="did not start") as raised,
            running_folder(hospital, AS_OF, data=tmp_path / "two", port=port),
        ):
            pass
    log = Path(raised.value.where)
    assert "can't be listened on" in log.read_text()


def test_a_hospital_is_simulated_once_and_its_truth_told_each_time(tmp_path: Path) -> None:
    hospital, data = Hospital(seed=3, patients=4), tmp_path / "data"
    with running_sandbox(hospital, tmp_path / "truth", data=data) as sandbox:
        zone = export(request_to(sandbox), tmp_path / "phi")
    assert zone.rows() == zone.server_rows
    assert zone.transaction_time == hospital.as_of
    (made,) = data.glob("*/files/Patient.*")
    made_at = made.stat().st_mtime_ns
    told = sorted(path.name for path in (tmp_path / "truth").iterdir())
    assert told == ["identifiers.parquet", "risks.parquet"]
    with running_sandbox(hospital, tmp_path / "again", data=data) as sandbox:
        export(request_to(sandbox), tmp_path / "phi", fresh=True)
    assert made.stat().st_mtime_ns == made_at
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == told
    assert not any("truth" in str(path) for path in (tmp_path / "phi").rglob("*"))


@pytest.mark.parametrize("login", ["basic", "bearer", "none"])
def test_simpler_logins_and_faults(hospital: Path, tmp_path: Path, login: Login) -> None:
    manner = Manner("STU4", login, faults=("redirect-to-store", "cut-socket"), retry_after=0)
    with running_folder(hospital, AS_OF, data=tmp_path / "data", manner=manner) as sandbox:
        wrong = httpx.get(f"{sandbox.base_url}/Patient", headers={"Authorization": "Basic eDp5"})
        assert wrong.status_code == (200 if login == "none" else 401)
        zone = export(request_to(sandbox), tmp_path / "phi", patience=Patience(first_wait=0.01))
    assert zone.rows() == {"Encounter": 300, "Observation": 1000, "Patient": 100}


def test_a_fault_without_a_name_is_told(hospital: Path, tmp_path: Path) -> None:
    manner = Manner(faults=("gremlins",))
    with (
        pytest.raises(FhirloomError, match="did not start") as raised,
        running_folder(hospital, AS_OF, data=tmp_path / "data", manner=manner),
    ):
        pass
    assert "There is no fault gremlins" in Path(raised.value.where).read_text()


def test_a_hospital_can_be_shown_as_it_was(tmp_path: Path) -> None:
    hospital, at = Hospital(seed=3, patients=4), datetime(2024, 1, 1, tzinfo=UTC)
    with running_sandbox(hospital, tmp_path / "t", data=tmp_path / "data", at=at) as sandbox:
        zone = export(request_to(sandbox), tmp_path / "phi")
    assert zone.transaction_time == at
    assert zone.rows() == zone.server_rows
