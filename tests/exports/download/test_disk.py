"""Room on the disk: asked for before, and told when it runs out."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from exports.bulk.manifest import RemoteFile
from exports.download.disk import RESERVE, check_space, telling_when_full
from exports.errors import FhirloomError


def of(size: int | None) -> RemoteFile:
    return RemoteFile("files", "Patient.0001", "Patient", "http://127.0.0.1/a", None, size)


def test_files_that_fit_are_let_in(tmp_path: Path) -> None:
    check_space(tmp_path, [of(10**6), of(None)])
    check_space(tmp_path, [])


def test_too_little_room_is_told_in_figures(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    with pytest.raises(FhirloomError, match=r"needs .*[MGT]B and the disk has .* free") as raised:
        check_space(tmp_path, [of(free // 2), of(free)])
    assert raised.value.code == "bad-input"
    with pytest.raises(FhirloomError):
        check_space(tmp_path, [of(free - RESERVE // 2)])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_told_as_one() -> None:
    with (
        pytest.raises(FhirloomError, match="disk is full") as raised,
        telling_when_full("Patient.0001"),
    ):
        Path("/dev/full").write_bytes(b"x")
    assert (raised.value.code, raised.value.where) == ("bad-input", "Patient.0001")


def test_another_fault_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), telling_when_full("Patient.0001"):
        (tmp_path / "nowhere" / "x").write_bytes(b"x")
