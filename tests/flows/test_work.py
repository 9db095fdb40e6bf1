from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest

from exports.errors import FhirloomError
from exports.sealed import Stage, sealing
from flows.server import ServerSettings
from flows.settings import Settings, landed_by, load_settings, record_landed, save_settings
from flows.work import at_work, open_work


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_the_identified_zone_is_its_owners_alone(tmp_path: Path) -> None:
    work = open_work(tmp_path / "new" / "work")
    assert mode(work.phi) == 0o700
    assert work.research.is_dir()


def test_a_zone_that_others_can_read_is_closed_to_them(tmp_path: Path) -> None:
    (tmp_path / "phi").mkdir(mode=0o755)
    (tmp_path / "phi").chmod(0o755)
    assert mode(open_work(tmp_path).phi) == 0o700


def test_a_zone_that_cannot_be_closed_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "phi").mkdir()
    (tmp_path / "phi").chmod(0o755)
    monkeypatch.setattr(Path, "chmod", lambda *_: None)  # as FAT and some network shares do
    with pytest.raises(FhirloomError, match="own or can read"):
        open_work(tmp_path)


def test_a_zone_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "phi").mkdir(mode=0o700)
    stranger = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: stranger)
    with pytest.raises(FhirloomError, match="own or can read"):
        open_work(tmp_path)


def test_a_zone_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "phi").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FhirloomError, match="own or can read"):
        open_work(tmp_path)


def test_a_file_is_no_work_folder(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("")
    with pytest.raises(FhirloomError, match="can't be used"):
        open_work(tmp_path / "work")


def test_one_run_at_a_time(tmp_path: Path) -> None:
    work = open_work(tmp_path)
    with (work.phi / ".lock").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(FhirloomError, match="Another run"), at_work(work):
            pass
    with at_work(work), at_work(work):  # the command for its flow
        pass
    with at_work(work):
        pass


def test_settings_are_kept_for_their_owner(tmp_path: Path) -> None:
    server = ServerSettings("https://ehr.example/fhir", group="g1", types=("Patient",))
    settings = Settings(server=server)
    save_settings(settings, tmp_path)
    assert load_settings(tmp_path) == settings
    assert mode(tmp_path / "settings.json") == 0o600


def test_settings_belong_to_the_very_landing_zone_that_they_gave(tmp_path: Path) -> None:
    landings = []
    for name in ("first", "second"):
        with sealing(tmp_path / "landing", Stage("landing", 1, {}, name)) as draft:
            (draft.path / name).write_text(name)
        landings.append(draft.result)
    first, second = landings
    assert landed_by(first, tmp_path) is None
    record_landed(Settings(), first, tmp_path)
    assert landed_by(first, tmp_path) == Settings()
    assert landed_by(second, tmp_path) is None
