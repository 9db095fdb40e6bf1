"""A folder of NDJSON becomes a landing zone in which every line is accounted for."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from exports.errors import FhirloomError
from exports.landing import LandingZone, land_folder, open_landing


def row(resource_type: str, resource_id: str) -> bytes:
    return orjson.dumps({"resourceType": resource_type, "id": resource_id})


def read(paths: list[Path]) -> list[bytes]:
    contents = [path.read_bytes() for path in paths]
    plain = [
        gzip.decompress(content) if path.suffix == ".gz" else content
        for path, content in zip(paths, contents, strict=True)
    ]
    return [line for content in plain for line in content.splitlines()]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    return folder


@pytest.fixture
def phi(tmp_path: Path) -> Path:
    return tmp_path / "work" / "phi"


def quarantine_of(zone: LandingZone) -> list[dict[str, object]]:
    log = zone.sealed.path / "quarantine.ndjson"
    return [orjson.loads(line) for line in log.read_bytes().splitlines()]


def test_any_names_nested_plain_or_packed(source: Path, phi: Path) -> None:
    (source / "deep" / "er").mkdir(parents=True)
    (source / "p.txt").write_bytes(row("Patient", "1") + b"\n" + row("Patient", "2"))
    (source / "deep" / "p").write_bytes(gzip.compress(row("Patient", "3")))
    (source / "deep" / "er" / "o.ndjson.gz").write_bytes(gzip.compress(row("Observation", "1")))
    (source / ".hidden").write_bytes(row("Patient", "hidden"))
    zone = land_folder(source, phi)
    assert zone.rows() == {"Observation": 1, "Patient": 3}
    assert sorted(read(zone.paths("Patient"))) == [row("Patient", number) for number in "123"]
    assert {path.name for path in zone.paths("Patient")} == {"p.txt.ndjson", "p.ndjson.gz"}
    assert zone.quarantined == {}
    assert zone.paths("Device") == []
    assert open_landing(phi).sealed.digest == zone.sealed.digest
    assert phi.stat().st_mode & 0o777 == 0o700


def test_bad_lines_are_kept_apart_with_place_and_reason(source: Path, phi: Path) -> None:
    lines = [row("Patient", "1"), b"{", b"", b'{"resourceType":"Patient"}', row("Patient", "2")]
    (source / "Patient.ndjson").write_bytes(b"\n".join(lines))
    zone = land_folder(source, phi)
    assert read(zone.paths("Patient")) == [lines[0], lines[4]]
    assert zone.quarantined == {"no-id": 1, "not-json": 1}
    (file,) = zone.files
    assert (file.rows, file.ids, file.quarantined) == (2, 2, 2)
    start = len(lines[0]) + 1
    assert quarantine_of(zone) == [
        {"file": "Patient.ndjson", "line": 2, "offset": start, "reason": "not-json"},
        {"file": "Patient.ndjson", "line": 4, "offset": start + 3, "reason": "no-id"},
    ]
    delivered = zone.sealed.path / "files" / "Patient.ndjson"
    assert delivered.read_bytes() == (source / "Patient.ndjson").read_bytes()


def test_a_file_of_several_types_is_read_type_by_type(source: Path, phi: Path) -> None:
    mixed = [row("Patient", "1"), row("Encounter", "1"), row("Patient", "1"), b"7"]
    (source / "all.ndjson.gz").write_bytes(gzip.compress(b"\n".join(mixed)))
    zone = land_folder(source, phi)
    assert read(zone.paths("Patient")) == [mixed[0], mixed[2]]
    assert read(zone.paths("Encounter")) == [mixed[1]]
    told = [(file.type, file.rows, file.ids, file.quarantined) for file in zone.files]
    assert told == [("Encounter", 1, 1, 1), ("Patient", 2, 1, 0)]


def test_clean_copies_of_files_with_like_names_do_not_meet(source: Path, phi: Path) -> None:
    (source / "a.ndjson").write_bytes(row("Patient", "1") + b"\n7")
    (source / "a.ndjson.gz").write_bytes(gzip.compress(row("Patient", "2") + b"\n7"))
    (source / "a").write_bytes(row("Patient", "3"))
    zone = land_folder(source, phi)
    assert sorted(read(zone.paths("Patient"))) == [row("Patient", number) for number in "123"]


def test_files_that_hold_no_resource_are_set_aside_whole(source: Path, phi: Path) -> None:
    (source / "Patient.ndjson").write_bytes(row("Patient", "1"))
    (source / "README.md").write_text("# About\n\nNothing to see.\n")
    (source / "manifest.json").write_text('{\n "output": []\n}\n')
    zone = land_folder(source, phi)
    assert zone.rows() == {"Patient": 1}
    assert zone.quarantined == {"no-resources": 5}
    assert [entry["reason"] for entry in quarantine_of(zone)] == ["no-resources"] * 2


def test_the_same_folder_again_is_the_same_zone(source: Path, phi: Path, tmp_path: Path) -> None:
    (source / "p.ndjson").write_bytes(row("Patient", "1") + b"\n7")
    first = land_folder(source, phi)
    again = land_folder(source, phi)
    elsewhere = land_folder(source, tmp_path / "other" / "phi")
    assert first.sealed.fresh
    assert not again.sealed.fresh
    assert first.sealed.digest == again.sealed.digest == elsewhere.sealed.digest
    later = land_folder(source, phi, transaction_time=datetime(2026, 1, 1, tzinfo=UTC))
    assert later.sealed.key != first.sealed.key
    assert later.transaction_time == datetime(2026, 1, 1, tzinfo=UTC)
    assert first.transaction_time is None


@pytest.mark.parametrize("damage", [slice(None, -9), slice(None, 12)])
def test_a_gzip_cut_short_is_refused_by_its_place(source: Path, phi: Path, damage: slice) -> None:
    (source / "good.ndjson").write_bytes(row("Patient", "1"))
    (source / "cut.ndjson.gz").write_bytes(gzip.compress(row("Patient", "2") * 9)[damage])
    with pytest.raises(FhirloomError) as raised:
        land_folder(source, phi)
    place = "file 1 of 2, in the order of their names"
    assert (raised.value.code, raised.value.where) == ("bad-input", place)
    with pytest.raises(FhirloomError):
        open_landing(phi)


def test_nothing_to_land_is_bad_input(source: Path, phi: Path) -> None:
    with pytest.raises(FhirloomError, match="no FHIR resource"):
        land_folder(source, phi)
    (source / "notes.txt").write_text("no resource\n")
    with pytest.raises(FhirloomError, match="no FHIR resource"):
        land_folder(source, phi)
    with pytest.raises(FhirloomError, match="no FHIR resource"):
        land_folder(source / "missing", phi)


def test_a_byte_order_mark_costs_no_row(source: Path, phi: Path) -> None:
    (source / "p.ndjson").write_bytes(b"\xef\xbb\xbf" + row("Patient", "1") + b"\r\n")
    zone = land_folder(source, phi)
    assert [orjson.loads(line)["id"] for line in read(zone.paths("Patient"))] == ["1"]
    assert zone.quarantined == {}
