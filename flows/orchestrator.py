"""Prefect's server as a child process on loopback, which ends however its parent ends.

Prefect's own ephemeral server outlives a parent that is killed, takes its port from a fixed range
and gives up after 20 s. This one listens before it loads, on a port of the system's choice, so
that the parent loads its own libraries meanwhile, and stops when its standard input closes.
Measured on 2 cores: 20 s for the first start in a work folder, half of it Prefect's migrations;
10 s for the next ones.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from exports.errors import FhirloomError

START_SECONDS = 180.0


@contextmanager
def prefect_server(log: Path, *, schedules: bool = False) -> Iterator[str]:
    """The API address of a server that stops at the block's end, and may still be loading.

    The database is Prefect's own, below `PREFECT_HOME`. With `schedules`, the services run that
    turn a schedule into flow runs. What the server writes goes to `log`.
    """
    environment = dict(os.environ)
    if not schedules:
        environment["PREFECT__SERVER_EPHEMERAL"] = "1"
    log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with log.open("ab") as written:
        child = subprocess.Popen(
            [sys.executable, "-m", "flows.orchestrator"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=written,
            env=environment,
            start_new_session=True,  # an interrupt reaches the flow first, then closes this
        )
    with child:
        assert child.stdout is not None  # noqa: S101
        try:
            yield f"http://127.0.0.1:{int(child.stdout.readline())}/api"
        finally:
            child.terminate()


def wait_until_ready(api: str) -> None:
    """Wait until the server answers; raises `FhirloomError` (internal) where it does not."""
    import httpx

    try:
        httpx.get(f"{api}/health", timeout=START_SECONDS, trust_env=False).raise_for_status()
    except httpx.HTTPError:
        raise FhirloomError(
            "internal",
            "The Prefect server did not start",
            where="flow",
            fix="Read phi/logs/prefect-server.log.",
        ) from None


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def _serve() -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)  # noqa: T201
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # uvicorn's own takes seconds
    import uvicorn
    from prefect.server.api.server import create_app

    app = create_app(final=True)
    uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listener])


if __name__ == "__main__":
    _serve()
