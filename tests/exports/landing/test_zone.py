"""A folder of NDJSON becomes a landing zone in which every line is accounted for."""

from __future__ import annotations

import gzip
import tempfile
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exports.errors import FhirloomError
from exports.landing.delivery import take
from exports.landing.narrowing import Narrowing
from exports.landing.screening import Screen
from exports.landing.sieve import Sieve
from exports.landing.zone import Arrival, LandingZone, land_folder, open_landing, seal_landing


def row(resource_type: str, resource_id: str, **more: Any) -> bytes:
    return orjson.dumps({"resourceType": resource_type, "id": resource_id, **more})


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


def test_all_of_a_zone_is_for_its_owners_eyes(source: Path, phi: Path) -> None:
    (source / "deep").mkdir()
    (source / "deep" / "p.ndjson").write_bytes(row("Patient", "1") + b"\n7")
    (source / "q.ndjson").write_bytes(row("Patient", "2", meta={"tag": [{"code": "HTEST"}]}))
    zone = land_folder(source, phi)
    modes = {path: path.stat().st_mode & 0o777 for path in phi.rglob("*") if not path.is_symlink()}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    assert {path.name for path in zone.sealed.path.iterdir()} == {
        "clean",
        "excluded.ndjson",
        "files",
        "manifest.json",
        "quarantine.ndjson",
    }


def header(patient: str) -> bytes:
    value = {"name": "header", "valueReference": {"reference": f"Patient/{patient}"}}
    return orjson.dumps({"resourceType": "Parameters", "parameter": [value]})


def test_headers_of_files_by_patient_are_neither_rows_nor_bad(source: Path, phi: Path) -> None:
    test = row("Patient", "3", meta={"security": [{"code": "HTEST"}]})
    lines = [header("1"), row("Patient", "1"), row("Group", "1"), header("2"), row("Patient", "2")]
    (source / "a.ndjson").write_bytes(b"\n".join(lines))
    (source / "b.ndjson").write_bytes(b"\n".join([header("3"), test]))
    (source / "c.ndjson").write_bytes(b"\n".join([header("3"), row("Patient", "4")]))
    zone = land_folder(source, phi)
    assert zone.rows() == {"Group": 1, "Patient": 3}
    assert zone.quarantined == {}
    assert zone.excluded == {"test-patient": 1}
    assert not (zone.sealed.path / "quarantine.ndjson").exists()
    kept = [path.name for path in (zone.sealed.path / "files").iterdir()]
    assert kept == ["a.ndjson"]


def seal(phi: Path, bundles: Sequence[bytes], **more: Any) -> LandingZone:
    """A zone as a bulk export makes it."""

    def bring(folder: Path) -> list[Arrival]:
        (folder / "deleted").mkdir()
        (folder / "deleted" / "Bundle.0001.ndjson.gz").write_bytes(
            gzip.compress(b"\n".join(bundles))
        )
        delivered = take([row("Patient", "1")], folder / "files" / "p.ndjson")
        return [Arrival("p.ndjson", "Patient", delivered)]

    facts = {"source": "bulk", "transaction_time": None, "server_rows": {"Patient": 1}, "errors": 0}
    return seal_landing(phi, "spec", bring, {**facts, **more})


def test_deletions_are_told_as_types_and_ids(phi: Path) -> None:
    urls = ["Patient/1", "/Group/2", "https://x/fhir/Device/3/_history/4", "Patient", "Nobody/5"]
    entries = [{"request": {"method": "DELETE", "url": url}} for url in urls]
    put = {"request": {"method": "PUT", "url": "Patient/6"}}
    bundle = row("Bundle", "b", entry=[*entries, put, 7])
    zone = seal(phi, [bundle, b"", row("Bundle", "c"), b"{"], deleted_reported=True)
    assert list(zone.deletions()) == [("Patient", "1"), ("Group", "2"), ("Device", "3")]
    assert zone.deleted_reported
    assert not seal(phi.with_name("other"), []).deleted_reported


def test_a_folder_tells_of_no_deletions(source: Path, phi: Path) -> None:
    (source / "p").write_bytes(row("Patient", "1"))
    zone = land_folder(source, phi)
    assert list(zone.deletions()) == []
    assert not zone.deleted_reported


def test_a_zone_is_no_larger_than_what_was_delivered(source: Path, phi: Path) -> None:
    for number in range(3):
        rows = b"\n".join(row("Observation", f"{number}-{n}") for n in range(999))
        (source / f"{number}.ndjson.gz").write_bytes(gzip.compress(rows))
    zone = land_folder(source, phi)
    delivered = sum(path.stat().st_size for path in source.iterdir())
    files = [path for path in zone.sealed.path.rglob("*") if path.is_file()]
    landed = sum(path.stat().st_size for path in files if path.name != "manifest.json")
    assert landed == delivered


IDS = st.sampled_from("abc")
ROWS = st.builds(
    lambda kind, name, patient, code, mark: row(
        kind,
        name,
        subject={"reference": f"Patient/{patient}"},
        code={"coding": [{"code": code}]},
        meta={"tag": [{"code": mark}], "lastUpdated": "2024-01-01T00:00:00Z"},
    ),
    st.sampled_from(["Observation", "Condition", "Patient"]),
    IDS,
    IDS,
    st.sampled_from("12"),
    st.sampled_from(["HTEST", "", ""]),
)
LINES = st.one_of(ROWS, ROWS, ROWS, st.sampled_from([b"", b"{", b"[]", header("a"), header("c")]))
NARROWINGS = st.builds(
    Narrowing,
    types=st.sampled_from([(), ("Observation", "Patient")]),
    since=st.sampled_from(
        [None, datetime(2023, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC)]
    ),
    patients=st.sampled_from([(), ("a", "b")]),
    elements=st.sampled_from([(), ("id",)]),
    type_filters=st.sampled_from([(), ("Observation?code=1",)]),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    files=st.lists(st.lists(LINES, max_size=7), min_size=1, max_size=3),
    sieve=st.builds(Sieve, st.builds(Screen, st.booleans()), NARROWINGS),
)
def test_every_line_is_kept_or_accounted_for(files: list[list[bytes]], sieve: Sieve) -> None:
    if not any(b'"id"' in line for file in files for line in file):
        return
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "source"
        source.mkdir()
        for number, lines in enumerate(files):
            (source / f"{number}.ndjson").write_bytes(b"\n".join(lines))
        zone = land_folder(source, Path(name) / "phi", sieve=sieve)
        delivered = [
            line for lines in files for line in lines if line and b'"Parameters"' not in line
        ]
        kept = [line for kind in zone.rows() for line in read(zone.paths(kind)) if line]
        left_out = [zone.quarantined, zone.excluded, zone.narrowed]
        assert len(kept) == sum(zone.rows().values())
        assert len(kept) + sum(map(sum, map(dict.values, left_out))) == len(delivered)
        if not sieve.narrowing.elements:
            assert not Counter(kept) - Counter(delivered)
        for line in kept:
            assert sieve.narrowing.refused(orjson.loads(line)) == ""
