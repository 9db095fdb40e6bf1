"""Sealed folders: complete when present, one for each key, whoever makes them at the same time."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from exports.errors import FhirloomError
from exports.sealed import MANIFEST, Sealed, Stage, find_sealed, open_sealed, sealing

STAGE = Stage("stage", 1, {"input": "digest"})


def test_a_folder_that_is_present_is_complete_and_named_by_what_made_it(tmp_path: Path) -> None:
    with pytest.raises(KeyError), sealing(tmp_path, STAGE) as draft:
        (draft.path / "half").write_text("half")
        raise KeyError
    assert find_sealed(tmp_path, STAGE) is None
    with sealing(tmp_path, STAGE) as draft:
        assert not (draft.path / "half").exists()
        (draft.path / "whole").write_text("whole")
    found = find_sealed(tmp_path, STAGE)
    assert found is not None
    assert found.digest == draft.result.digest
    assert list(json.loads((found.path / MANIFEST).read_text())["files"]) == ["whole"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"key": "k"}', "\0"])
def test_a_damaged_manifest_is_told(tmp_path: Path, content: str) -> None:
    with sealing(tmp_path, STAGE) as draft:
        (draft.path / "file").write_text("content")
    (draft.result.path / MANIFEST).write_text(content)
    with pytest.raises(FhirloomError, match="manifest of a sealed folder is damaged"):
        find_sealed(tmp_path, STAGE)


def test_two_at_a_time_take_turns_and_what_is_sealed_first_stands(tmp_path: Path) -> None:
    made: list[Sealed] = []
    both = threading.Barrier(2)

    def seal(content: str) -> None:
        both.wait()
        with sealing(tmp_path, STAGE) as draft:
            for number in range(50):
                (draft.path / f"{number}").write_text(content)
        made.append(draft.result)

    threads = [threading.Thread(target=seal, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first, second = made
    assert first.digest == second.digest
    assert (first.fresh, second.fresh) == (True, False)
    sealed = open_sealed(tmp_path / "current")
    assert sealed is not None
    assert len({(sealed.path / f"{number}").read_text() for number in range(50)}) == 1


def test_a_private_folder_is_for_its_owners_eyes_alone(tmp_path: Path) -> None:
    with sealing(tmp_path / "phi", STAGE, mode=0o700) as draft:
        (draft.path / "inner").mkdir()
        (draft.path / "inner" / "file").write_text("content")
    modes = {path.stat().st_mode & 0o777 for path in draft.result.path.rglob("*") if path.is_file()}
    assert modes == {0o600}
    assert (draft.result.path / "inner").stat().st_mode & 0o777 == 0o700
