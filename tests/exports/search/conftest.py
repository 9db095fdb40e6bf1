"""A small hospital that can be searched, running while a test runs."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from exports.access import Access
from tests.exports.search.searchable import SearchServer, observation


@pytest.fixture
def server() -> Iterator[SearchServer]:
    """Three patients with seven observations, a prescription and its drug; no other type."""
    searched = SearchServer(
        {
            "Patient": [f'{{"resourceType":"Patient","id":"p-{n}"}}' for n in (1, 2, 3)],
            "Observation": [observation(n, f"p-{1 + n % 2}") for n in range(7)],
            "MedicationRequest": [
                '{"resourceType":"MedicationRequest","id":"r-1","subject":{"reference":'
                '"Patient/p-1"},"medicationReference":{"reference":"Medication/m-1"}}'
            ],
            "Medication": [f'{{"resourceType":"Medication","id":"m-{n}"}}' for n in (1, 2)],
            "Group": [
                '{"resourceType":"Group","id":"g","quantity":3,"member":['
                '{"entity":{"reference":"Patient/p-1"}},'
                '{"entity":{"reference":"Patient/p-3"},"inactive":true},'
                '{"entity":{"reference":"Practitioner/p-2"}}]}'
            ],
        }
    )
    listener = socket.create_server(("127.0.0.1", 0))
    # asyncio does so for sockets that it makes; without it each answer takes 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    searched.base = f"http://127.0.0.1:{listener.getsockname()[1]}/fhir"

    def endpoint(request: Request) -> Response:
        return searched.answer(request)

    app = Starlette(routes=[Route("/fhir/{path:path}", endpoint)])
    config = uvicorn.Config(
        app, log_level="critical", lifespan="off", access_log=False, date_header=False
    )
    running = uvicorn.Server(config)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield searched
    running.force_exit = running.should_exit = True
    thread.join()


@pytest.fixture
def bearer(tmp_path: Path) -> Access:
    """A login with a token in a file."""
    file = tmp_path / "token"
    file.write_text("secret-token")
    return Access(bearer_file=file)
