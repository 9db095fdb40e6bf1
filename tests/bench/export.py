"""`python -m tests.bench.export`: the Bulk Data client's time as a ratio to a plain loop's.

A server in its own process has gzip files of observations ready. Two clients, each in a process
of its own, take turns: a loop that downloads, unzips and counts line feeds, and
`exports.bulk.export.export`, from kick-off to the sealed landing zone. The medians are compared.
"""

from __future__ import annotations

import argparse
import gzip
import json
import multiprocessing
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import httpx
import orjson

from exports.bulk.export import export
from exports.request import ExportRequest

GOALS: Final = {"ratio": 1.6, "resident MB": 100.0, "landing / wire": 1.01}
ROUNDS: Final = 3
CODES: Final = (
    ("2345-7", "Glucose [Mass/volume] in Serum or Plasma", "mg/dL", 105.0, 25.0),
    ("2160-0", "Creatinine [Mass/volume] in Serum or Plasma", "mg/dL", 1.1, 0.4),
    ("718-7", "Hemoglobin [Mass/volume] in Blood", "g/dL", 13.2, 1.8),
    ("2951-2", "Sodium [Moles/volume] in Serum or Plasma", "mmol/L", 139.0, 3.5),
    ("8480-6", "Systolic blood pressure", "mm[Hg]", 126.0, 18.0),
)


def observation(draw: random.Random) -> dict[str, Any]:
    """A laboratory result or vital sign, some 1000 bytes as JSON."""
    code, display, unit, mean, deviation = draw.choice(CODES)
    day = f"20{draw.randrange(18, 26)}-{draw.randrange(1, 13):02d}-{draw.randrange(1, 29):02d}"
    clock = f"{draw.randrange(24):02d}:{draw.randrange(60):02d}:{draw.randrange(60):02d}"
    profile = "http://hl7.org/fhir/us/core/StructureDefinition/us-core-observation-lab"
    category = "http://terminology.hl7.org/CodeSystem/observation-category"
    return {
        "resourceType": "Observation",
        "id": f"{draw.getrandbits(128):032x}",
        "meta": {
            "versionId": "1",
            "lastUpdated": f"{day}T{clock}.{draw.randrange(1000):03d}Z",
            "profile": [profile],
        },
        "identifier": [{"system": "urn:oid:1.2.36.146", "value": f"{draw.getrandbits(48):012X}"}],
        "status": "final",
        "category": [{"coding": [{"system": category, "code": "laboratory"}]}],
        "code": {
            "coding": [{"system": "http://loinc.org", "code": code, "display": display}],
            "text": display,
        },
        "subject": {"reference": f"Patient/{draw.getrandbits(64):016x}"},
        "encounter": {"reference": f"Encounter/{draw.getrandbits(64):016x}"},
        "effectiveDateTime": f"{day}T{clock}+01:00",
        "valueQuantity": {
            "value": round(draw.gauss(mean, deviation), 1),
            "unit": unit,
            "system": "http://unitsofmeasure.org",
            "code": unit,
        },
    }


def write_file(path: Path, number: int, size: int) -> tuple[int, int]:
    """A gzip file of about `size` bytes unpacked; the result is (rows, bytes unpacked)."""
    draw, lines, left = random.Random(number), [], size  # noqa: S311 - no secret
    while left > 0:
        lines.append(orjson.dumps(observation(draw), option=orjson.OPT_APPEND_NEWLINE))
        left -= len(lines[-1])
    path.write_bytes(gzip.compress(b"".join(lines), compresslevel=6, mtime=0))
    return len(lines), size - left


def write_files(folder: Path, megabytes: int, files: int) -> int:
    """Write the server's files and what it counted; the result is their bytes unpacked."""
    folder.mkdir()
    size = megabytes * 10**6 // files
    names = [f"Observation.{number:04d}.ndjson.gz" for number in range(files)]
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        jobs = [(folder / name, number, size) for number, name in enumerate(names)]
        written = pool.starmap(write_file, jobs)
    rows = {name: rows for name, (rows, _) in zip(names, written, strict=True)}
    (folder / "rows.json").write_text(json.dumps(rows))
    return sum(unpacked for _, unpacked in written)


class Answers(BaseHTTPRequestHandler):
    """A Bulk Data server that has everything ready, and asks nobody who they are."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    folder: Path

    def do_GET(self) -> None:
        """Kick-off, status, or a file."""
        root, path = f"http://{self.headers['host']}", self.path.partition("?")[0]
        if path.endswith("$export"):
            self._answer(202, b"", {"Content-Location": f"{root}/status"})
        elif path == "/status":
            rows = json.loads((self.folder / "rows.json").read_text())
            output = [
                {"type": "Observation", "url": f"{root}/{name}", "count": count}
                for name, count in rows.items()
            ]
            manifest = {
                "transactionTime": "2026-01-01T00:00:00Z",
                "request": root,
                "requiresAccessToken": False,
                "output": output,
                "error": [],
            }
            self._answer(200, orjson.dumps(manifest), {"Content-Type": "application/json"})
        elif (file := self.folder / path[1:]).is_file():
            self._answer(200, file.read_bytes(), {"Content-Encoding": "gzip"})
        else:
            self._answer(404, b"", {})

    def do_DELETE(self) -> None:
        """The end of the job."""
        self._answer(202, b"", {})

    def _answer(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Nothing."""


def serve(folder: Path) -> None:
    """Serve `folder` until killed, telling the URL on the standard output."""
    Answers.folder = folder
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        say(f"http://127.0.0.1:{server.server_port}")
        server.serve_forever()


def loop(root: str, folder: Path) -> None:
    """Download and unzip every file, one after the other, and count line feeds."""
    folder.mkdir()
    with httpx.Client() as http:
        for entry in http.get(f"{root}/status").json()["output"]:
            name, lines, member = entry["url"].rpartition("/")[2], 0, zlib.decompressobj(wbits=31)
            with (folder / name).open("wb") as file, http.stream("GET", entry["url"]) as answer:
                for chunk in answer.iter_raw():
                    file.write(chunk)
                    lines += member.decompress(chunk).count(b"\n")
            if lines != entry["count"]:
                raise SystemExit("the plain loop lost rows")


def ours(root: str, folder: Path) -> None:
    """The client, from kick-off to the sealed landing zone."""
    export(ExportRequest(f"{root}/fhir"), folder)


CLIENTS: Final = {"loop": loop, "ours": ours}


def measure(name: str, root: str, folder: Path) -> None:
    """Run one client in this process; tell its seconds and its peak memory in MB."""
    began = time.perf_counter()
    CLIENTS[name](root, folder)
    seconds = time.perf_counter() - began
    say(json.dumps({"seconds": seconds, "resident": peak_memory()}))


def peak_memory() -> float:
    """MB that this process had resident at most."""
    status = Path("/proc/self/status")
    if status.is_file():  # getrusage counts what the parent had before exec, too
        told = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(told.split()[1]) * 1024 / 10**6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 10**6


def compare(megabytes: int, files: int, scratch: Path) -> bool:
    """Run both clients in turn and print what came of it; the result is whether goals are met."""
    unpacked = write_files(scratch / "wire", megabytes, files)
    wire = sum(path.stat().st_size for path in (scratch / "wire").glob("*.gz"))
    say(f"{files} files, {unpacked / 10**6:.0f} MB unpacked, {wire / 10**6:.1f} MB on the wire")
    told: dict[str, list[dict[str, float]]] = {name: [] for name in CLIENTS}
    landing = 0
    with subprocess.Popen(command("--serve", scratch / "wire"), stdout=subprocess.PIPE) as server:
        try:
            root = (server.stdout.readline() if server.stdout else b"").decode().strip()
            for number in range(ROUNDS):
                for name in CLIENTS:
                    folder = scratch / f"{name}-{number}"
                    run = subprocess.run(
                        command("--client", name, "--url", root, "--folder", folder),
                        check=True,
                        stdout=subprocess.PIPE,
                    )
                    told[name].append(json.loads(run.stdout))
                    if name == "ours":
                        landing = size_of(folder / "landing")
                    shutil.rmtree(folder)
                    os.sync()
        finally:
            server.kill()
    seconds = {name: statistics.median(run["seconds"] for run in told[name]) for name in told}
    for name, runs in told.items():
        each = ", ".join(f"{run['seconds']:.2f}" for run in runs)
        rate = unpacked / 10**6 / seconds[name]
        say(f"{name}: {seconds[name]:.2f} s (of {each}), {rate:.0f} MB/s unpacked")
    reached = {
        "ratio": seconds["ours"] / seconds["loop"],
        "resident MB": max(run["resident"] for run in told["ours"]),
        "landing / wire": landing / wire,
    }
    for name, goal in GOALS.items():
        say(f"{name}: {reached[name]:.3g} (goal: at most {goal:g})")
    return all(reached[name] <= goal for name, goal in GOALS.items())


def size_of(folder: Path) -> int:
    """Bytes of all files below `folder`."""
    return sum(
        path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and not any(part.is_symlink() for part in path.parents)
    )


def command(*arguments: object) -> list[str]:
    """This very script, with other arguments."""
    return [sys.executable, "-m", "tests.bench.export", *map(str, arguments)]


def say(text: str) -> None:
    """A line on the standard output."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Exit code 1 where a goal is missed."""
    parser = argparse.ArgumentParser(prog="tests.bench.export", description=__doc__)
    parser.add_argument("--megabytes", type=int, default=500, help="unpacked")
    parser.add_argument("--files", type=int, default=130)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--client", choices=CLIENTS, help=argparse.SUPPRESS)
    parser.add_argument("--url", default="", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.serve:
        serve(given.serve)
    elif given.client:
        measure(given.client, given.url, given.folder)
    else:
        with tempfile.TemporaryDirectory(prefix="bench-export-") as scratch:
            return 0 if compare(given.megabytes, given.files, Path(scratch)) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
