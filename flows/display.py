"""Progress on standard error: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol

import click

from exports.progress import Progress

LINE_SECONDS: Final = 10.0


class Display(Protocol):
    """Shows one stage at a time."""

    def stage(self, name: str) -> AbstractContextManager[Progress]:
        """Show the stage `name` until the block ends; the block reports through the progress."""


def display() -> Display:
    """The display that suits standard error."""
    return Bars() if sys.stderr.isatty() else Lines()


class Lines:
    """A line when a stage starts, one when it ends, and one every `LINE_SECONDS` between."""

    @contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        """Show the stage `name` in lines."""
        latest = ["at work"]
        ended = threading.Event()

        def report(done: int, total: int | None, unit: str) -> None:
            latest[0] = f"{done:,} of {total:,} {unit}" if total else f"{done:,} {unit}"

        def tell() -> None:
            while not ended.wait(LINE_SECONDS):
                click.echo(f"{name}: {latest[0]}", err=True)

        teller = threading.Thread(target=tell, daemon=True)
        started = time.monotonic()
        click.echo(f"{name}: started", err=True)
        teller.start()
        outcome = "failed after"
        try:
            yield report
            outcome = "done in"
        finally:
            ended.set()
            teller.join()
            click.echo(f"{name}: {outcome} {time.monotonic() - started:.1f} s", err=True)


class Bars:
    """A bar for the stage at work, and a line for each that has ended."""

    @contextmanager
    def stage(self, name: str) -> Iterator[Progress]:
        """Show the stage `name` as a bar."""
        from rich.console import Console
        from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        console = Console(stderr=True)
        bars = RichProgress(
            SpinnerColumn(),
            TextColumn("{task.description:<20}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[told]:<24}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        bar = bars.add_task(name, total=None, told="")

        def report(done: int, total: int | None, unit: str) -> None:
            told = f"{done:,} of {total:,} {unit}" if total else f"{done:,} {unit}"
            bars.update(bar, completed=done, total=total, told=told)

        started = time.monotonic()
        mark = "[red]✗[/red]"
        try:
            with bars:
                yield report
            mark = "[green]✓[/green]"
        finally:
            console.print(f"{mark} {name:<20} {time.monotonic() - started:6.1f} s")
