"""What may be told of an exception, and what stays in phi/logs."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from exports.errors import FhirloomError, value_free


def test_a_defect_is_told_by_its_kind_and_its_detail_is_for_the_owner(tmp_path: Path) -> None:
    told = value_free(ValueError("Hamanov\u00e1"), stage="export", phi=tmp_path)
    assert told.code == "internal"
    assert "Haman" not in str(told)
    log = tmp_path / "logs" / f"{told.ref}.log"
    assert "Hamanov\u00e1" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_a_full_disk_is_told_without_writing_anything(tmp_path: Path, number: int) -> None:
    told = value_free(OSError(number, "no room"), stage="export", phi=tmp_path / "phi")
    assert told.code == "bad-input"
    assert "no room on the disk" in told.what
    assert not (tmp_path / "phi").exists()


def test_an_error_that_holds_no_value_goes_on_as_it_is(tmp_path: Path) -> None:
    error = FhirloomError("server", "what", where="where", fix="fix")
    assert value_free(error, stage="export", phi=tmp_path) is error
