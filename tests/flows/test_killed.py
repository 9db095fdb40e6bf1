"""A run that was killed and started again ends with what an unbroken run over the same crosswalk
ends with.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from exports.sealed import CURRENT, MANIFEST, open_sealed
from flows.exit_codes import NOT_TRAINED

DRIVER = Path(__file__).with_name("chain_of_kills.py")
KILLED = str(-signal.SIGKILL)


def chain_of_kills(work: Path, ndjson: Path | str, *moments: str) -> list[str]:
    """How each process of the chain ended, in order."""
    done = subprocess.run(
        [sys.executable, DRIVER, work, ndjson, *moments],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return [line.split()[-1] for line in done.stdout.splitlines()]


def digests(work: Path) -> dict[str, str]:
    """The digest of every current sealed folder, by the name of its root."""
    found = {}
    for link in sorted(work.glob(f"*/*/{CURRENT}")):
        sealed = open_sealed(link)
        assert sealed is not None
        found[link.parent.name] = sealed.digest
    return found


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, few_patients: Path) -> Path:
    work = tmp_path_factory.mktemp("unbroken") / "work"
    assert chain_of_kills(work, few_patients) == ["0"]
    return work


def with_crosswalk_of(unbroken: Path, work: Path) -> Path:
    """A new work folder whose surrogates, the one random step, are those of the unbroken run."""
    (work / "phi").mkdir(parents=True, mode=0o700)
    for name in ("crosswalk", "keys"):
        shutil.copytree(unbroken / "phi" / name, work / "phi" / name, symlinks=True)
    return work


def test_killed_around_every_rename_into_place(
    unbroken: Path, few_patients: Path, tmp_path: Path
) -> None:
    work = with_crosswalk_of(unbroken, tmp_path / "work")
    sealed = digests(unbroken).keys() - {"crosswalk"}
    ends = chain_of_kills(work, few_patients, *["before", "after"] * len(sealed))
    assert ends == [KILLED] * 2 * len(sealed) + ["0"]
    assert digests(work) == digests(unbroken)


def test_killed_inside_de_identification(
    unbroken: Path, few_patients: Path, tmp_path: Path
) -> None:
    work = with_crosswalk_of(unbroken, tmp_path / "work")
    moments = [f"progress:deid:{number}" for number in (1, 5, 12)]
    assert chain_of_kills(work, few_patients, *moments) == [KILLED] * 3 + ["0"]
    assert digests(work) == digests(unbroken)


def test_a_killed_command_leaves_no_process_behind_and_can_be_run_again(
    work: Path, few_patients: Path
) -> None:
    command: list[str | Path] = [Path(sys.executable).with_name("fhirloom"), "run", "--json"]
    command += ["--ndjson", few_patients, "--work", work]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stderr is not None
        for line in first.stderr:
            if line.startswith(b"deid: started"):
                break
        children = psutil.Process(first.pid).children(recursive=True)
        assert children
        os.kill(first.pid, signal.SIGKILL)
    deadline = time.monotonic() + 20
    while any(child.is_running() for child in children):
        assert time.monotonic() < deadline, "the Prefect server outlived its parent"
        time.sleep(0.1)
    again = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert again.returncode == NOT_TRAINED, again.stderr
    assert json.loads(again.stdout)["stages"][0]["skipped"]
    assert (work / "research" / "tables" / CURRENT / MANIFEST).is_file()
