from __future__ import annotations

import time

import pytest

from flows import display


def test_lines_tell_of_a_stage_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(display, "LINE_SECONDS", 0.02)
    with display.Lines().stage("export") as progress:
        progress(1200, 3000, "rows")
        time.sleep(0.1)
    first, *between, last = capsys.readouterr().err.splitlines()
    assert first == "export: started"
    assert set(between) == {"export: 1,200 of 3,000 rows"}
    assert last.startswith("export: done in ")


@pytest.mark.parametrize("shown", [display.Lines(), display.Bars()])
def test_a_failed_stage_is_shown_as_failed(
    shown: display.Display, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="broken"), shown.stage("deid"):
        raise ValueError("broken")
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(("deid: failed after ", "✗ deid"))


def test_a_bar_leaves_a_line_behind(capsys: pytest.CaptureFixture[str]) -> None:
    with display.Bars().stage("train") as progress:
        progress(1, None, "polls")
        progress(5, 5, "steps")
    told = capsys.readouterr()
    assert told.err.splitlines()[-1].startswith("✓ train")
    assert told.out == ""


def test_bars_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(display.display(), display.Lines)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert isinstance(display.display(), display.Bars)
