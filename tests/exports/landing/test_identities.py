"""Hashes of ids count what sets of ids would count, in a fraction of the room."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exports.landing import identities
from exports.landing.identities import IdHashes, hash_ids, repeated

IDS = st.one_of(
    st.integers(0, 30).map(str),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=70),
    st.sampled_from(["a" * 64, "a" * 65, "a" * 66, "é", "e\0", "e"]),
)
FILES = st.lists(
    st.lists(st.tuples(st.sampled_from(["Patient", "Observation"]), IDS), max_size=40), max_size=5
)


def hashes_of(rows: list[tuple[str, str]]) -> IdHashes:
    hashes = IdHashes()
    for resource_type, name in rows:
        hashes.add(resource_type, [name])
    return hashes


@settings(deadline=None)
@given(FILES, st.sampled_from([1, 7, 2**20]), st.sampled_from([1, 2**14]))
def test_hashes_count_as_sets_do(
    files: list[list[tuple[str, str]]], at_once: int, batch: int
) -> None:
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(identities, "AT_ONCE", at_once)
        patch.setattr(identities, "BATCH", batch)
        patch.setattr(identities, "MAPPED", 10)
        paths, expected = [], Counter[str]()
        for number, rows in enumerate(files):
            path = Path(folder) / str(number)
            hashes = hashes_of(rows)
            hashes.write(path)
            paths.append(path)
            assert hashes.distinct() == Counter(name for name, _ in set(rows))
            expected.update(name for name, _ in set(rows))
        expected.subtract(name for name, _ in {row for rows in files for row in rows})
        assert repeated(paths) == {name: count for name, count in expected.items() if count}


def test_the_file_depends_on_the_ids_alone(tmp_path: Path) -> None:
    rows = [("Patient", str(number)) for number in range(1000)]
    once, twice = tmp_path / "once", tmp_path / "twice"
    assert hashes_of(rows).write(once) == hashes_of(rows[::-1] + rows[:9]).write(twice)
    assert once.read_bytes() == twice.read_bytes()
    assert once.stat().st_size == len(b'{"Patient":1000}\n') + 8 * 1000


@pytest.mark.parametrize("pattern", ["{}", "{:064d}", "{0:08x}-0000-0000-0000-{0:012x}", "x{:x}"])
def test_ids_that_look_alike_do_not_share_a_hash(pattern: str) -> None:
    count = 200_000
    hashes = hash_ids([pattern.format(number) for number in range(count)])
    assert len(set(hashes.tolist())) == count
    halves = {(value >> 32) for value in hashes.tolist()}
    # Of 200,000 random numbers of 32 bits, some five meet another.
    assert len(halves) > count - 30


def test_hashes_are_the_same_on_every_machine() -> None:
    assert hash_ids(["1", "a" * 64]).tolist() == [812420545484800700, 6589202619484444745]
