"""Step by step, an export that goes on by itself gives what one full export would give."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from exports.bulk.export import export
from exports.connection.transport import Patience
from exports.errors import FhirloomError
from exports.increments.increment import cancel_increment, export_increment
from exports.increments.series import Series
from exports.landing.ndjson import unpack
from exports.landing.screening import Screen
from exports.landing.zone import LandingZone, open_landing
from exports.options import ExportOptions
from exports.request import ExportRequest
from tests.exports.increments.test_merge import rows_of
from tests.exports.versioned_ehr import Hospital, VersionedEhr, served

ROOT = Path(__file__).parents[3]
HASTE = Patience(retries=1, first_wait=0.01, longest_wait=0.02)


@pytest.fixture(scope="module")
def ehr() -> Iterator[VersionedEhr]:
    with served() as server:
        yield server


@pytest.fixture
def phi(tmp_path: Path) -> Path:
    return tmp_path / "phi"


@pytest.fixture
def hospital() -> Hospital:
    """Four patients with an observation and a condition each; two of them in a group."""
    hospital = Hospital(groups={"g": {"a", "b"}})
    for patient in "abcd":
        hospital.put("Patient", patient)
        record(hospital, patient, "1")
    hospital.tick()
    return hospital


def record(hospital: Hospital, patient: str, number: str, **elements: Any) -> None:
    subject = {"subject": {"reference": f"Patient/{patient}"}}
    hospital.put("Observation", f"o-{patient}-{number}", **subject, **elements)
    hospital.put("Condition", f"c-{patient}-{number}", **subject, **elements)


def go_on(request: ExportRequest, phi: Path, **terms: Any) -> LandingZone:
    zone = export_increment(request, phi, patience=HASTE, **terms)
    assert open_landing(phi).sealed.digest == zone.sealed.digest
    return zone


def whole(hospital: Hospital, request: ExportRequest) -> list[Any]:
    """All that the server has to give for a request."""
    asked = {"_type": request.types, "_elements": request.elements, "patient": request.patients}
    given = {name: ",".join(values) for name, values in asked.items() if values}
    rows = hospital.export(request.level, request.group_id, given)["rows"]
    return sorted(
        (resource_type, orjson.loads(line)["id"], line)
        for resource_type, lines in rows.items()
        for line in lines
    )


@pytest.mark.parametrize(
    "terms",
    [{}, {"level": "patient"}, {"level": "group", "group_id": "g"}, {"types": ("Observation",)}],
    ids=str,
)
def test_each_step_gives_the_whole_by_asking_for_what_changed(
    ehr: VersionedEhr, phi: Path, hospital: Hospital, terms: dict[str, Any]
) -> None:
    request = ehr.open(hospital, **terms)
    first = go_on(request, phi)
    assert first.sealed.facts["source"] == "bulk"
    assert rows_of(first) == whole(hospital, request)
    for step in range(2):
        hospital.tick()
        record(hospital, "a", "1", changed=step)
        record(hospital, "b", f"new-{step}")
        hospital.delete("Observation", f"o-b-new-{step - 1}")
        hospital.asked.clear()
        zone = go_on(request, phi)
        assert "_since" in hospital.asked[0]
        assert all("_since" in asked or "_elements" in asked for asked in hospital.asked)
        assert rows_of(zone) == whole(hospital, request)
        assert zone.sealed.facts["source"] == "merged"
        assert zone.transaction_time == hospital.now


def test_what_a_plain_export_brought_is_gone_on_with(
    ehr: VersionedEhr, phi: Path, hospital: Hospital
) -> None:
    request = ehr.open(hospital)
    export(request, phi, patience=HASTE)
    hospital.tick()
    record(hospital, "a", "2")
    hospital.asked.clear()
    assert rows_of(go_on(request, phi)) == whole(hospital, request)
    assert "_since" in hospital.asked[0]


def test_nothing_new_is_the_same_rows(ehr: VersionedEhr, phi: Path, hospital: Hospital) -> None:
    request = ehr.open(hospital)
    rows = rows_of(go_on(request, phi))
    # Not even the clock need have moved.
    assert rows_of(go_on(request, phi)) == rows_of(go_on(request, phi)) == rows


def test_new_types_are_fetched_whole_and_dropped_ones_are_gone(
    ehr: VersionedEhr, phi: Path, hospital: Hospital
) -> None:
    request = ehr.open(hospital, types=("Patient", "Observation"))
    go_on(request, phi)
    hospital.tick()
    record(hospital, "a", "2")
    other = replace(request, types=("Patient", "Condition"))
    hospital.asked.clear()
    assert rows_of(go_on(other, phi)) == whole(hospital, other)
    changes, new = hospital.asked[:2]
    assert (changes["_type"], "_since" in changes) == ("Patient", True)
    assert (new["_type"], "_since" in new) == ("Condition", False)
    hospital.tick()
    hospital.delete("Condition", "c-a-2")
    # Observations were passed over for a step: their changes since the first are not known.
    assert rows_of(go_on(request, phi)) == whole(hospital, request)


@pytest.mark.parametrize(
    ("terms", "fetched_whole"),
    [
        ({"type_filters": ("Observation?category=laboratory",)}, ["Observation"]),
        ({"elements": ("Condition.subject",)}, ["Condition"]),
        ({"elements": ("subject",)}, ["Condition,Observation"]),
        ({"types": ()}, [None]),
    ],
    ids=str,
)
def test_changed_terms_are_fetched_whole(
    ehr: VersionedEhr,
    phi: Path,
    hospital: Hospital,
    terms: dict[str, Any],
    fetched_whole: list[str | None],
) -> None:
    request = ehr.open(hospital, types=("Condition", "Observation"))
    go_on(request, phi)
    hospital.tick()
    record(hospital, "a", "2")
    other = replace(request, **terms)
    hospital.asked.clear()
    go_on(other, phi)
    anew = [asked.get("_type") for asked in hospital.asked if "_since" not in asked]
    assert anew == fetched_whole


def test_who_is_screened_out_from_now_on_is_gone_from_what_was_there(
    ehr: VersionedEhr, phi: Path, hospital: Hospital
) -> None:
    request = ehr.open(hospital)
    go_on(request, phi)
    out = ExportOptions(screen=Screen(opted_out=frozenset({"b"})))
    zone = go_on(request, phi, options=out)
    assert not [row for row in rows_of(zone) if b"Patient/b" in row[2] or row[1] == "b"]
    hospital.tick()
    record(hospital, "b", "2")
    zone = go_on(request, phi, options=out)
    assert not [row for row in rows_of(zone) if b"Patient/b" in row[2] or row[1] == "b"]


def test_a_patient_marked_as_a_test_takes_along_what_was_there(
    ehr: VersionedEhr, phi: Path, hospital: Hospital
) -> None:
    request = ehr.open(hospital)
    go_on(request, phi)
    hospital.tick()
    reason = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
    hospital.put("Patient", "b")
    _, patient = hospital.history["Patient", "b"][-1]
    assert patient is not None
    patient["meta"]["security"] = [{"system": reason, "code": "HTEST"}]
    assert not [row for row in rows_of(go_on(request, phi)) if row[1] == "b" or b"/b" in row[2]]
    hospital.tick()
    # Their Patient does not come again.
    record(hospital, "b", "2")
    assert not [row for row in rows_of(go_on(request, phi)) if row[1] == "b" or b"/b" in row[2]]


def test_who_is_marked_later_takes_along_what_names_them_and_the_same_person(
    ehr: VersionedEhr, phi: Path, hospital: Hospital
) -> None:
    other = {"reference": "Patient/b"}
    hospital.put("Patient", "c", link=[{"type": "seealso", "other": other}])
    hospital.put("Observation", "mothers", subject={"reference": "urn:uuid:b"})
    hospital.put("Observation", "seen", subject={"reference": "Patient/a"}, focus=[other])
    request = ehr.open(hospital)
    go_on(request, phi)
    hospital.tick()
    hospital.put("Patient", "b")
    _, patient = hospital.history["Patient", "b"][-1]
    assert patient is not None
    patient["meta"]["tag"] = [{"code": "HTEST"}]
    for number in "23":
        # The Patients do not come again.
        step, anew = go_on(request, phi), export(request, phi / number, patience=HASTE)
        assert rows_of(step) == rows_of(anew)
        assert {row[1] for row in rows_of(step)} >= {"a", "d"}
        hospital.tick()
        record(hospital, "c", number)


def test_a_resource_that_is_labelled_later_takes_along_its_older_version(
    ehr: VersionedEhr, phi: Path, hospital: Hospital
) -> None:
    request = ehr.open(hospital)
    options = ExportOptions(screen=Screen(labels=frozenset({"ETH"})))
    assert "o-a-1" in [row[1] for row in rows_of(go_on(request, phi, options=options))]
    hospital.tick()
    record(hospital, "a", "1")
    _, observation = hospital.history["Observation", "o-a-1"][-1]
    assert observation is not None
    observation["meta"]["security"] = [{"code": "ETH"}]
    assert "o-a-1" not in [row[1] for row in rows_of(go_on(request, phi, options=options))]
    hospital.tick()
    record(hospital, "a", "1")
    assert "o-a-1" in [row[1] for row in rows_of(go_on(request, phi, options=options))]


@pytest.mark.parametrize(
    "refused", [set(), {"_elements", "patient"}], ids=["nothing", "elements-and-patient"]
)
def test_members_who_join_are_fetched_whole_and_those_who_leave_are_gone(
    ehr: VersionedEhr, phi: Path, hospital: Hospital, refused: set[str]
) -> None:
    hospital.refuses = frozenset(refused)
    request = ehr.open(hospital, level="group", group_id="g")
    go_on(request, phi)
    for members in ({"b", "c"}, {"d"}, {"a", "b"}):
        hospital.tick()
        hospital.groups["g"] = members
        record(hospital, "b", "1", members=sorted(members))
        zone = go_on(request, phi)
        assert rows_of(zone) == whole(hospital, request)
    assert zone.sealed.facts["source"] == "merged"
    alone = {asked["patient"] for asked in hospital.asked if "patient" in asked}
    assert alone == {"Patient/c", "Patient/d", "Patient/a,Patient/b"}


def test_a_member_who_joins_is_not_missed_where_the_server_gives_nothing_of_him(
    ehr: VersionedEhr, phi: Path, hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = ehr.open(hospital, level="group", group_id="g")
    go_on(request, phi)
    hospital.tick()
    hospital.groups["g"] = {"b", "c"}
    export = hospital.export

    def without_the_named(level: str, group: str, asked: dict[str, str]) -> Any:
        given = export(level, group, asked)
        return {**given, "rows": {}} if "patient" in asked else given

    monkeypatch.setattr(hospital, "export", without_the_named)
    assert rows_of(go_on(request, phi)) == whole(hospital, request)


def test_members_are_known_without_the_type_patient_too(
    ehr: VersionedEhr, phi: Path, hospital: Hospital
) -> None:
    request = ehr.open(hospital, level="group", group_id="g", types=("Observation",))
    go_on(request, phi)
    hospital.tick()
    hospital.groups["g"] = {"b", "c"}
    assert rows_of(go_on(request, phi)) == whole(hospital, request)


def test_of_members_no_more_than_their_ids_is_kept_where_elements_are_refused(
    ehr: VersionedEhr, phi: Path, hospital: Hospital
) -> None:
    hospital.refuses = frozenset({"_elements"})
    for patient in "ab":
        hospital.put("Patient", patient, name=[{"family": "Whole"}])
    request = ehr.open(hospital, level="group", group_id="g", types=("Observation",))
    go_on(request, phi)
    hospital.tick()
    hospital.groups["g"] = {"b", "c"}
    assert rows_of(go_on(request, phi)) == whole(hospital, request)
    kept = [path for path in phi.rglob("*.ndjson*") if path.is_file()]
    texts = [b"".join(unpack([path.read_bytes()])) for path in kept]
    assert any(b'"Patient"' in text for text in texts)
    assert not any(b"Whole" in text for text in texts)


def test_patients_named_are_members_too(ehr: VersionedEhr, phi: Path, hospital: Hospital) -> None:
    request = ehr.open(hospital, level="patient", patients=("a", "b"))
    go_on(request, phi)
    hospital.tick()
    record(hospital, "b", "2")
    other = replace(request, patients=("b", "d"))
    assert rows_of(go_on(other, phi)) == whole(hospital, other)


def test_where_deletions_are_not_told_a_full_export_measures_the_drift(
    ehr: VersionedEhr, phi: Path, hospital: Hospital
) -> None:
    hospital.reports_deletions = False
    request = ehr.open(hospital)
    go_on(request, phi)
    hospital.tick(days=10)
    hospital.delete("Observation", "o-a-1")
    moment, _ = hospital.history["Condition", "c-a-1"][-1]
    hospital.history["Condition", "c-a-1"].append(
        (moment, {"resourceType": "Condition", "id": "c-a-1", "unsaid": True})
    )
    hospital.history["Patient", "late"].append((moment, {"resourceType": "Patient", "id": "late"}))
    strayed = rows_of(go_on(request, phi))
    assert ("Observation", "o-a-1") in {row[:2] for row in strayed}
    assert Series(phi, request).drifts == {}

    hospital.tick(days=20)
    record(hospital, "a", "2")
    zone = go_on(request, phi)
    assert rows_of(zone) == whole(hospital, request)
    (drift,) = Series(phi, request).drifts.values()
    assert drift["types"] == {
        "Condition": {"rows": 5, "missing": 0, "extra": 0, "different": 1},
        "Observation": {"rows": 4, "missing": 0, "extra": 1, "different": 0},
        "Patient": {"rows": 5, "missing": 1, "extra": 0, "different": 0},
    }
    # The full export is what the next steps go on from.
    hospital.tick(days=20)
    record(hospital, "a", "3")
    hospital.asked.clear()
    assert rows_of(go_on(request, phi)) == whole(hospital, request)
    assert "_since" in hospital.asked[0]
    assert len(Series(phi, request).drifts) == 1


def test_a_server_that_tells_deletions_is_not_asked_for_all_again(
    ehr: VersionedEhr, phi: Path, hospital: Hospital
) -> None:
    request = ehr.open(hospital)
    go_on(request, phi)
    hospital.tick(days=400)
    hospital.delete("Observation", "o-a-1")
    hospital.asked.clear()
    assert rows_of(go_on(request, phi, full_every=timedelta(days=1))) == whole(hospital, request)
    assert ["_since" in asked for asked in hospital.asked] == [True]


def test_a_filter_hides_what_no_longer_matches_it_so_all_is_asked_for_again(
    ehr: VersionedEhr, phi: Path, hospital: Hospital
) -> None:
    filters = ("Observation?category=laboratory",)
    request = ehr.open(hospital, types=("Observation",), type_filters=filters)
    go_on(request, phi)
    hospital.tick(days=40)
    hospital.delete("Observation", "o-a-1")
    hospital.asked.clear()
    go_on(request, phi)
    assert ["_since" in asked for asked in hospital.asked] == [True, False]


def test_fresh_begins_anew(ehr: VersionedEhr, phi: Path, hospital: Hospital) -> None:
    request = ehr.open(hospital)
    go_on(request, phi)
    hospital.tick()
    hospital.asked.clear()
    zone = go_on(request, phi, options=ExportOptions(fresh=True))
    assert ["_since" in asked for asked in hospital.asked] == [False]
    assert rows_of(zone) == whole(hospital, request)


def test_a_clock_that_goes_back_is_refused_until_it_is_right_again(
    ehr: VersionedEhr, phi: Path, hospital: Hospital
) -> None:
    request = ehr.open(hospital)
    first = go_on(request, phi)
    hospital.tick(hours=-1)
    for _ in range(2):
        with pytest.raises(FhirloomError, match="time") as raised:
            go_on(request, phi)
        assert raised.value.code == "server"
        assert open_landing(phi).sealed.digest == first.sealed.digest
    hospital.tick(hours=2)
    assert rows_of(go_on(request, phi)) == whole(hospital, request)


def test_the_job_of_a_step_can_be_given_up(
    ehr: VersionedEhr, phi: Path, hospital: Hospital
) -> None:
    request = ehr.open(hospital, types=("Patient", "Observation"))
    with pytest.raises(FhirloomError, match="under way"):
        cancel_increment(request, phi)
    go_on(request, phi)
    hospital.tick()
    record(hospital, "a", "2")
    hospital.loses_files = True
    with pytest.raises(FhirloomError):
        go_on(request, phi)
    assert cancel_increment(request, phi, patience=HASTE).confirmed
    with pytest.raises(FhirloomError, match="under way"):
        cancel_increment(request, phi)
    hospital.loses_files = False
    hospital.asked.clear()
    assert rows_of(go_on(request, phi)) == whole(hospital, request)
    assert "_since" in hospital.asked[0]


def test_what_was_delivered_is_kept_and_of_the_merged_zones_the_last_two(
    ehr: VersionedEhr, phi: Path, hospital: Hospital
) -> None:
    request = ehr.open(hospital, types=("Patient",))
    zones = []
    for number in range(4):
        zones.append(go_on(request, phi))
        hospital.tick()
        hospital.put("Patient", "a", number=number)
    delivered = [part.zone for step in Series(phi, request).steps() for part in step.parts]
    assert all((phi / zone).is_dir() for zone in delivered)
    assert [zone.sealed.path.is_dir() for zone in zones] == [True, False, True, True]


def test_the_landing_zones_may_lie_on_another_volume(
    ehr: VersionedEhr, phi: Path, hospital: Hospital, tmp_path: Path
) -> None:
    (tmp_path / "large").mkdir()
    phi.mkdir()
    (phi / "landing").symlink_to(tmp_path / "large")
    request = ehr.open(hospital)
    go_on(request, phi)
    hospital.tick()
    record(hospital, "a", "2")
    assert rows_of(go_on(request, phi)) == whole(hospital, request)
    assert len(hospital.asked) == 2


def test_bounds_of_time_are_not_for_it(ehr: VersionedEhr, phi: Path, hospital: Hospital) -> None:
    with pytest.raises(FhirloomError) as raised:
        go_on(replace(ehr.open(hospital), since=hospital.now), phi)
    assert raised.value.code == "bad-input"


def test_a_zone_that_is_gone_is_made_good_by_a_full_export(
    ehr: VersionedEhr, phi: Path, hospital: Hospital
) -> None:
    request = ehr.open(hospital)
    first = go_on(request, phi)
    (first.sealed.path / "manifest.json").unlink()
    hospital.tick()
    record(hospital, "a", "2")
    assert rows_of(go_on(request, phi)) == whole(hospital, request)


def test_killed_before_its_first_step_is_recorded_it_begins_with_the_same(
    ehr: VersionedEhr, phi: Path, hospital: Hospital, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = ehr.open(hospital)

    def killed(series: Series, steps: Any) -> None:
        if steps:
            raise KeyboardInterrupt
        record_steps(series, steps)

    record_steps = Series.record
    monkeypatch.setattr(Series, "record", killed)
    with pytest.raises(KeyboardInterrupt):
        go_on(request, phi)
    monkeypatch.undo()
    hospital.tick()
    record(hospital, "a", "2")
    hospital.asked.clear()
    zone = go_on(request, phi)
    assert (hospital.asked, zone.sealed.facts["source"]) == ([], "bulk")
    assert rows_of(go_on(request, phi)) == whole(hospital, request)


GO_ON = """
import os, signal, sys
from pathlib import Path
from exports.increments.increment import export_increment
from exports.request import ExportRequest
server, phi, last = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
renamed = 0
def count(event, _):
    global renamed
    renamed += event == "os.rename"
    if renamed == last:
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(count)
request = ExportRequest(server, level="group", group_id="g")
print(export_increment(request, phi).sealed.digest)
"""


def test_killed_at_any_moment_and_run_again_it_ends_with_the_same_zone(
    ehr: VersionedEhr, tmp_path: Path, hospital: Hospital
) -> None:
    def run(place: str, last: int = -1) -> str:
        command = [sys.executable, "-c", GO_ON, request.server, str(tmp_path / place), f"{last}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
        return done.stdout

    request = ehr.open(hospital, level="group", group_id="g")
    for place in ("quiet", "killed"):
        go_on(request, tmp_path / place)
    hospital.tick()
    hospital.groups["g"] = {"b", "c"}
    record(hospital, "b", "2")
    # Every rename makes something final: a job, a file, a zone, an index, the series.
    killed = [run("killed", last) for last in (3, 9, 16, 13)]
    assert killed == [""] * 4
    assert run("killed") == run("quiet") != ""
    assert rows_of(open_landing(tmp_path / "killed")) == whole(hospital, request)
