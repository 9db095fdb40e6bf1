"""A server's place: one process a data folder, and the port it had before."""

from __future__ import annotations

import fcntl
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from exports.durable import write_durably
from exports.errors import FhirloomError

HOST: Final = "127.0.0.1"
HANDOVER_SECONDS: Final = 10.0
LOOK_AGAIN_SECONDS: Final = 0.2


@contextmanager
def alone(home: Path) -> Iterator[None]:
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
                time.sleep(LOOK_AGAIN_SECONDS)
        yield


@contextmanager
def listening(last: Path, port: int) -> Iterator[socket.socket]:
    """A bound socket: on `port`, or (0) on the one that the file `last` names, or on any."""
    wanted = [port] if port else [int(last.read_text()) if last.is_file() else 0, 0]
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Else an answer's body waits 40 ms for its head to be acknowledged.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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


def _taken(what: str, where: str) -> FhirloomError:
    return FhirloomError(
        "bad-input", what, where=where, fix="Stop the other server, or choose another port."
    )
