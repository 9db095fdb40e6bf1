"""Who must not be in it is not in it, nothing of them is, and every line is accounted for."""

from __future__ import annotations

import gzip
import json
import tempfile
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from exports.errors import FhirloomError
from exports.landing.delivery import take
from exports.landing.ndjson import LONGEST_LINE
from exports.landing.screening import ACT_CODE, ACT_REASON, CONFIDENTIALITY, PRESETS, Screen
from exports.landing.sieve import Sieve
from exports.landing.zone import Arrival, LandingZone, land_folder, seal_landing
from exports.sealed import hash_file

Resource = dict[str, Any]
TEST_MARK = {"system": ACT_REASON, "code": "HTEST"}


def patient(resource_id: str, **more: Any) -> Resource:
    return {"resourceType": "Patient", "id": resource_id, **more}


def about(resource_id: str, reference: str, **more: Any) -> Resource:
    subject = {"subject": {"reference": reference}}
    return {"resourceType": "Observation", "id": resource_id, **subject, **more}


def land(folder: Path, files: dict[str, list[Any]], sieve: Sieve | None = None) -> LandingZone:
    """Land files of resources (or of lines, as bytes)."""
    source = folder / "source"
    source.mkdir()
    for name, rows in files.items():
        lines = [row if isinstance(row, bytes) else orjson.dumps(row) for row in rows]
        (source / name).write_bytes(b"\n".join(lines))
    return land_folder(source, folder / "phi", sieve=sieve or Sieve())


def ids_of(zone: LandingZone) -> set[str]:
    return {
        f"{kind}/{orjson.loads(line)['id']}"
        for kind in zone.rows()
        for path in zone.paths(kind)
        for line in unpacked(path).splitlines()
        if line.strip()
    }


def unpacked(path: Path) -> bytes:
    content = path.read_bytes()
    return gzip.decompress(content) if path.suffix == ".gz" else content


def everything_in(zone: LandingZone) -> bytes:
    """All of the zone's bytes, but for the list of those left out."""
    paths = (path for path in zone.sealed.path.rglob("*") if path.is_file())
    return b"\n".join(unpacked(path) for path in paths if path.name != "excluded.ndjson")


@pytest.mark.parametrize("member", ["security", "tag"])
@pytest.mark.parametrize(
    "reference",
    [
        "Patient/p-test",
        "Patient/p-test/_history/3",
        "https://ehr.example.org/fhir/Patient/p-test",
        "https://ehr.example.org/fhir/Patient/p-test/_history/1",
        "urn:uuid:p-test",
    ],
)
def test_a_test_patient_takes_along_whatever_names_it(
    tmp_path: Path, member: str, reference: str
) -> None:
    rows = [about("o-1", reference), about("o-2", "Patient/p-tests"), about("o-3", "Patient/p-1")]
    people = [patient("p-test", meta={member: [TEST_MARK]}), patient("p-1"), patient("p-tests")]
    zone = land(tmp_path, {"o": rows, "p": people})
    assert ids_of(zone) == {"Patient/p-1", "Patient/p-tests", "Observation/o-2", "Observation/o-3"}
    assert zone.excluded == {"test-patient": 2}
    assert zone.excluded_patients() == {"p-test": "test-patient"}
    assert b'"p-test"' not in everything_in(zone)
    assert b"/p-test" not in everything_in(zone).replace(b"/p-tests", b"")


@pytest.mark.parametrize(
    "written",
    [
        rb'"Patient\/p-test"',
        rb'"Patient\u002fp-test"',
        rb'"\u0050atient/p-test"',
        rb'"Patient/\u0070-test"',
    ],
)
def test_an_escape_hides_nobody(tmp_path: Path, written: bytes) -> None:
    line = b'{"resourceType":"Observation","id":"o","subject":{"reference":' + written + b"}}"
    marked = patient("p-test", meta={"tag": [TEST_MARK]})
    zone = land(tmp_path, {"o": [line], "p": [marked, patient("p")]})
    assert ids_of(zone) == {"Patient/p"}
    assert zone.excluded == {"test-patient": 2}


def test_a_number_beyond_all_doubles_hides_nobody(tmp_path: Path) -> None:
    huge = b',"n":1e999}'
    marked = orjson.dumps(patient("p-test", meta={"tag": [TEST_MARK]}))[:-1] + huge
    rows = [
        orjson.dumps(about("o-1", "Patient/p-test"))[:-1] + huge,
        orjson.dumps(about("o-2", "Patient/p"))[:-1] + rb',"s":"\u0041","n":1e999}',
    ]
    zone = land(tmp_path, {"o": rows, "p": [marked, patient("p")]})
    assert ids_of_lines(zone) == {"Patient/p", "Observation/o-2"}
    assert zone.excluded == {"test-patient": 2}


def ids_of_lines(zone: LandingZone) -> set[str]:
    """The same, by a reader to whom no number is too large."""
    return {
        f"{kind}/{json.loads(line)['id']}"
        for kind in zone.rows()
        for path in zone.paths(kind)
        for line in unpacked(path).splitlines()
    }


@pytest.mark.parametrize(
    "system",
    ["http://hl7.org/fhir/v3/ActReason", "urn:oid:2.16.840.1.113883.5.8", ""],
)
def test_the_system_of_test_data_has_other_names(tmp_path: Path, system: str) -> None:
    marked = patient("p-test", meta={"tag": [{"system": system, "code": "HTEST"}]})
    foreign = patient("p", meta={"tag": [{"system": "urn:other", "code": "HTEST"}]})
    assert ids_of(land(tmp_path, {"p": [marked, foreign]})) == {"Patient/p"}


@pytest.mark.parametrize(
    "line",
    [
        b"seen with Patient/p-test.",
        b"p-test, again",
        b"GET /Observation?patient=Patient%2Fp-test",
        '{"subject":"p-test"}'.encode("utf-16"),
        b'{"resourceType":"Observation","x":"' + b"a" * LONGEST_LINE + b'","s":"Patient/p-test"}',
    ],
    ids=["sentence", "list", "quoted", "utf-16", "too long"],
)
@pytest.mark.parametrize("beside", [True, False])
def test_a_bad_line_that_may_speak_of_them_is_not_kept(
    tmp_path: Path, line: bytes, beside: bool
) -> None:
    marked = patient("p-test", meta={"tag": [TEST_MARK]})
    rows = [about("o", "Patient/p")] * beside
    # A line feed at the end: a file that ends in the middle of a line is another matter.
    zone = land(tmp_path, {"o": [*rows, b"PLANTED " + line, b""], "p": [marked, patient("p")]})
    assert sum(zone.quarantined.values()) == 1
    assert b"PLANTED" not in everything_in(zone)


def test_a_bad_line_that_speaks_of_nobody_is_kept(tmp_path: Path) -> None:
    marked = patient("p-test", meta={"tag": [TEST_MARK]})
    zone = land(tmp_path, {"o": [about("o", "Patient/p"), b"PLANTED p-tests.", b""], "p": [marked]})
    assert b"PLANTED" in everything_in(zone)


def test_a_reference_may_stand_anywhere(tmp_path: Path) -> None:
    contained = about("o-1", "Patient/p", contained=[about("c", "Patient/p-test")])
    extended = about(
        "o-2", "Patient/p", extension=[{"valueReference": {"reference": "Patient/p-test"}}]
    )
    marked = patient("p-test", meta={"tag": [TEST_MARK]})
    zone = land(tmp_path, {"o": [contained, extended, about("o-3", "Patient/p")], "p": [marked]})
    assert ids_of(zone) == {"Observation/o-3"}


def test_the_same_person_under_another_id_goes_too(tmp_path: Path) -> None:
    def linked(resource_id: str, other: str) -> Resource:
        return patient(
            resource_id, link=[{"other": {"reference": f"Patient/{other}"}, "type": "seealso"}]
        )

    people = [linked("c", "b"), linked("b", "a"), patient("a"), linked("x", "y"), patient("y")]
    rows = [about(f"o-{who}", f"Patient/{who}") for who in "abcxy"]
    screen = Screen(opted_out=frozenset({"a"}))
    zone = land(tmp_path, {"o": rows, "p": people}, Sieve(screen))
    assert ids_of(zone) == {"Patient/x", "Patient/y", "Observation/o-x", "Observation/o-y"}
    assert zone.excluded_patients() == dict.fromkeys("abc", "opted-out")


def test_the_operators_list_holds_ids_and_identifiers(tmp_path: Path) -> None:
    listed = tmp_path / "out.txt"
    listed.write_text("# asked on paper\n\np-1\n urn:oid:1.2|A 7 \n")
    screen = Screen.of(patients_file=listed)
    people = [
        patient("p-1"),
        patient("p-2", identifier=[{"system": "urn:oid:1.2", "value": "A 7"}]),
        patient("p-3", identifier=[{"system": "urn:oid:9", "value": "A 7"}]),
    ]
    rows = [about(f"o-{number}", f"Patient/p-{number}") for number in (1, 2, 3)]
    zone = land(tmp_path, {"o": rows, "p": people}, Sieve(screen))
    assert ids_of(zone) == {"Patient/p-3", "Observation/o-3"}
    assert zone.excluded == {"opted-out": 4}
    assert "p-1" not in repr(Sieve(screen)) + json.dumps(dict(zone.sealed.facts))


@pytest.mark.parametrize("line", ["two words", "urn:x|", "p/1"])
def test_a_line_that_names_nobody_is_refused_by_its_place(tmp_path: Path, line: str) -> None:
    listed = tmp_path / "out.txt"
    listed.write_text(f"p-1\n{line}\n")
    with pytest.raises(FhirloomError) as raised:
        Screen.of(patients_file=listed)
    assert (raised.value.code, raised.value.where) == ("bad-input", "patients file, line 2")
    assert line not in str(raised.value)
    with pytest.raises(FhirloomError, match="can't be read"):
        Screen.of(patients_file=tmp_path / "missing")


def test_labels_leave_out_the_resources_that_have_them(tmp_path: Path) -> None:
    def labelled(resource_id: str, system: str, code: str) -> Resource:
        meta = {"security": [{"system": system, "code": code}]}
        return about(resource_id, "Patient/p", meta=meta)

    rows = [
        labelled("sud", ACT_CODE, "SUD"),
        labelled("other-sud", "urn:other", "SUD"),
        labelled("very", CONFIDENTIALITY, "V"),
        labelled("own", "urn:own", "SECRET"),
        about("plain", "Patient/p"),
    ]
    kept = {
        (): {"sud", "other-sud", "very", "own", "plain"},
        ("part2",): {"other-sud", "very", "own", "plain"},
        ("SUD",): {"very", "own", "plain"},
        ("restricted", "urn:own|SECRET"): {"sud", "other-sud", "plain"},
    }
    for number, (labels, expected) in enumerate(kept.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        zone = land(folder, {"o": rows}, Sieve(Screen.of(labels=labels)))
        assert ids_of(zone) == {f"Observation/{name}" for name in expected}
        assert zone.excluded == ({"label": 5 - len(expected)} if labels else {})


def test_labels_have_other_names_too(tmp_path: Path) -> None:
    former = {"system": "http://hl7.org/fhir/v3/ActCode", "code": "SUD"}
    rows = [about("o", "Patient/p", meta={"security": [former]}), about("q", "Patient/p")]
    for number, label in enumerate(("Part2", f"{ACT_CODE}|SUD", f"{former['system']}|SUD")):
        folder = tmp_path / str(number)
        folder.mkdir()
        zone = land(folder, {"o": rows}, Sieve(Screen.of(labels=[label])))
        assert ids_of(zone) == {"Observation/q"}


def test_every_preset_names_a_system_with_each_code() -> None:
    assert set(PRESETS) == {"part2", "mental-health", "restricted"}
    assert all("|" in label for labels in PRESETS.values() for label in labels)


def test_a_test_resource_of_a_real_patient_goes_alone(tmp_path: Path) -> None:
    rows = [about("o-1", "Patient/p", meta={"tag": [TEST_MARK]}), about("o-2", "Patient/p")]
    zone = land(tmp_path, {"o": rows, "p": [patient("p")]})
    assert ids_of(zone) == {"Patient/p", "Observation/o-2"}
    assert zone.excluded_patients() == {}


def test_patients_of_an_earlier_landing_stay_out(tmp_path: Path) -> None:
    sieve = Sieve(known={"p-test": "test-patient"})
    zone = land(tmp_path, {"o": [about("o", "Patient/p-test"), about("q", "Patient/p")]}, sieve)
    assert ids_of(zone) == {"Observation/q"}
    assert sieve.digest != Sieve().digest


def test_files_that_nobody_has_to_leave_stay_as_they_came(tmp_path: Path) -> None:
    marked = patient("p-test", meta={"tag": [TEST_MARK]})
    files = {
        "mixed.ndjson": [about("o-1", "Patient/p"), about("o-2", "Patient/p-test")],
        "p.ndjson": [marked, patient("p")],
        "untouched.ndjson": [about("o-3", "Patient/p")],
    }
    zone = land(tmp_path, files)
    assert sorted(path.name for path in (zone.sealed.path / "files").iterdir()) == [
        "untouched.ndjson"
    ]
    assert {file.name: file.sha256 for file in zone.files} == {
        name: hash_file(tmp_path / "source" / name) for name in files
    }
    other = tmp_path / "again"
    other.mkdir()
    assert land(other, files).sealed.digest == zone.sealed.digest


def test_a_bad_line_that_names_one_of_them_is_not_kept(tmp_path: Path) -> None:
    marked = patient("p-test", meta={"tag": [TEST_MARK]})
    cut = b'{"resourceType":"Observation","id":"o","subject":{"reference":"Patient/p-test"'
    innocent = b'{"resourceType":"Observation","id":"o"'
    zone = land(
        tmp_path,
        {
            "bad.ndjson": [cut, about("o-1", "Patient/p")],
            "fine.ndjson": [innocent, about("o-2", "Patient/p")],
            "p.ndjson": [marked],
            "notes.txt": [b"of p-test: nothing", b"more"],
        },
    )
    kept = sorted(path.name for path in (zone.sealed.path / "files").iterdir())
    assert kept == ["fine.ndjson"]
    assert ids_of(zone) == {"Observation/o-1", "Observation/o-2"}
    assert zone.quarantined == {"no-resources": 2, "not-json": 2}
    assert b"p-test" not in everything_in(zone)


@pytest.mark.parametrize("packed", [True, False])
def test_the_servers_remarks_about_them_are_not_kept(tmp_path: Path, packed: bool) -> None:
    download = tmp_path / ("e.ndjson.gz" if packed else "e.ndjson")
    said = b'{"diagnostics":"Patient/p-out has a bad date"}\n', b'{"diagnostics":"too busy"}\n'
    download.write_bytes(gzip.compress(b"".join(said)) if packed else b"".join(said))

    def bring(folder: Path) -> list[Arrival]:
        (folder / "errors").mkdir()
        (folder / "errors" / download.name).hardlink_to(download)
        delivered = take([orjson.dumps(patient("p"))], folder / "files" / "p.ndjson")
        return [Arrival("p.ndjson", "Patient", delivered)]

    facts = {"source": "bulk", "transaction_time": None, "server_rows": None, "errors": 2}
    sieve = Sieve(Screen(opted_out=frozenset({"p-out"})))
    zone = seal_landing(tmp_path / "phi", "spec", bring, facts, sieve=sieve)
    assert unpacked(zone.sealed.path / "errors" / download.name) == said[1]
    assert unpacked(download) == b"".join(said)


def test_an_open_sieve_lets_everything_through(tmp_path: Path) -> None:
    zone = land(
        tmp_path,
        {"p": [patient("p-test", meta={"tag": [TEST_MARK]})]},
        Sieve(Screen(test_patients=False)),
    )
    assert zone.rows() == {"Patient": 1}
    assert zone.excluded == {}


IDS = st.sampled_from(["a", "a1", "b", "b.2", "c-3"])
MARKS = st.sampled_from([None, TEST_MARK, {"system": ACT_CODE, "code": "SUD"}, {"code": "HTEST"}])
FORMS = st.sampled_from(["Patient/{}", "http://x/Patient/{}", "Patient/{}/_history/1", "Group/{}"])


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    if draw(st.integers(0, 9)) == 0:
        return draw(st.sampled_from([b"", b"7", b"{", b'{"resourceType":"Patient"}', b'["a"]']))
    mark = draw(MARKS)
    meta = {} if mark is None else {"meta": {draw(st.sampled_from(["tag", "security"])): [mark]}}
    if draw(st.booleans()):
        return orjson.dumps(patient(draw(IDS), **meta))
    kind = draw(st.sampled_from(["Observation", "Encounter"]))
    row = about(draw(IDS), draw(FORMS).format(draw(IDS)), **meta)
    return orjson.dumps({**row, "resourceType": kind})


FILES = st.lists(st.lists(lines(), max_size=8), min_size=1, max_size=4)
SCREENS = st.builds(
    Screen,
    test_patients=st.booleans(),
    opted_out=st.frozensets(IDS, max_size=2),
    labels=st.sampled_from([frozenset[str](), frozenset({"SUD"})]),
)


def naive(rows: list[Resource], screen: Screen) -> list[Resource]:
    """What is to be kept, read resource by resource without any haste."""

    def marks(row: Resource, *members: str) -> list[Resource]:
        return [mark for member in members for mark in row.get("meta", {}).get(member, [])]

    def test_data(row: Resource) -> bool:
        return screen.test_patients and any(
            mark["code"] == "HTEST" for mark in marks(row, "tag", "security")
        )

    out = set(screen.opted_out)
    out |= {row["id"] for row in rows if row["resourceType"] == "Patient" and test_data(row)}

    def of_one_of_them(row: Resource) -> bool:
        if row["resourceType"] == "Patient":
            return row["id"] in out
        parts = row["subject"]["reference"].split("/")
        return "Patient" in parts and parts[parts.index("Patient") + 1] in out

    return [
        row
        for row in rows
        if not of_one_of_them(row)
        and not test_data(row)
        and not any(mark["code"] in screen.labels for mark in marks(row, "security"))
    ]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(files=FILES, screen=SCREENS)
def test_nothing_is_lost_and_nobody_stays(files: list[list[bytes]], screen: Screen) -> None:
    everything = [line for file in files for line in file if line.strip()]
    good = [
        orjson.loads(line)
        for line in everything
        if line.startswith(b'{"resourceType":') and b'"id"' in line
    ]
    if not good:
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        zone = land(
            folder, {f"{n}.ndjson": list(file) for n, file in enumerate(files)}, Sieve(screen)
        )
        kept = [
            orjson.loads(line)
            for kind in zone.rows()
            for path in zone.paths(kind)
            for line in unpacked(path).splitlines()
            if line.strip()
        ]
        expected = naive(good, screen)
        assert sorted(map(orjson.dumps, kept)) == sorted(map(orjson.dumps, expected))
        accounted = sum(zone.rows().values()) + sum(zone.quarantined.values())
        assert accounted + sum(zone.excluded.values()) == len(everything)
        assert sum(file.excluded for file in zone.files) == sum(zone.excluded.values())
        assert sum(file.quarantined for file in zone.files) == sum(zone.quarantined.values())
