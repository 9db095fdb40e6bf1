"""What was damaged in a work folder is told by its folder, not as a defect."""

from __future__ import annotations

from pathlib import Path

import pytest

from exports.errors import FhirloomError
from exports.sealed import Stage as Sealing
from exports.sealed import sealing
from flows.display import display
from flows.settings import Settings, load_settings, save_settings
from flows.stages import Done, Stage, run
from flows.work import Work, open_work


def failing(*_: object) -> Done:
    raise OSError("a line of somebody")


@pytest.fixture
def work(tmp_path: Path) -> Work:
    folder = open_work(tmp_path / "work")
    with sealing(folder.phi / "extract", Sealing("extract", 1, {})) as draft:
        (draft.path / "patient.parquet").write_text("rows")
    return folder


@pytest.mark.parametrize("damage", ["gone", "changed", "no manifest", None])
def test_a_stage_that_fails_over_a_damaged_folder_names_it(work: Work, damage: str | None) -> None:
    sealed = (work.phi / "extract" / "current").resolve()
    match damage:
        case "gone":
            (sealed / "patient.parquet").unlink()
        case "changed":
            (sealed / "patient.parquet").write_text("row")
        case "no manifest":
            (sealed / "manifest.json").unlink()
    with pytest.raises(FhirloomError) as refused:
        run(Stage("deid", failing), work, display())
    assert refused.value.code == ("internal" if damage is None else "bad-input")
    assert "somebody" not in str(refused.value)
    assert damage is None or refused.value.where == f"phi/extract/{sealed.name}"
    assert (work.phi / "logs" / f"{refused.value.ref}.log").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"seed": 7}', '{"server": 5}'])
def test_settings_that_cannot_be_read_are_told(work: Work, content: str) -> None:
    save_settings(Settings(), work.phi)
    assert load_settings(work.phi) == Settings()
    (work.phi / "settings.json").write_text(content)
    with pytest.raises(FhirloomError, match="settings can't be read") as refused:
        load_settings(work.phi)
    assert refused.value.code == "bad-input"
