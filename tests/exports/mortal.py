"""An export in a process of its own, which a test can kill at any moment."""

from __future__ import annotations

import multiprocessing
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path

from exports.access import Access
from exports.bulk.export import export
from exports.connection.transport import Patience
from exports.request import ExportRequest

HASTE = Patience(retries=8, first_wait=0.01, longest_wait=0.05)


def run(server: str, client: str, key: Path, phi: Path) -> None:
    """The whole life of the process."""
    export(ExportRequest(server, Access(client, key)), phi, patience=HASTE)


def forks() -> ForkServerContext:
    """Where processes come from: a server that has imported all of it already."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def start(context: ForkServerContext, request: ExportRequest, phi: Path) -> ForkServerProcess:
    """Begin the export of `request` into `phi`, or go on with it."""
    assert request.access.key is not None
    arguments = (request.server, request.access.client_id, request.access.key, phi)
    process = context.Process(target=run, args=arguments, daemon=True)
    process.start()
    return process
