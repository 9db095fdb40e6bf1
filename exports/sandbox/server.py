"""The sandbox EHR as a process: on loopback only, and never longer than whoever started it.

Layout of the data folder: `client-key.pem`, the private key of the registered client; and for
each source `<key>/`: `files/` (made once), `jobs/`, and the `port` it was last served on, which
is taken again, so that a status URL kept from before still works.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from exports.durable import write_durably
from exports.errors import FhirloomError
from exports.sandbox.app import SandboxEhr
from exports.sandbox.hospital_source import HospitalSource
from exports.sandbox.jobs import Jobs, PreparedFiles
from exports.sandbox.population import Hospital
from exports.sandbox.smart_server import Authorizer
from exports.sandbox.source import ExportSource, FolderSource
from exports.smart import read_key

HOST: Final = "127.0.0.1"
HANDOVER_SECONDS: Final = 10.0
WATCH_SECONDS: Final = 0.2


@dataclass(frozen=True)
class Sandbox:
    """Where a sandbox EHR listens, and as whom to ask it."""

    base_url: str
    client_id: str
    key: Path


def serve_forever(
    source: ExportSource,
    data: Path,
    *,
    port: int = 0,
    token_seconds: int = 300,
    ready: Callable[[Sandbox], None],
) -> None:
    """Serve `source` until the process is told to end; `ready` is called once it listens.

    Port 0 is the one that this source was last served on, or any. Raises `FhirloomError`
    (bad-input) where the port is taken or the data folder is being served already.
    """
    home = data / source.key
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(home), _listening(home, port) as listener:
        root = f"http://{HOST}:{listener.getsockname()[1]}"
        key = _client_key(data)
        client_id = f"fhirloom-{source.key}"
        clients = {client_id: {"keys": [read_key(key).public_jwk()]}}
        ehr = SandboxEhr(
            source,
            PreparedFiles(source, home / "files"),
            Jobs(home / "jobs"),
            Authorizer(clients, f"{root}/token", token_seconds),
            root,
        )
        config = uvicorn.Config(
            ehr.app,
            log_level="warning",
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=1,
        )
        listener.listen()
        ready(Sandbox(f"{root}/fhir", client_id, key))
        uvicorn.Server(config).run(sockets=[listener])


@contextmanager
def running_sandbox(
    hospital: Hospital, truth: Path, *, data: Path, port: int = 0, token_seconds: int = 300
) -> Iterator[Sandbox]:
    """A sandbox EHR of a synthetic hospital, in a process of its own, while the block runs.

    It ends with this process too, however that ends. The hospital is simulated into `data` at
    its first export and kept there; `truth` receives what is true behind it. Raises
    `FhirloomError` (bad-input) where the server doesn't start.
    """
    arguments = ["--seed", str(hospital.seed), "--patients", str(hospital.patients)]
    arguments += ["--as-of", hospital.as_of.isoformat(), "--truth", str(truth.resolve())]
    with _running(arguments, data, port, token_seconds) as sandbox:
        yield sandbox


@contextmanager
def running_folder(
    folder: Path, transaction_time: datetime, *, data: Path, port: int = 0, token_seconds: int = 300
) -> Iterator[Sandbox]:
    """A sandbox EHR that serves a folder of `<Type>.*.ndjson[.gz]`; else as `running_sandbox`."""
    arguments = ["--folder", str(folder.resolve()), "--as-of", transaction_time.isoformat()]
    with _running(arguments, data, port, token_seconds) as sandbox:
        yield sandbox


@contextmanager
def _running(
    arguments: Sequence[str], data: Path, port: int, token_seconds: int
) -> Iterator[Sandbox]:
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = data / "server.log"
    command = [sys.executable, "-m", "exports.sandbox.server", *arguments]
    command += ["--data", str(data.resolve()), "--port", str(port)]
    command += ["--token-seconds", str(token_seconds), "--parent", str(os.getpid())]
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
            told = json.loads(line)
            yield Sandbox(told["base_url"], told["client_id"], Path(told["key"]))
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
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--token-seconds", type=int, default=300)
    parser.add_argument("--parent", type=int, required=True)
    given = parser.parse_args(arguments)
    threading.Thread(target=_end_with, args=(given.parent,), daemon=True).start()
    source: ExportSource
    if given.folder is not None:
        source = FolderSource(given.folder, given.as_of)
    else:
        hospital = Hospital(given.seed, given.patients, given.as_of)
        source = HospitalSource(hospital, given.truth)
    serve_forever(
        source, given.data, port=given.port, token_seconds=given.token_seconds, ready=_tell_parent
    )


def _tell_parent(sandbox: Sandbox) -> None:
    told = {
        "base_url": sandbox.base_url,
        "client_id": sandbox.client_id,
        "key": str(sandbox.key),
    }
    sys.stdout.write(json.dumps(told) + "\n")
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


@contextmanager
def _alone(home: Path) -> Iterator[None]:
    """Be the only server of this folder, giving one whose parent was killed the time to end."""
    deadline = time.monotonic() + HANDOVER_SECONDS
    with (home / "lock").open("w") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise _taken("The data folder is being served already", home.name) from None
                time.sleep(WATCH_SECONDS)
        yield


@contextmanager
def _listening(home: Path, port: int) -> Iterator[socket.socket]:
    last = home / "port"
    wanted = [port] if port else [int(last.read_text()) if last.is_file() else 0, 0]
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for candidate in wanted:
            try:
                listener.bind((HOST, candidate))
                break
            except OSError:
                continue
        else:
            raise _taken("The port can't be listened on", f"port {port}")
        write_durably(last, str(listener.getsockname()[1]).encode())
        yield listener


def _client_key(data: Path) -> Path:
    path = (data / "client-key.pem").resolve()
    if not path.is_file():
        private = ec.generate_private_key(ec.SECP384R1())
        pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_durably(path, pem)
        path.chmod(0o600)
    return path


def _taken(what: str, where: str) -> FhirloomError:
    return FhirloomError(
        "bad-input", what, where=where, fix="Stop the other server, or choose another port."
    )


if __name__ == "__main__":
    main()
