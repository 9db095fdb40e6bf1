"""A FHIR server on loopback that answers by a script: for protocols no sandbox should speak."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import orjson


@dataclass
class Asked:
    """One request as the server saw it."""

    method: str
    path: str
    query: list[tuple[str, str]]
    headers: Mapping[str, str]
    body: bytes

    @property
    def parameters(self) -> list[tuple[str, Any]]:
        """Of a kick-off, by query or by Parameters resource."""
        if self.method == "GET":
            return list(self.query)
        told = orjson.loads(self.body)["parameter"]
        values = [
            (entry["name"], value)
            for entry in told
            for key, value in entry.items()
            if key.startswith("value")
        ]
        return [
            (name, value["reference"] if isinstance(value, dict) else value)
            for name, value in values
        ]

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.parameters}


@dataclass
class Answer:
    """What the server says."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)


def outcome(
    status: int, code: str, words: str = "", severity: str = "error", **more: str
) -> Answer:
    issue = {"severity": severity, "code": code, "diagnostics": words, **more}
    return Answer(status, {"resourceType": "OperationOutcome", "issue": [issue]})


def accepted(place: str = "/job", status: int = 202, header: str = "Content-Location") -> Answer:
    return Answer(status, headers={header: place})


class Script:
    """A running server: `answer` is asked for each request, `seen` are those so far."""

    def __init__(self) -> None:
        self.seen: list[Asked] = []
        self.answer: Callable[[Asked], Answer] = lambda asked: Answer(404)
        self.base = ""
        self.root = ""

    def asked(self, part: str) -> list[Asked]:
        return [request for request in self.seen if part in request.path]


@contextmanager
def serving() -> Iterator[Script]:
    script = Script()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _reply(self) -> None:
            parts = urlsplit(self.path)
            size = int(self.headers.get("content-length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            asked = Asked(
                self.command, parts.path, parse_qsl(parts.query), headers, self.rfile.read(size)
            )
            script.seen.append(asked)
            answer = script.answer(asked)
            body = answer.body
            content = (
                body if isinstance(body, bytes) else b"" if body is None else orjson.dumps(body)
            )
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = _reply  # noqa: N815 - named by http.server

        def log_message(self, *told: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    script.root = f"http://127.0.0.1:{server.server_address[1]}"
    script.base = f"{script.root}/fhir"
    yield script
    server.shutdown()
    thread.join()
    server.server_close()
