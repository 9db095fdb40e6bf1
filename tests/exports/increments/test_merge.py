"""Delivered zones merged: the same rows as one export of all, and nothing that is gone."""

from __future__ import annotations

import gzip
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import orjson
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exports.bulk.export import export
from exports.increments.merge import merge
from exports.increments.standing import Delivery
from exports.landing.delivery import take
from exports.landing.ndjson import read_lines, unpack
from exports.landing.screening import Screen
from exports.landing.sieve import Sieve
from exports.landing.zone import (
    TEST_PATIENTS_OUT,
    Arrival,
    LandingZone,
    open_landing,
    seal_landing,
)
from exports.sealed import hash_file, hash_json
from tests.exports.versioned_ehr import Hospital, VersionedEhr, served

Row = tuple[str, str, bytes]
ROOT = Path(__file__).parents[3]


def rows_of(zone: LandingZone) -> list[Row]:
    """Every row that a reader of the zone sees."""
    found: list[Row] = []
    for resource_type in zone.rows():
        for path in zone.paths(resource_type):
            content = path.read_bytes()
            plain = gzip.decompress(content) if path.suffix == ".gz" else content
            found += [
                (resource_type, orjson.loads(line)["id"], line)
                for line in plain.splitlines()
                if line.strip()
            ]
    return sorted(found)


def ids_of(zone: LandingZone) -> list[str]:
    return [f"{resource_type}/{resource_id}" for resource_type, resource_id, _ in rows_of(zone)]


def merged(phi: Path, *zones: LandingZone, **terms: Any) -> LandingZone:
    return merge(phi, [Delivery(zone) for zone in zones], **terms)


def patient(resource_id: str, updated: str = "", **elements: Any) -> dict[str, Any]:
    meta = {"meta": {"lastUpdated": updated}} if updated else {}
    return {"resourceType": "Patient", "id": resource_id, **meta, **elements}


def observation(resource_id: str, of: str, updated: str = "", **elements: Any) -> dict[str, Any]:
    subject = {"subject": {"reference": f"Patient/{of}"}}
    return patient(resource_id, updated, **subject, **elements) | {"resourceType": "Observation"}


def lines_of(rows: Sequence[dict[str, Any] | bytes]) -> bytes:
    return b"".join((row if isinstance(row, bytes) else orjson.dumps(row)) + b"\n" for row in rows)


class Deliveries:
    """Seals zones, a day apart."""

    def __init__(self, phi: Path) -> None:
        self.phi = phi
        self.made = 0

    def __call__(
        self,
        *files: Sequence[dict[str, Any] | bytes],
        deleted: Sequence[str | bytes] = (),
        sieve: Sieve = TEST_PATIENTS_OUT,
    ) -> LandingZone:
        self.made += 1

        def bring(folder: Path) -> list[Arrival]:
            if deleted:
                entries = [
                    {"request": {"method": "DELETE", "url": url}}
                    for url in deleted
                    if isinstance(url, str)
                ]
                bundle = {"resourceType": "Bundle", "entry": entries}
                (folder / "deleted").mkdir()
                told: list[dict[str, Any] | bytes] = [bundle]
                told += (url for url in deleted if isinstance(url, bytes))
                (folder / "deleted" / "Bundle.0001.ndjson").write_bytes(lines_of(told))
            arrivals = []
            for number, rows in enumerate(files):
                name = f"{number}.ndjson"
                arrived = take([lines_of(rows)], folder / "files" / name)
                arrivals.append(Arrival(name, "", arrived))
            return arrivals

        day = datetime(2026, 2, self.made, tzinfo=UTC)
        facts = {
            "source": "bulk",
            "transaction_time": day.isoformat(),
            "server_rows": None,
            "errors": 0,
        }
        return seal_landing(self.phi, hash_json([self.made]), bring, facts, sieve=sieve)


@pytest.fixture
def phi(tmp_path: Path) -> Path:
    return tmp_path / "phi"


@pytest.fixture
def deliver(phi: Path) -> Deliveries:
    return Deliveries(phi)


@pytest.fixture(scope="module")
def ehr() -> Iterator[VersionedEhr]:
    with served() as server:
        yield server


TYPES = st.sampled_from(["Patient", "Observation"])
STEPS = st.one_of(
    st.tuples(st.just("put"), TYPES, st.sampled_from("abcde")),
    st.tuples(st.sampled_from(["put", "delete"]), TYPES, st.sampled_from("abc")),
    st.tuples(st.sampled_from(["tick", "cut"]), st.just(""), st.just("")),
)


def live(hospital: Hospital, steps: list[Any]) -> Iterator[None]:
    """Live through a history, pausing wherever it is cut and at its end."""
    for written, (what, resource_type, resource_id) in enumerate([*steps, ("cut", "", "")]):
        match what:
            case "put":
                hospital.put(resource_type, resource_id, number=written)
            case "delete":
                hospital.delete(resource_type, resource_id)
            case "tick":
                hospital.tick()
            case "cut":
                yield
                hospital.tick()


HISTORIES = st.lists(STEPS, min_size=4, max_size=20)


@settings(max_examples=15, deadline=None)
@given(HISTORIES, st.booleans(), st.booleans())
def test_increments_merged_are_all_that_stands(
    steps: list[Any], repeats: bool, tells_updates: bool
) -> None:
    """However the history was cut into increments: what stands at its end knows of no cut."""
    with tempfile.TemporaryDirectory() as folder:
        deliver, zones = Deliveries(Path(folder)), list[LandingZone]()
        since: dict[str, str] = {}
        hospital = Hospital(repeats=repeats, tells_updates=tells_updates)
        for _ in live(hospital, steps):
            snapshot = hospital.export("system", "", since)
            zones.append(deliver(*snapshot["rows"].values(), deleted=snapshot["deleted"]))
            since = {"_since": hospital.now.isoformat()}
        standing = [(*key, orjson.dumps(content)) for key, content in hospital.current.items()]
        assert rows_of(merged(deliver.phi, *zones)) == sorted(standing)


@settings(max_examples=3, deadline=None)
@given(HISTORIES)
def test_increments_merged_are_the_full_export(ehr: VersionedEhr, steps: list[Any]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        phi, hospital = Path(folder), Hospital(repeats=True)
        request, zones = ehr.open(hospital), list[LandingZone]()
        for _ in live(hospital, steps):
            since = zones[-1].transaction_time if zones else None
            zones.append(export(replace(request, since=since), phi))
        full = export(request, phi / "full")
        whole = merged(phi, *zones)
        assert rows_of(whole) == sorted(set(rows_of(full)))
        assert rows_of(merged(phi, whole, full)) == rows_of(whole)


def test_the_newest_stands_as_an_instant_and_a_missing_time_is_oldest(
    phi: Path, deliver: Deliveries
) -> None:
    noon = "2026-01-01T12:00:00Z"
    first = deliver(
        [
            patient("zones", "2026-01-01T14:30:00+02:00", stands=True),
            patient("fractions", "2026-01-01T12:00:00.1000001Z", stands=True),
            patient("leap", "2016-12-31T23:59:60Z"),
            patient("unknown", noon, stands=True),
            patient("unreadable", noon, stands=True),
            patient("untold"),
            patient("equal", noon),
        ]
    )
    second = deliver(
        [
            patient("zones", noon),
            patient("fractions", "2026-01-01T12:00:00.1Z"),
            patient("leap", "2017-01-01T00:00:00.5Z", stands=True),
            patient("unknown"),
            patient("unreadable", "yesterday"),
            patient("untold", stands=True),
            patient("equal", "2026-01-01T13:00:00+01:00", stands=True),
        ]
    )
    zone = merged(phi, first, second)
    assert zone.rows() == {"Patient": 7}
    assert all(orjson.loads(line).get("stands") for _, _, line in rows_of(zone))


def test_ties_within_a_delivery_are_broken_by_content_whatever_their_order(
    phi: Path, deliver: Deliveries
) -> None:
    noon = "2026-01-01T12:00:00Z"
    versions = [patient("a", noon, number=number) for number in range(5)]
    greatest = max(map(orjson.dumps, versions), key=lambda line: sha256(line).digest())
    for rows in ([*versions, *versions], [*reversed(versions), versions[0]]):
        zone = merged(phi, deliver(rows[:3], rows[3:]))
        assert rows_of(zone) == [("Patient", "a", greatest)]


def test_a_deletion_takes_what_was_there_before_it(phi: Path, deliver: Deliveries) -> None:
    later = "2026-01-05T00:00:00Z"
    zone = merged(
        phi,
        deliver([patient("gone", later), patient("back"), patient("kept"), patient("both")]),
        deliver(
            [observation("gone", "kept"), patient("both", stands=True)],
            deleted=["Patient/gone", "https://ehr.example/fhir/Patient/back", "Patient/both"],
        ),
        deliver([patient("back", stands=True)], deleted=["Patient/kept/_history/2", b"{"]),
        deliver([patient("late")]),
    )
    assert ids_of(zone) == ["Observation/gone", "Patient/back", "Patient/both", "Patient/late"]
    assert zone.sealed.facts["merged"] == {
        "deleted": 4,
        "departed": 0,
        "standing": 4,
        "superseded": 0,
    }


def test_a_patient_who_left_takes_the_records_along_until_they_come_again(
    phi: Path, deliver: Deliveries
) -> None:
    first = deliver(
        [patient("a"), patient("b")],
        [observation("1", "a"), observation("2", "b"), observation("3", "b/_history/1")],
    )
    second = deliver([observation("4", "b"), observation("5", "a")])
    third = deliver([patient("b"), observation("2", "b")])
    left = Delivery(second, left=frozenset({"b"}))
    assert ids_of(merge(phi, [Delivery(first), left])) == [
        "Observation/1",
        "Observation/5",
        "Patient/a",
    ]
    assert ids_of(merge(phi, [Delivery(first), left, Delivery(third)])) == [
        "Observation/1",
        "Observation/2",
        "Observation/5",
        "Patient/a",
        "Patient/b",
    ]


TEST_MARK = {"tag": [{"code": "HTEST"}]}


def link(to: str) -> dict[str, Any]:
    return {"link": [{"type": "seealso", "other": {"reference": to}}]}


def naming(resource_type: str, resource_id: str, **elements: Any) -> dict[str, Any]:
    return {"resourceType": resource_type, "id": resource_id, **elements}


def test_who_is_left_out_later_takes_along_every_row_that_names_them(
    phi: Path, deliver: Deliveries
) -> None:
    named = {"reference": "https://ehr.example/fhir/Patient/p/_history/3"}
    first = deliver(
        [patient("p"), patient("q"), patient("child", extension=[{"valueReference": named}])],
        [naming("Observation", "urn", subject={"reference": "urn:uuid:p"})],
        [observation("performed", "q", performer=[named]), observation("pq", "pq")],
        [naming("List", "entries", entry=[{"item": {"reference": "Patient/p"}}])],
        [b'{"resourceType":"Basic","id":"escaped","author":{"reference":"\\u0050atient\\/p"}}'],
        [naming("Basic", "kept", author={"reference": "Patient/q"})],
    )
    later = deliver([patient("p") | {"meta": TEST_MARK}])
    assert ids_of(merged(phi, first, later)) == ["Basic/kept", "Observation/pq", "Patient/q"]
    # Who left is not somebody who must not be in it: only their own record goes.
    left = merge(phi, [Delivery(first), Delivery(deliver([]), left=frozenset({"p"}))])
    assert {"Observation/performed", "Patient/child", "List/entries"} < set(ids_of(left))


def test_who_is_left_out_takes_along_all_that_are_the_same_person(
    phi: Path, deliver: Deliveries
) -> None:
    first = deliver(
        [
            patient("p", **link("Patient/twin")),
            patient("twin"),
            patient("third", **link("urn:uuid:twin")),
            patient("parted", "2026-01-01", **link("Patient/p")),
            patient("gone", **link("Patient/p")),
            patient("other", **link("Patient/another")),
        ],
        [observation(of, of) for of in ("p", "twin", "third", "parted", "gone", "other")],
    )
    parted = deliver([patient("parted", "2026-01-02")], deleted=["Patient/gone"])
    out = deliver([patient("x")], sieve=Sieve(Screen(opted_out=frozenset({"p"}))))
    later = deliver([observation("late", "third"), observation("late-2", "parted")])
    zone = merged(phi, first, parted, out, later)
    # What is said no longer makes nobody the same person.
    assert ids_of(zone) == [
        "Observation/gone",
        "Observation/late-2",
        "Observation/other",
        "Observation/parted",
        "Patient/other",
        "Patient/parted",
        "Patient/x",
    ]


def test_who_was_left_out_stays_out_until_a_delivery_of_everything(
    phi: Path, deliver: Deliveries
) -> None:
    out = Delivery(deliver([patient("p") | {"meta": TEST_MARK}, patient("q")]))
    more = deliver(
        [observation("1", "p"), observation("2", "q")], sieve=Sieve(Screen(test_patients=False))
    )
    assert ids_of(merge(phi, [out, Delivery(more)])) == ["Observation/2", "Patient/q"]
    anew = Delivery(more, whole=None)
    assert ids_of(merge(phi, [out, anew])) == ["Observation/1", "Observation/2"]


def test_a_whole_delivery_is_the_beginning_of_its_types(phi: Path, deliver: Deliveries) -> None:
    first = deliver([patient("a"), patient("b")], [observation("1", "a"), observation("2", "a")])
    types = frozenset({"Observation", "Condition"})
    second = Delivery(deliver([observation("2", "a")]), whole=types)
    assert ids_of(merge(phi, [Delivery(first), second])) == [
        "Observation/2",
        "Patient/a",
        "Patient/b",
    ]
    third = Delivery(deliver([patient("c")]), whole=None)
    assert ids_of(merge(phi, [Delivery(first), second, third])) == ["Patient/c"]
    assert ids_of(merged(phi, first, types=["Patient"])) == ["Patient/a", "Patient/b"]


def test_delivered_files_stand_as_they_are_and_only_others_are_copied(
    phi: Path, deliver: Deliveries
) -> None:
    first = deliver([patient("a"), patient("b")], [patient("c")], [patient("d")])
    second = deliver([patient("b", new=True)], [patient("c", new=True)], [b"{", patient("e")])
    before = {path: hash_file(path) for path in sorted(phi.rglob("*.ndjson*"))}
    zone = merged(phi, first, second)
    assert ids_of(zone) == [f"Patient/{one}" for one in "abcde"]
    assert {path: hash_file(path) for path in before} == before
    copied = [path for path in zone.paths("Patient") if path.stat().st_nlink == 1]
    assert [path.name for path in copied] == ["0.ndjson.Patient.ndjson.gz"]
    untouched = {path.stat().st_ino for path in zone.paths("Patient")} - {
        path.stat().st_ino for path in copied
    }
    assert untouched == {
        path.stat().st_ino for path in (*first.paths("Patient")[2:], *second.paths("Patient"))
    }
    assert zone.quarantined == {"not-json": 1}
    assert open_landing(phi).sealed.digest == zone.sealed.digest
    assert zone.transaction_time == second.transaction_time
    recorded = phi / "provenance" / f"{zone.sealed.path.name}.ndjson"
    assert len(recorded.read_bytes().splitlines()) == len(zone.files)


def test_the_index_finds_each_standing_row_where_it_was_delivered(
    phi: Path, deliver: Deliveries
) -> None:
    first = deliver(
        [patient("a"), b"7", patient("ö", "2026-01-01T12:00:00Z"), observation("1", "a")]
    )
    second = deliver([patient("a", new="ü")])
    zone = merged(phi, first, second)
    found = []
    for path in sorted((zone.sealed.path / "index").iterdir()):
        for row in pq.read_table(path).to_pylist():
            delivered = phi / "landing" / row["zone"] / row["file"]
            text = b"".join(unpack([delivered.read_bytes()]))
            line = text[row["offset"] :][: row["length"]]
            assert (row["line"], row["offset"], line) in list(read_lines([text]))
            assert sha256(line).hexdigest() == row["content_hash"]
            found.append((row["type"], row["id"], line))
    assert sorted(found) == rows_of(zone)
    assert len(found) == 3


def test_the_same_deliveries_are_the_same_zone_wherever_they_lie(tmp_path: Path) -> None:
    digests = set()
    for name in ("here", "there"):
        deliver = Deliveries(tmp_path / name)
        zones = [
            deliver([patient("a"), patient("b")], [observation("1", "a")]),
            deliver([patient("b", new=True)], deleted=["Patient/a"]),
        ]
        whole = merged(deliver.phi, *zones)
        assert whole.sealed.fresh
        assert not merged(deliver.phi, *zones).sealed.fresh
        # A zone that comes twice is one.
        assert rows_of(merged(deliver.phi, *zones, zones[1])) == rows_of(whole)
        assert rows_of(merged(deliver.phi, whole)) == rows_of(whole)
        digests.add(whole.sealed.digest)
    assert len(digests) == 1


def test_of_a_zone_that_comes_twice_the_last_place_counts(phi: Path, deliver: Deliveries) -> None:
    first, second = deliver([patient("a", stands=True)]), deliver([patient("a")])
    found = rows_of(merged(phi, first, second, first))
    assert [orjson.loads(line).get("stands") for _, _, line in found] == [True]


def test_what_has_several_subjects_goes_with_the_first(phi: Path, deliver: Deliveries) -> None:
    subjects = [{"reference": "Organization/x"}, {"reference": "Patient/a"}]
    account = {"resourceType": "Account", "id": "1", "subject": subjects}
    part = Delivery(deliver([account, patient("b")]), left=frozenset({"a"}))
    assert [name for _, name, _ in rows_of(merge(phi, [part]))] == ["b"]


def test_who_left_by_a_zone_that_comes_again_has_left(phi: Path, deliver: Deliveries) -> None:
    """As where the server's clock stands still: two steps deliver the very same zone."""
    first, nothing = deliver([patient("a"), patient("b")]), deliver([])
    parts = [
        Delivery(first, whole=None),
        Delivery(nothing, left=frozenset({"a"})),
        Delivery(nothing),
    ]
    assert [name for _, name, _ in rows_of(merge(phi, parts))] == ["b"]


def test_zones_that_hold_nothing_merge_into_nothing(phi: Path, deliver: Deliveries) -> None:
    assert merged(phi, deliver([])).rows() == {}
    gone = merged(phi, deliver([patient("a")]), deliver(deleted=["Patient/a"]))
    assert gone.rows() == {}


MERGE = """
import sys
from pathlib import Path
from exports.landing.zone import LandingZone
from exports.increments.merge import merge
from exports.sealed import open_sealed
from exports.increments.standing import Delivery
phi, *keys = sys.argv[1:]
zones = [LandingZone(open_sealed(Path(phi) / "landing" / key)) for key in keys]
print("ready", flush=True)
print(merge(Path(phi), [Delivery(zone) for zone in zones]).sealed.digest, flush=True)
"""


def test_killed_at_any_moment_and_run_again_it_is_the_same_zone(
    tmp_path: Path,
) -> None:
    def zones_below(phi: Path) -> list[LandingZone]:
        deliver = Deliveries(phi)
        rows = [observation(f"{number}", "a") for number in range(3000)]
        return [
            deliver(rows[:1500], rows[1500:]),
            deliver([{**row, "new": True} for row in rows[::7]], deleted=["Observation/5"]),
        ]

    expected = merged(tmp_path / "quiet", *zones_below(tmp_path / "quiet")).sealed.digest
    phi = tmp_path / "phi"
    keys = [zone.sealed.path.name for zone in zones_below(phi)]

    def run() -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", MERGE, phi, *keys], stdout=subprocess.PIPE, text=True, cwd=ROOT
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    for pause in (0.03, 0.1):
        process = run()
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert run().communicate()[0].strip() == expected
