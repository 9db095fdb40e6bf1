"""The page about servers says what the tables say."""

from __future__ import annotations

from pathlib import Path

from exports.sandbox.faults import FAULTS
from exports.sandbox.handbook import page

PAGE = Path(__file__).parents[3] / "docs" / "servers.md"


def test_the_page_is_what_the_tables_say() -> None:
    assert PAGE.read_text() == page(), "run `make docs`"


def test_every_fault_is_told_once() -> None:
    for name in FAULTS:
        assert page().count(f"| `{name}` |") == 1
