"""A small hospital, and a sandbox EHR of it in a thread, whose answers a test can replace."""

from __future__ import annotations

import gzip
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
import uvicorn
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from exports.access import Access
from exports.connection.keys import SigningKey, read_key
from exports.request import ExportRequest
from exports.sandbox.app import SandboxEhr
from exports.sandbox.credentials import credentials
from exports.sandbox.login import Door
from exports.sandbox.manner import Manner
from exports.sandbox.smart_server import Authorizer
from exports.sandbox.source import FolderSource
from exports.sandbox.striking import Mischief

AS_OF = datetime(2026, 1, 1, tzinfo=UTC)
CLIENT = "test-client"


@dataclass
class Ehr:
    """A running sandbox: `seen` are the requests so far, `meddle` may answer instead of it.

    `mischief` are its faults, and what they remember.
    """

    root: str
    request: ExportRequest
    key: SigningKey
    mischief: Mischief
    seen: list[tuple[str, str]] = field(default_factory=list)
    meddle: Callable[[Request], Response | None] = lambda request: None

    def paths(self, method: str, part: str) -> list[str]:
        """The paths with `part` in them that were asked for by `method`."""
        return [path for asked, path in self.seen if asked == method and part in path]


class _Meddled:
    def __init__(self, app: ASGIApp, ehr: Ehr) -> None:
        self._app = app
        self._ehr = ehr

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        self._ehr.seen.append((request.method, request.url.path))
        await (self._ehr.meddle(request) or self._app)(scope, receive, send)


def write_rows(path: Path, resource_type: str, ids: range) -> None:
    rows = [orjson.dumps({"resourceType": resource_type, "id": f"{number}"}) for number in ids]
    path.write_bytes(gzip.compress(b"\n".join(rows) + b"\n", mtime=0))


def write_key(path: Path, private: Any) -> Path:
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


@pytest.fixture(scope="session")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A registered key of each algorithm, and one that nobody registered."""
    folder = tmp_path_factory.mktemp("keys")
    rsa_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return {
        "ES384": write_key(folder / "ec.pem", ec.generate_private_key(ec.SECP384R1())),
        "RS384": write_key(folder / "rsa.pem", rsa_key),
        "stranger": write_key(folder / "other.pem", ec.generate_private_key(ec.SECP384R1())),
    }


@pytest.fixture
def hospital(tmp_path: Path) -> Path:
    """A folder with two files of patients, one of observations and one of encounters."""
    folder = tmp_path / "hospital"
    folder.mkdir()
    write_rows(folder / "Patient.0001.ndjson.gz", "Patient", range(60))
    write_rows(folder / "Patient.0002.ndjson.gz", "Patient", range(60, 100))
    write_rows(folder / "Observation.0001.ndjson.gz", "Observation", range(1000))
    write_rows(folder / "Encounter.0001.ndjson.gz", "Encounter", range(300))
    return folder


def _door(registered: list[dict[str, Any]], root: str, ways: Manner) -> Door:
    return Authorizer({CLIENT: {"keys": registered}}, f"{root}/token", ways.token_seconds)


@pytest.fixture(scope="session")
def ending() -> Iterator[list[threading.Thread]]:
    """Servers that were told to stop, which takes each a tenth of a second, and nobody waits."""
    threads: list[threading.Thread] = []
    yield threads
    for thread in threads:
        thread.join()


@pytest.fixture
def start_ehr(
    hospital: Path, tmp_path: Path, keys: dict[str, Path], ending: list[threading.Thread]
) -> Iterator[Callable[..., Ehr]]:
    """Starts a sandbox EHR of the small hospital; stopped when the test ends."""
    servers: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(token_seconds: int = 300, folder: Path = hospital, **manner: Any) -> Ehr:
        listener, store = (socket.create_server(("127.0.0.1", 0)) for _ in range(2))
        for each in (listener, store):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        root, elsewhere = (
            f"http://127.0.0.1:{each.getsockname()[1]}" for each in (listener, store)
        )
        registered = [read_key(keys[name]).public_jwk() for name in ("ES384", "RS384")]
        ways = Manner(**{"retry_after": 0, "token_seconds": token_seconds, **manner})
        home = tmp_path / f"data-{len(servers)}"
        access, door = Access(CLIENT, keys["ES384"]), _door(registered, root, ways)
        if ways.login != "smart":
            sandbox, door = credentials(home, "", root, ways)
            access = sandbox.access
        served = SandboxEhr(FolderSource(folder, AS_OF), home, door, root, ways)
        mischief = Mischief(served.app, ways, root, elsewhere)
        request = ExportRequest(f"{root}/fhir", access)
        ehr = Ehr(root, request, read_key(keys["ES384"]), mischief)
        config = uvicorn.Config(
            _Meddled(mischief, ehr),
            log_level="critical",
            lifespan="off",
            access_log=False,
            date_header=not ways.faults,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener, store]})
        thread.start()
        servers.append((server, thread))
        while not server.started:
            time.sleep(0.01)
        return ehr

    yield start
    for server, thread in servers:
        server.force_exit = server.should_exit = True
        ending.append(thread)


@pytest.fixture
def ehr(start_ehr: Callable[..., Ehr]) -> Ehr:
    """A sandbox EHR of the small hospital."""
    return start_ehr()


@pytest.fixture
def as_rsa_client(ehr: Ehr, keys: dict[str, Path]) -> ExportRequest:
    """The same client's request, signed with its RSA key."""
    return replace(ehr.request, access=Access(CLIENT, keys["RS384"]))
