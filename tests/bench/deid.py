"""`python -m tests.bench.deid`: de-identification's time as a ratio to a plain reader's.

A sandbox hospital is landed as gzip NDJSON. Two processes, each fresh, go over the same files:
`deid.deidentify.deidentify`, from there to sealed tables with every proof, and DuckDB, which reads
the same views' columns with no rule at all and writes them as Parquet. Processor seconds (of all
threads, user and system) are compared, since the rest of the machine may be busy.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial, wraps
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, Final

import duckdb

import deid.proofs
from deid import deidentify as whole
from deid.rules import load_rules
from deid.sql_on_fhir.compiler import compile_view, text
from exports.landing.ndjson import unpack
from exports.landing.zone import LandingZone, land_folder, open_landing
from exports.sandbox.population import Hospital, write_export
from features.valuesets import declared
from tests.bench.export import peak_memory, say
from tests.bench.notes import GOAL, notes_per_second

GOALS: Final = {"ratio": 2.0, "resident MB": 1000.0}
ROWS_PER_FILE: Final = 50_000
STEPS: Final = (
    "extract",
    "crosswalk",
    "freeze_vocabulary",
    "write_tables",
    "origin",
    "prove",
    "issue",
)
"""The steps of `deidentify`, by the names under which it calls them; the proofs stand beneath."""


def land(scratch: Path, patients: int) -> LandingZone:
    """A hospital's whole export in `scratch/phi/landing`."""
    hospital = Hospital(seed=11, patients=patients)
    source = scratch / "source"
    write_export(hospital, source, scratch / "truth", rows_per_file=ROWS_PER_FILE)
    when = datetime(2026, 1, 1, tzinfo=UTC)
    return land_folder(source, scratch / "phi", transaction_time=when)


def unpacked(landing: LandingZone) -> int:
    """Bytes of all lines."""
    total = 0
    for kind in landing.rows():
        for path in landing.paths(kind):
            with path.open("rb") as file:
                pieces: Iterator[bytes] = iter(partial(file.read, 2**20), b"")
                total += sum(len(block) for block in unpack(pieces))
    return total


def processor_seconds() -> float:
    """What this process and its children used so far."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def ours(scratch: Path) -> dict[str, float]:
    """From the landing zone to sealed, proven tables; processor seconds by step."""
    steps: dict[str, float] = defaultdict(float)
    for name in STEPS:
        if hasattr(whole, name):
            setattr(whole, name, timed(getattr(whole, name), name, steps))
    for module in iter_modules(deid.proofs.__path__):
        proof = import_module(f"deid.proofs.{module.name}")
        if hasattr(proof, "verdict"):
            proof.verdict = timed(proof.verdict, f"  {module.name}", steps)  # type: ignore[attr-defined]
    whole.deidentify(open_landing(scratch / "phi"), scratch, declared=declared())
    return steps


def timed(work: Callable[..., Any], name: str, steps: dict[str, float]) -> Callable[..., Any]:
    """The same function, its processor seconds added under `name`."""

    @wraps(work)
    def measured(*arguments: Any, **named: Any) -> Any:
        began = processor_seconds()
        try:
            return work(*arguments, **named)
        finally:
            steps[name] += processor_seconds() - began

    return measured


def peer(scratch: Path) -> dict[str, float]:
    """The views' columns as they are, with no rule: DuckDB alone, to Parquet."""
    landing = open_landing(scratch / "phi")
    target = scratch / "peer"
    target.mkdir(exist_ok=True)
    steps = {}
    with duckdb.connect() as connection:
        for view in load_rules().views:
            if files := [str(path) for path in landing.paths(view.view.resource)]:
                began = processor_seconds()
                query = compile_view(view.view).over(files)
                path = text(str(target / f"{view.name}.parquet"))
                connection.execute(f"COPY ({query}) TO {path} (FORMAT parquet, COMPRESSION zstd)")
                steps[view.name] = processor_seconds() - began
    return steps


SIDES: Final = {"peer": peer, "ours": ours}


def measure(side: str, scratch: Path) -> None:
    """Run one side in this process; tell its seconds and its peak memory in MB."""
    began, wall = processor_seconds(), time.perf_counter()
    steps = SIDES[side](scratch)
    told = {
        "seconds": processor_seconds() - began,
        "wall": time.perf_counter() - wall,
        "resident": peak_memory(),
        "steps": steps,
    }
    say(json.dumps(told))


def tables(scratch: Path, patients: int) -> bool:
    """Research tables: both sides, and whether the goals are met."""
    landing = land(scratch, patients)
    size, rows = unpacked(landing) / 10**6, sum(landing.rows().values())
    say(f"{patients} patients, {rows} resources, {size:.0f} MB unpacked")
    told: dict[str, dict[str, Any]] = {}
    for side in SIDES:
        arguments = [sys.executable, "-m", "tests.bench.deid", "--side", side]
        command = [*arguments, "--folder", str(scratch)]
        run = subprocess.run(command, check=True, stdout=subprocess.PIPE, env={**os.environ})
        told[side] = one = json.loads(run.stdout.splitlines()[-1])
        say(
            f"{side}: {one['seconds']:.2f} processor seconds ({one['wall']:.2f} s), "
            f"{size / one['seconds']:.0f} MB a second, {one['resident']:.0f} MB resident"
        )
    for step, seconds in told["ours"]["steps"].items():
        say(f"  {step:<24}{seconds:>8.2f}")
    reached = {
        "ratio": told["ours"]["seconds"] / told["peer"]["seconds"],
        "resident MB": told["ours"]["resident"],
    }
    for name, goal in GOALS.items():
        say(f"{name}: {reached[name]:.3g} (goal: at most {goal:g})")
    return all(reached[name] <= goal for name, goal in GOALS.items())


def texts(_scratch: Path, _patients: int) -> bool:
    """Notes: how many of 2 kB a core cleans in a second, and whether the goal is met."""
    rate = notes_per_second()
    say(f"notes of 2 kB per second and core: {rate:,.0f} (goal: at least {GOAL:,.0f})")
    return rate >= GOAL


BENCHES: Final[tuple[Callable[[Path, int], bool], ...]] = (tables, texts)
"""What is measured: each takes an empty folder and a number of patients, and tells its goals."""


def main() -> int:
    """Exit code 1 where a goal is missed."""
    parser = argparse.ArgumentParser(prog="tests.bench.deid", description=__doc__)
    parser.add_argument("--patients", type=int, default=1500)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        measure(given.side, given.folder)
        return 0
    met = []
    for bench in BENCHES:
        with tempfile.TemporaryDirectory(prefix="bench-deid-") as scratch:
            met.append(bench(Path(scratch), given.patients))
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
