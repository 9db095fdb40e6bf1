"""Each landed file has one record of where it came from, which names hashes and no secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from exports.landing.provenance import write_provenance
from exports.landing.zone import LandingZone, land_folder
from exports.sealed import hash_file


def landed(tmp_path: Path) -> tuple[Path, LandingZone]:
    source = tmp_path / "source"
    source.mkdir()
    patient = b'{"resourceType":"Patient","id":"1"}'
    (source / "a.ndjson").write_bytes(patient)
    (source / "b.ndjson").write_bytes(patient + b'\n7\n{"resourceType":"Group","id":"1"}')
    test = patient[:-1] + b',"meta":{"tag":[{"code":"HTEST"}]}}'
    (source / "c.ndjson").write_bytes(test.replace(b'"1"', b'"2"'))
    phi = tmp_path / "phi"
    return phi, land_folder(source, phi)


def records(path: Path) -> list[dict[str, Any]]:
    return [orjson.loads(line) for line in path.read_bytes().splitlines()]


def test_a_folder_is_recorded_by_the_names_of_its_files(tmp_path: Path) -> None:
    phi, zone = landed(tmp_path)
    path = phi / "provenance" / f"{zone.sealed.path.name}.ndjson"
    assert path.stat().st_mode & 0o777 == 0o600
    first, second = records(path)
    assert first["resourceType"] == "Provenance"
    assert set(first) == {
        "resourceType",
        "id",
        "target",
        "recorded",
        "activity",
        "agent",
        "entity",
    }
    assert first["entity"][0]["what"]["identifier"]["value"] == "a.ndjson"
    assert [target["display"] for target in first["target"]] == ["files/a.ndjson"]
    assert [target["display"] for target in second["target"]] == [
        "files/b.ndjson",
        "clean/b.ndjson.Group.ndjson.gz",
        "clean/b.ndjson.Patient.ndjson.gz",
    ]
    for record in (first, second):
        for target in record["target"]:
            digest = target["identifier"]["value"].removeprefix("nih:sha-256;")
            assert hash_file(zone.sealed.path / target["display"]) == digest


def test_urls_lose_their_signatures_and_a_record_is_written_once(tmp_path: Path) -> None:
    phi, zone = landed(tmp_path)
    (phi / "provenance" / f"{zone.sealed.path.name}.ndjson").unlink()
    origins = {"a.ndjson": "https://u:pw@x.example.org/f/1?sig=s#t"}
    path = write_provenance(phi, zone, origins)
    content = path.read_bytes()
    found = records(path)[0]["entity"][0]
    assert found["role"] == "source"
    assert found["what"]["identifier"]["value"] == "https://x.example.org/f/1"
    assert zone.files[0].sha256 in found["what"]["display"]
    assert write_provenance(phi, zone, {}).read_bytes() == content
