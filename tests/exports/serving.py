"""Small real servers for tests: any answers over HTTP or HTTPS on loopback, and a proxy."""

from __future__ import annotations

import base64
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send


@dataclass(frozen=True)
class Asked:
    """A request as a server saw it."""

    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes

    @property
    def credentials(self) -> str:
        return self.headers.get("authorization", "")

    @property
    def form(self) -> dict[str, str]:
        return {name: values[0] for name, values in parse_qs(self.body.decode()).items()}


Answer = Callable[[Asked], Response]


@contextmanager
def serving(answer: Answer, host: str = "127.0.0.1", **options: Any) -> Iterator[str]:
    """The root URL of a server in a thread that answers with `answer`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        body = await request.body()
        asked = Asked(
            request.method, request.url.path, request.url.query, dict(request.headers), body
        )
        await answer(asked)(scope, receive, send)

    listener = socket.create_server((host, 0))
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    config = uvicorn.Config(app, log_level="critical", lifespan="off", access_log=False, **options)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"{'https' if 'ssl_certfile' in options else 'http'}://{host}:{listener.getsockname()[1]}"
    finally:
        server.force_exit = server.should_exit = True
        thread.join()


@dataclass
class Proxy:
    """A proxy that takes every host for loopback; `lines` are the request lines it was sent."""

    url: str = ""
    login: str = ""
    lines: list[str] = field(default_factory=list)


@contextmanager
def proxying(login: str = "") -> Iterator[Proxy]:
    """A forward and CONNECT proxy; with a `login` (user:password), it answers no one else."""
    listener = socket.create_server(("127.0.0.1", 0))
    proxy = Proxy(f"http://127.0.0.1:{listener.getsockname()[1]}", login)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                threading.Thread(target=_relay, args=(client, proxy), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield proxy
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


def _relay(client: socket.socket, proxy: Proxy) -> None:
    with client, suppress(OSError):
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.recv(65536)
        line, _, rest = head.partition(b"\r\n")
        proxy.lines.append(line.decode())
        wanted = base64.b64encode(proxy.login.encode())
        if proxy.login and b"Basic " + wanted not in head:
            client.sendall(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
            return
        method, target, version = line.split(b" ")
        parts = urlsplit(b"//" + target if method == b"CONNECT" else target)
        with socket.create_connection(("127.0.0.1", parts.port or 80)) as server:
            if method == b"CONNECT":
                client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                path = parts.path + (b"?" + parts.query if parts.query else b"")
                server.sendall(b" ".join((method, path, version)) + b"\r\n" + rest)
            _pump(client, server)


def _pump(one: socket.socket, other: socket.socket) -> None:
    while True:
        for source in select.select([one, other], [], [])[0]:
            chunk = source.recv(65536)
            if not chunk:
                return
            (other if source is one else one).sendall(chunk)
