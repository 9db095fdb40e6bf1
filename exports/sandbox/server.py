"""The sandbox EHR as a process: on loopback only, and never longer than whoever started it.

Layout of the data folder: `client-key.pem`, the private key of the registered client (`password`
and `token`, where the login is simpler); and for each source `<key>/`: `files/` (made once),
`jobs/`, and the `port` it was last served on, which is taken again, so that a status URL kept
from before still works.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Final

import uvicorn

from exports.errors import FhirloomError
from exports.sandbox.app import SandboxEhr
from exports.sandbox.credentials import Sandbox as Sandbox
from exports.sandbox.credentials import credentials
from exports.sandbox.hospital_source import HospitalSource
from exports.sandbox.listening import HOST, alone, listening
from exports.sandbox.manner import PLAIN, Manner
from exports.sandbox.population import Hospital
from exports.sandbox.source import ExportSource, FolderSource
from exports.sandbox.striking import Mischief

WATCH_SECONDS: Final = 0.2


def serve_forever(
    source: ExportSource,
    data: Path,
    *,
    port: int = 0,
    manner: Manner = PLAIN,
    ready: Callable[[Sandbox], None],
) -> None:
    """Serve `source` until the process is told to end; `ready` is called once it listens.

    Port 0 is the one that this source was last served on, or any. Raises `FhirloomError`
    (bad-input) where the port is taken, the data folder is being served already, or there is no
    fault of such a name.
    """
    home = data / source.key
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with ExitStack() as stack:
        stack.enter_context(alone(home))
        listener = stack.enter_context(listening(home / "port", port))
        store = stack.enter_context(listening(home / "store-port", 0))
        root = f"http://{HOST}:{listener.getsockname()[1]}"
        sandbox, door = credentials(data, source.site, root, manner)
        ehr = SandboxEhr(source, home, door, root, manner)
        app = Mischief(ehr.app, manner, root, f"http://{HOST}:{store.getsockname()[1]}")
        config = uvicorn.Config(
            app,
            log_level="warning" if not manner.faults else "critical",
            access_log=False,
            lifespan="off",
            date_header=not manner.faults,
            timeout_graceful_shutdown=1,
        )
        sockets = [listener, store] if manner.faults else [listener]
        for each in sockets:
            each.listen()
        ready(sandbox)
        uvicorn.Server(config).run(sockets=sockets)


@contextmanager
def running_sandbox(
    hospital: Hospital,
    truth: Path,
    *,
    data: Path,
    port: int = 0,
    manner: Manner = PLAIN,
    at: datetime | None = None,
) -> Iterator[Sandbox]:
    """A sandbox EHR of a synthetic hospital, in a process of its own, while the block runs.

    It ends with this process too, however that ends. The hospital is simulated into `data` at
    its first export and kept there; `truth` receives what is true behind it. `at` shows it as it
    was at an earlier moment. Raises `FhirloomError` (bad-input) where the server doesn't start.
    """
    arguments = ["--seed", str(hospital.seed), "--patients", str(hospital.patients)]
    arguments += ["--as-of", hospital.as_of.isoformat(), "--truth", str(truth.resolve())]
    arguments += [] if at is None else ["--at", at.isoformat()]
    with _running(arguments, data, port, manner) as sandbox:
        yield sandbox


@contextmanager
def running_folder(
    folder: Path,
    transaction_time: datetime,
    *,
    data: Path,
    port: int = 0,
    manner: Manner = PLAIN,
) -> Iterator[Sandbox]:
    """A sandbox EHR that serves a folder of `<Type>.*.ndjson[.gz]`; else as `running_sandbox`."""
    arguments = ["--folder", str(folder.resolve()), "--as-of", transaction_time.isoformat()]
    with _running(arguments, data, port, manner) as sandbox:
        yield sandbox


@contextmanager
def _running(arguments: Sequence[str], data: Path, port: int, manner: Manner) -> Iterator[Sandbox]:
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = data / "server.log"
    command = [sys.executable, "-m", "exports.sandbox.server", *arguments]
    command += ["--data", str(data.resolve()), "--port", str(port)]
    command += ["--manner", manner.to_json(), "--parent", str(os.getpid())]
    with log.open("wb") as errors:
        process = subprocess.Popen(  # noqa: S603 - our own module, no shell
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    with process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                raise FhirloomError(
                    "bad-input",
                    "The sandbox EHR did not start",
                    where=str(log),
                    fix="Read that log; another sandbox may hold the port or the data folder.",
                )
            yield Sandbox.from_json(line)
        finally:
            _stop(process)


def main(arguments: Sequence[str] | None = None) -> None:
    """`python -m exports.sandbox.server`: serve until the process named by `--parent` is gone."""
    parser = argparse.ArgumentParser(prog="exports.sandbox.server")
    parser.add_argument("--folder", type=Path, help="serve these NDJSON files")
    parser.add_argument("--patients", type=int, help="or simulate so many patients")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--as-of", type=datetime.fromisoformat, required=True)
    parser.add_argument("--at", type=datetime.fromisoformat, help="an earlier moment to show")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--manner", type=Manner.from_json, default=PLAIN)
    parser.add_argument("--parent", type=int, required=True)
    given = parser.parse_args(arguments)
    threading.Thread(target=_end_with, args=(given.parent,), daemon=True).start()
    source: ExportSource
    if given.folder is not None:
        source = FolderSource(given.folder, given.as_of)
    else:
        hospital = Hospital(given.seed, given.patients, given.as_of)
        source = HospitalSource(hospital, given.truth, given.at)
    serve_forever(source, given.data, port=given.port, manner=given.manner, ready=_tell_parent)


def _tell_parent(sandbox: Sandbox) -> None:
    sys.stdout.write(sandbox.to_json() + "\n")
    sys.stdout.flush()


def _end_with(parent: int) -> None:
    """End this process once its parent is another: the one that started it was killed."""
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os._exit(0)


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        process.kill()


if __name__ == "__main__":
    main()
