"""One pass over a delivery: the stored bytes are those that came, from wherever it went on."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from exports.landing.delivery import Delivered, file_chunks, take
from exports.landing.ndjson import DamagedGzip

ROWS = b"".join(b'{"resourceType":"Patient","id":"%d"}\n' % number for number in range(500))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_delivery_in_two_parts_is_the_same_delivery(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    body = pack(ROWS)
    whole = take([body], tmp_path / "whole", identities=tmp_path / "whole.ids")
    assert (tmp_path / "whole").read_bytes() == body
    assert whole.sha256 == hashlib.sha256(body).hexdigest()
    assert (whole.bytes, whole.unpacked) == (len(body), len(ROWS))
    assert whole.identities == hashlib.sha256((tmp_path / "whole.ids").read_bytes()).hexdigest()
    for stored in (1, 2, len(body) // 2, len(body) - 1, len(body)):
        (tmp_path / "part").write_bytes(body[:stored] + b"what came after it is cut off")
        parts = take(
            [body[stored:]], tmp_path / "part", stored=stored, identities=tmp_path / "part.ids"
        )
        assert parts == whole
        assert (tmp_path / "part").read_bytes() == body


def test_a_cut_gzip_is_noticed_from_wherever_it_went_on(tmp_path: Path) -> None:
    body = gzip.compress(ROWS)
    (tmp_path / "part").write_bytes(body[:100])
    with pytest.raises(DamagedGzip):
        take([body[100:-1]], tmp_path / "part", stored=100)


def test_what_is_recorded_can_be_read_again(tmp_path: Path) -> None:
    delivered = take([ROWS], tmp_path / "file")
    assert Delivered.from_json(delivered.to_json()) == delivered
    old = delivered.to_json()
    del old["unpacked"], old["identities"], old["unwrapped"]
    del old["judged"]["labelled"], old["judged"]["headers"]
    assert Delivered.from_json(old).judged == delivered.judged


def test_a_file_s_first_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 300_000 + b"y")
    assert b"".join(file_chunks(path)) == b"x" * 300_000 + b"y"
    assert b"".join(file_chunks(path, 300_000)) == b"x" * 300_000
    assert list(file_chunks(path, 0)) == []
