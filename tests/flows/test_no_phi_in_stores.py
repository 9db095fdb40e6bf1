"""Canaries planted where identifiers stand are in no byte that Prefect, MLflow or a log keeps."""

from __future__ import annotations

import base64
import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from flows.exit_codes import INTERNAL

DRIVER = Path(__file__).with_name("failing_stage.py")
HUMAN_TEXT = {
    *("family", "given", "text", "line", "city", "district", "postalCode", "value"),
    *("display", "name", "valueString", "div", "comment", "data"),
}


class Canaries:
    """Hands out strings that occur nowhere else, and finds them again in whatever disguise."""

    def __init__(self) -> None:
        self.planted: list[str] = []

    def new(self) -> str:
        # The space and the umlaut make a difference to URL encoding and to JSON escapes.
        self.planted.append(f"Kanarienvögel {len(self.planted):05d} Żółć")
        return self.planted[-1]

    def found_in(self, content: bytes) -> bool:
        return any(form in content for form in self.forms)

    @property
    def forms(self) -> list[bytes]:
        """What all canaries share, as it is, escaped, URL-encoded and in base64 at any offset."""
        shared = "Kanarienvögel"
        plain = shared.encode()
        encoded = [base64.b64encode(b" " * shift + plain)[4:-4] for shift in range(3)]
        escaped = json.dumps(shared)[1:-1].encode()
        return [plain, shared.encode("utf-16-le"), escaped, quote(shared).encode(), *encoded]


def plant(node: Any, canaries: Canaries, key: str = "") -> Any:
    """The resource with a canary in place of every string of a key that may hold an identifier."""
    if isinstance(node, dict):
        coded = "system" in node and "code" in node
        return {
            name: plant(value, canaries, "" if coded and name == "display" else name)
            for name, value in node.items()
        }
    if isinstance(node, list):
        return [plant(item, canaries, key) for item in node]
    if not isinstance(node, str) or key not in HUMAN_TEXT:
        return node
    if key == "data":
        return base64.b64encode(f"Seen: {canaries.new()}".encode()).decode()
    return canaries.new()


def files(*folders: Path) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in folder.rglob("*") if path.is_file())


def with_canaries(canaries: Canaries, paths: Iterable[Path]) -> list[str]:
    return [
        str(path)
        for path in paths
        if canaries.found_in(path.read_bytes()) or canaries.found_in(str(path).encode())
    ]


def planted(folder: Path, source: Path, canaries: Canaries) -> Path:
    """The NDJSON of `source` with canaries, and a line in each file that is cut short."""
    folder.mkdir()
    for path in sorted(source.glob("*.ndjson.gz")):
        lines = gzip.decompress(path.read_bytes()).splitlines()
        told = [json.dumps(plant(json.loads(line), canaries), ensure_ascii=False) for line in lines]
        hostile = f'{{"resourceType": "Patient", "name": "{canaries.new()}'
        (folder / path.name.removesuffix(".gz")).write_text("\n".join([*told, hostile]))
    return folder


@dataclass(frozen=True)
class FailedRun:
    work: Path
    canaries: Canaries
    done: subprocess.CompletedProcess[bytes]


@pytest.fixture(scope="module")
def failed(
    few_patients: Path, prefect_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> FailedRun:
    folder, canaries = tmp_path_factory.mktemp("canaries"), Canaries()
    work = folder / "work"
    shutil.copytree(prefect_home, work / "research" / "prefect")
    ndjson = planted(folder / "ndjson", few_patients, canaries)
    command: list[str | Path] = [sys.executable, DRIVER, canaries.new()]
    command += ["run", "--ndjson", ndjson, "--work", work]
    done = subprocess.run(command, capture_output=True, timeout=300, check=False)
    return FailedRun(work, canaries, done)


def test_neither_stores_nor_logs_keep_a_canary(failed: FailedRun) -> None:
    assert failed.done.returncode == INTERNAL, failed.done.stderr.decode()
    assert b"RuntimeError in stage features" in failed.done.stderr
    assert not failed.canaries.found_in(failed.done.stdout + failed.done.stderr)
    assert with_canaries(failed.canaries, files(failed.work / "research")) == []


def test_prefect_does_keep_the_text_of_the_exception(failed: FailedRun) -> None:
    stored = b"".join(path.read_bytes() for path in files(failed.work / "research" / "prefect"))
    assert b"RuntimeError in stage features" in stored


def test_the_summary_of_a_failed_run_says_why(failed: FailedRun) -> None:
    told = json.loads((failed.work / "research" / "summary.json").read_text())
    assert told["exit_code"] == INTERNAL
    assert told["error"]["what"] == "RuntimeError in stage features"


def test_the_search_finds_canaries_where_they_are(failed: FailedRun) -> None:
    canaries, phi = failed.canaries, failed.work / "phi"
    assert with_canaries(canaries, files(phi / "landing"))
    assert with_canaries(canaries, (phi / "logs").glob("features-*.log"))
    word = "Kanarienvögel".encode()
    for shift in range(3):
        assert canaries.found_in(base64.b64encode(b"x" * shift + word + b"--"))
    assert canaries.found_in(quote("Ein Kanarienvögel").encode())
    assert canaries.found_in(json.dumps("Kanarienvögel").encode())
