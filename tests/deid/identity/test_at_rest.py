"""The crosswalk at rest: unreadable without its key, the same digest under any."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deid.identity.custody import TABLES, open_crosswalk
from deid.identity.keys import key_in_force, load_key
from deid.identity.rekeying import rekey, use_key
from deid.identity.vault import read_encrypted, write_encrypted
from exports.errors import FhirloomError
from exports.sealed import MANIFEST
from tests.deid.identity.small_world import IDS, World, table, world

ROWS = pa.table({"patient_id": ["Anna-17", None], "surrogate": [7, 8]})
KEY, OTHER = bytes(range(32)), bytes(range(1, 33))


def private(path: Path, content: bytes, mode: int = 0o600) -> str:
    path.write_bytes(content)
    path.chmod(mode)
    return f"file:{path}"


@pytest.fixture
def made(tmp_path: Path) -> World:
    return world(tmp_path)


def test_what_is_written_is_read_with_the_key_alone(tmp_path: Path) -> None:
    path = tmp_path / "patients.parquet"
    write_encrypted(ROWS, path, KEY)
    assert read_encrypted(path, KEY).equals(ROWS)
    assert read_encrypted(path, KEY, ["surrogate"]).column_names == ["surrogate"]
    content = path.read_bytes()
    assert b"Anna" not in content
    assert b"patient_id" not in content
    with pytest.raises(FhirloomError, match="does not open with this key"):
        read_encrypted(path, OTHER)
    with pytest.raises(OSError, match="decryption"):
        pq.read_table(path)


def test_the_same_rows_have_the_same_hash_and_never_the_same_bytes(tmp_path: Path) -> None:
    path = tmp_path / "patients.parquet"
    hashes = {write_encrypted(ROWS, path, key) for key in (KEY, KEY, OTHER)}
    assert len(hashes) == 1
    first = path.read_bytes()
    write_encrypted(ROWS, path, OTHER)
    assert path.read_bytes() != first
    assert write_encrypted(ROWS.slice(1), path, KEY) not in hashes


@pytest.mark.parametrize("place", [4, 100, -40, -9])
def test_a_changed_byte_and_a_swapped_table_are_refused(tmp_path: Path, place: int) -> None:
    path = tmp_path / "patients.parquet"
    write_encrypted(ROWS, path, KEY)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(FhirloomError, match="does not open"):
        read_encrypted(path, KEY)
    write_encrypted(ROWS, path, KEY)
    path.rename(tmp_path / "issued.parquet")
    with pytest.raises(FhirloomError, match="does not open"):
        read_encrypted(tmp_path / "issued.parquet", KEY)
    pq.write_table(ROWS, path)
    with pytest.raises(FhirloomError, match="damaged"):
        read_encrypted(path, KEY)


def test_a_key_is_raw_or_hex_or_base64_by_file_or_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forms = [KEY, KEY.hex().encode(), KEY.hex().upper().encode() + b"\n", base64.b64encode(KEY)]
    for form in forms:
        assert load_key(private(tmp_path / "key", form)) == KEY
    monkeypatch.setenv("CROSSWALK_KEY", KEY.hex())
    assert load_key("env:CROSSWALK_KEY") == KEY


@pytest.mark.parametrize(
    ("content", "mode", "what"),
    [
        (KEY, 0o640, "Others can read"),
        (KEY[:-1], 0o600, "no key of 32 bytes"),
        (b"not hex, nor base64", 0o600, "no key of 32 bytes"),
        (KEY.hex().encode()[:-2], 0o600, "no key of 32 bytes"),
    ],
)
def test_what_is_no_key_is_refused(tmp_path: Path, content: bytes, mode: int, what: str) -> None:
    with pytest.raises(FhirloomError, match=what) as refused:
        load_key(private(tmp_path / "key", content, mode))
    assert refused.value.code == "bad-input"


@pytest.mark.parametrize("reference", ["", "key", "vault:x", "file:", "env:", "env:NOT_SET_HERE"])
def test_a_reference_to_nothing_is_refused(reference: str) -> None:
    with pytest.raises(FhirloomError, match=r"no reference|not set"):
        load_key(reference)


def test_a_crosswalk_says_nothing_without_its_key(made: World) -> None:
    walk = made.crosswalk()
    own = made.phi / "keys" / "crosswalk.key"
    assert own.stat().st_mode & 0o777 == 0o600
    words = [word.encode() for word in (*IDS, "patient_id", "surrogate")]
    numbers = [row["surrogate"].to_bytes(8, "little") for row in table(walk, "issued")]
    for path in walk.sealed.path.glob("*.parquet"):
        content = path.read_bytes()
        assert not [word for word in (*words, *numbers) if len(word) > 2 and word in content]
        assert path.stat().st_mode & 0o777 == 0o600
    own.rename(own.with_suffix(".elsewhere"))
    with pytest.raises(FhirloomError, match="can't be read"):
        made.crosswalk()
    with pytest.raises(FhirloomError, match="can't be read"):
        open_crosswalk(made.phi / "crosswalk")
    # Nothing made a new key in its place: the right one opens it still.
    own.with_suffix(".elsewhere").rename(own)
    assert made.crosswalk().sealed.digest == walk.sealed.digest


def test_another_key_is_refused_and_rekeying_changes_nothing_but_the_key(
    made: World, tmp_path: Path
) -> None:
    before = made.crosswalk()
    told = {name: before.read(name) for name in TABLES}
    wrong = private(tmp_path / "wrong", OTHER)
    with pytest.raises(FhirloomError, match="does not open"):
        use_key(made.phi, wrong)
    assert rekey(made.phi, wrong) == 1
    assert not (made.phi / "keys" / "crosswalk.key").exists()
    after = made.crosswalk()
    assert after.sealed.digest == before.sealed.digest
    assert after.sealed.path != before.sealed.path
    assert not before.sealed.path.exists()
    assert {name: after.read(name) for name in TABLES} == told
    assert rekey(made.phi, wrong) == 0
    closed = open_crosswalk(made.phi / "crosswalk", KEY)
    assert closed is not None
    with pytest.raises(FhirloomError, match="does not open"):
        closed.read("patients")


@pytest.mark.parametrize("name", ["patients.parquet", "issued.parquet", MANIFEST])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "flipped"])
def test_a_damaged_crosswalk_is_refused_and_never_drawn_anew(
    made: World, name: str, damage: str
) -> None:
    walk = made.crosswalk()
    place, before = walk.sealed.path / name, walk.read("patients")
    whole = place.read_bytes()
    place.unlink()
    if damage != "gone":
        flipped = bytes([whole[0] ^ 1]) + whole[1:]
        place.write_bytes({"empty": b"", "cut": whole[:20], "flipped": flipped}[damage])
    more = world(made.work, "two", years=(2020, 2022, 2023))
    with pytest.raises(FhirloomError) as refused:
        more.crosswalk()
    assert refused.value.code == "bad-input"
    place.write_bytes(whole)
    after = more.crosswalk().read("patients")
    assert set(after["surrogate"].to_pylist()) > set(before["surrogate"].to_pylist())


def test_a_key_that_moved_is_named_anew(made: World, tmp_path: Path) -> None:
    use_key(made.phi, private(tmp_path / "there", KEY))
    digest = made.crosswalk().sealed.digest
    (tmp_path / "there").rename(tmp_path / "here")
    with pytest.raises(FhirloomError, match="can't be read"):
        made.crosswalk()
    use_key(made.phi, f"file:{tmp_path / 'here'}")
    assert made.crosswalk().sealed.digest == digest
    assert key_in_force(made.phi) == KEY
    assert rekey(made.phi, private(tmp_path / "new", OTHER), old=f"file:{tmp_path / 'here'}") == 1


def test_the_manifest_holds_no_hash_that_can_be_guessed(made: World) -> None:
    """Of a short list of ids everybody can compute the hash; not of one mixed with surrogates."""
    manifest = json.loads((made.crosswalk().sealed.path / MANIFEST).read_text())
    guessed = write_encrypted(made.crosswalk().read("removed"), made.work / "removed.parquet", KEY)
    assert guessed not in json.dumps(manifest)
