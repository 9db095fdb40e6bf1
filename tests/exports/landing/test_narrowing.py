"""A parameter that the server did not apply is applied here, as its specification says."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exports.errors import FhirloomError
from exports.landing.narrowing import NOTHING_NARROWED, SUBSETTED, Narrowing
from exports.landing.searching import parse_search, time_span
from exports.landing.sieve import Sieve
from exports.landing.zone import land_folder
from exports.request import ExportRequest

Resource = dict[str, Any]
LOINC = "http://loinc.org"


def observation(**more: Any) -> Resource:
    return {"resourceType": "Observation", "id": "o", **more}


def coded(*codings: tuple[str, str]) -> Resource:
    return {"coding": [{"system": system, "code": code} for system, code in codings]}


FULL = observation(
    meta={"lastUpdated": "2024-03-05T10:00:00Z", "versionId": "3"},
    status="final",
    category=[coded(("urn:cat", "laboratory")), coded(("urn:cat", "chemistry"))],
    code=coded((LOINC, "718-7"), ("urn:local", "HGB")),
    subject={"reference": "Patient/p-1"},
    performer=[{"reference": "Practitioner/d"}],
    effectiveDateTime="2024-03-04T09:30:00+01:00",
    valueQuantity={"value": 13.10},
)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("code=718-7", True),
        ("code=http://loinc.org|718-7", True),
        ("code=http://loinc.org|", True),
        ("code=http://loinc.org|HGB", False),
        ("code=|718-7", False),
        ("code=1,2,718-7", True),
        ("code=1,2", False),
        ("code=1%2C718-7", True),
        ("category=laboratory&category=chemistry", True),
        ("category=laboratory&category=vital-signs", False),
        ("category=laboratory,vital-signs&status=final,amended", True),
        ("status=http://hl7.org/fhir/observation-status|final", True),
        ("status=preliminary", False),
        ("subject=Patient/p-1", True),
        ("patient=p-1,p-2", True),
        ("patient=https://x/fhir/Patient/p-1", True),
        ("patient=p-10", False),
        ("_id=o,q", True),
        ("_id=q", False),
        ("date=2024-03-04", True),
        ("date=2024-03", True),
        ("date=2024-03-05", False),
        ("date=ne2024-03-05", True),
        ("date=ge2024-03-04", True),
        ("date=gt2024-03-04", False),
        ("date=lt2024-03-04", False),
        ("date=le2024-03-04", True),
        ("date=ge2024-01-01&date=lt2024-02-01", False),
        ("date=ge2024-03-04T08:30:00Z", True),
        ("date=gt2024-03-04T08:29:59Z", True),
        ("date=eq2024-03-04T09:30:00+01:00", True),
        ("date=sa2024-03-03", True),
        ("date=eb2024-03-05", True),
        ("date=2020,2024", True),
        ("_lastUpdated=gt2024-03-05T09:00:00Z", True),
        ("_lastUpdated=gt2024-03-06", False),
    ],
)
def test_a_type_filter_finds_what_a_server_would(query: str, found: bool) -> None:
    assert parse_search(f"Observation?{query}").finds(FULL) is found


def test_other_shapes_of_tokens_and_dates() -> None:
    encounter = {
        "resourceType": "Encounter",
        "id": "e",
        "class": {"system": "urn:act", "code": "IMP"},
        "period": {"start": "2024-01-01"},
    }
    assert parse_search("Encounter?class=IMP").finds(encounter)
    assert parse_search("Encounter?date=ge2030").finds(encounter)
    assert parse_search("Encounter?date=gt2023-12-31&class=urn:act|IMP").finds(encounter)
    assert not parse_search("Encounter?date=lt2023-12-31").finds(encounter)
    assert not parse_search("Encounter?date=2024").finds({**encounter, "period": {}})
    person = {"resourceType": "Patient", "id": "p", "active": True, "birthDate": "1950-04"}
    assert parse_search("Patient?active=true&birthdate=1950").finds(person)
    assert not parse_search("Patient?birthdate=1950-04-01").finds(person)
    drug = {"resourceType": "MedicationRequest", "medicationCodeableConcept": coded(("r", "1"))}
    assert parse_search("MedicationRequest?code=r|1").finds(drug)
    assert not parse_search("MedicationRequest?code=1").finds({"resourceType": "MedicationRequest"})
    odd = observation(code=coded(("s", "a,b|c")))
    assert parse_search(r"Observation?code=a\,b\|c").finds(odd)
    pressure = observation(code=coded(("l", "panel")), component=[{"code": coded(("l", "sys"))}])
    for search, found in (("l|panel", True), ("l|sys", True), ("l|dia", False)):
        assert parse_search(f"Observation?combo-code={search}").finds(pressure) is found
    assert not parse_search("Observation?code=l|sys").finds(pressure)
    assert not parse_search("Observation?combo-code=l|sys").finds(observation(component=["?"]))


@pytest.mark.parametrize(
    "text",
    [
        "Observation?code:in=urn:x",
        "Observation?value-quantity=gt5",
        "Observation?patient.name=x",
        "Observation?subject=Group/1",
        "Observation?date=soon",
        "Observation?date=ap2024",
        "Observation?class",
        "Observation?_has:x=1",
        "Nonsense?code=1",
    ],
)
def test_what_cannot_be_decided_here_is_refused_without_its_words(text: str) -> None:
    with pytest.raises(FhirloomError) as raised:
        Narrowing(type_filters=(text,))
    assert raised.value.code == "bad-input"
    assert text.partition("?")[2] not in str(raised.value)


def test_filters_of_a_type_are_alternatives_and_other_types_pass() -> None:
    narrowing = Narrowing(type_filters=("Observation?code=1", "Observation?code=718-7"))
    assert narrowing.of(FULL) == FULL
    assert narrowing.of({**FULL, "code": coded((LOINC, "2"))}) is None
    assert narrowing.refused({**FULL, "code": coded((LOINC, "2"))}) == "_typeFilter"
    assert narrowing.of({"resourceType": "Patient", "id": "p"}) is not None


def test_types_patients_and_times() -> None:
    march = datetime(2024, 3, 5, 10, tzinfo=UTC)
    second = timedelta(seconds=1)
    refused = {
        "": [
            Narrowing(types=("Observation",)),
            Narrowing(since=march - second, until=march + second),
            Narrowing(since=march, until=march),
            Narrowing(patients=("p-0", "p-1")),
        ],
        "_type": [Narrowing(types=("Patient",))],
        "_since": [Narrowing(since=march + second)],
        "_until": [Narrowing(until=march - second)],
        "patient": [Narrowing(patients=("p-10", "p"))],
    }
    assert [
        (parameter, narrowing.refused(FULL) == parameter)
        for parameter, narrowings in refused.items()
        for narrowing in narrowings
    ] == [(parameter, True) for parameter, those in refused.items() for _ in those]
    undated = {name: value for name, value in FULL.items() if name != "meta"}
    assert Narrowing(since=march + second).of(undated) == undated
    by_urn = {**FULL, "subject": {"reference": "urn:uuid:p-2"}}
    assert Narrowing(patients=("p-9",)).of(by_urn) is None
    assert Narrowing(patients=("p-2",)).of(by_urn) == by_urn
    supporting = {"resourceType": "Location", "id": "l"}
    assert Narrowing(patients=("p-9",)).of(supporting) == supporting
    person = {"resourceType": "Patient", "id": "p-1"}
    assert Narrowing(patients=("p-1",)).of(person) == person
    assert Narrowing(patients=("p-9",)).of(person) is None


def test_elements_keep_what_was_asked_for_and_what_must_be() -> None:
    narrowing = Narrowing(elements=("Observation.value", "Observation.subject", "Encounter.period"))
    line = orjson.dumps({**FULL, "_status": {"id": "1"}, "modifierExtension": []})
    line = line.replace(b"13.1", b"13.10")
    kept = narrowing.line_of(line)
    assert kept is not None
    assert b"13.10" in kept
    pruned = orjson.loads(kept)
    assert set(pruned) == {
        "resourceType",
        "id",
        "meta",
        "status",
        "_status",
        "code",
        "subject",
        "valueQuantity",
        "modifierExtension",
    }
    assert pruned["meta"] == {**FULL["meta"], "tag": [SUBSETTED]}
    assert narrowing.of(orjson.loads(line)) == pruned
    again = narrowing.line_of(kept)
    assert again == kept
    condition = {"resourceType": "Condition", "id": "c", "note": []}
    assert narrowing.of(condition) == condition
    assert narrowing.line_of(orjson.dumps(condition)) == orjson.dumps(condition)


def test_dropped_parameters_are_applied_and_elements_in_any_case() -> None:
    request = ExportRequest(
        server="https://ehr.example.org/fhir",
        level="patient",
        types=("Patient",),
        since=datetime(2024, 1, 1, tzinfo=UTC),
        elements=("id",),
        patients=("p-1",),
        type_filters=("Patient?active=true",),
    )
    everything = replace(request, elements=())
    assert Narrowing.of_dropped(everything, ()) == NOTHING_NARROWED
    assert not NOTHING_NARROWED.active
    assert Narrowing.of_dropped(everything, {"_type"}) == Narrowing(types=("Patient",))
    # A server that passes over the elements says nothing about it.
    assert Narrowing.of_dropped(request, ()) == Narrowing(elements=("id",))
    whole = Narrowing.of_dropped(
        request, {"_type", "_since", "_until", "patient", "_elements", "_typeFilter"}
    )
    assert (whole.types, whole.patients, whole.elements) == (("Patient",), ("p-1",), ("id",))
    assert (whole.since, whole.type_filters) == (request.since, request.type_filters)


def test_what_should_have_been_heeded_is_what_can_be_told_here() -> None:
    request = ExportRequest(
        server="https://ehr.example.org/fhir",
        level="patient",
        types=("Observation",),
        since=datetime(2024, 1, 1, tzinfo=UTC),
        elements=("id",),
        patients=("p-1",),
        type_filters=("Observation?code=1", "Observation?code:in=urn:x", "Condition?code=1"),
    )
    # Filters of a type are alternatives: one that can't be decided leaves all of them open.
    heeded = Narrowing.of_heeded(request, ())
    assert heeded == Narrowing(
        since=request.since, patients=("p-1",), type_filters=("Condition?code=1",)
    )
    left = Narrowing.of_heeded(request, {"_since", "patient", "_typeFilter"})
    assert left == NOTHING_NARROWED
    group = replace(request, level="group", group_id="g", patients=())
    assert Narrowing.of_heeded(group, ()).since is None


def test_what_was_not_asked_for_is_not_in_the_zone(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    wanted = observation(status="final", code=coded((LOINC, "1")), note=[{"text": "private"}])
    other = observation(status="final", code=coded((LOINC, "2")), note=[{"text": "private"}])
    rows = [wanted, other, {"resourceType": "Patient", "id": "private"}]
    (source / "all").write_bytes(b"\n".join([*map(orjson.dumps, rows), b"{private"]))
    narrowing = Narrowing(
        types=("Observation",), elements=("id",), type_filters=("Observation?code=1",)
    )
    zone = land_folder(source, tmp_path / "phi", sieve=Sieve(narrowing=narrowing))
    assert zone.rows() == {"Observation": 1}
    assert zone.narrowed == {"_type": 1, "_typeFilter": 1}
    assert zone.quarantined == {"not-json": 1}
    assert [(file.type, file.rows, file.narrowed) for file in zone.files] == [
        ("Observation", 1, 1),
        ("Patient", 0, 1),
    ]
    files = [path for path in zone.sealed.path.rglob("*") if path.is_file()]
    assert not any(b"private" in path.read_bytes() for path in files if path.suffix != ".gz")
    assert not list((zone.sealed.path / "files").iterdir())


CODES = st.sampled_from(["1", "2", "3"])
SYSTEMS = st.sampled_from(["", "s", "t"])
CODING = st.tuples(SYSTEMS, CODES)
ASKED = st.tuples(st.sampled_from([None, "", "s", "t"]), CODES)


@given(
    codings=st.lists(CODING, max_size=3),
    wanted=st.lists(
        st.tuples(st.sampled_from([None, "", "s", "t"]), CODES), min_size=1, max_size=3
    ),
)
def test_tokens_by_a_naive_reading(
    codings: list[tuple[str, str]], wanted: list[tuple[str | None, str]]
) -> None:
    resource = observation(
        code={
            "coding": [
                {"code": code, **({"system": system} if system else {})} for system, code in codings
            ]
        }
    )
    query = ",".join(code if system is None else f"{system}|{code}" for system, code in wanted)
    naive = any(
        code == asked and (of is None or of == system)
        for system, code in codings
        for of, asked in wanted
    )
    assert parse_search(f"Observation?code={query}").finds(resource) is naive


DAYS = st.integers(0, 800).map(lambda day: datetime(2023, 1, 1, tzinfo=UTC) + timedelta(days=day))
LENGTHS = st.sampled_from([4, 7, 10])


@given(
    day=DAYS,
    known=LENGTHS,
    asked_day=DAYS,
    asked=LENGTHS,
    prefix=st.sampled_from(["", "eq", "ne", "gt", "lt", "ge", "le", "sa", "eb"]),
)
def test_dates_by_a_naive_reading(
    day: datetime, known: int, asked_day: datetime, asked: int, prefix: str
) -> None:
    written, searched = day.isoformat()[:known], asked_day.isoformat()[:asked]
    every_day = [datetime(2022, 1, 1, tzinfo=UTC) + timedelta(days=n) for n in range(2000)]
    of = {one for one in every_day if one.isoformat().startswith(written)}
    span = {one for one in every_day if one.isoformat().startswith(searched)}
    naive = {
        "": of <= span,
        "eq": of <= span,
        "ne": not of <= span,
        "gt": max(of) > max(span),
        "lt": min(of) < min(span),
        "ge": max(of) > max(span) or of <= span,
        "le": min(of) < min(span) or of <= span,
        "sa": min(of) > max(span),
        "eb": max(of) < min(span),
    }[prefix]
    search = parse_search(f"Observation?date={prefix}{searched}")
    assert search.finds(observation(effectiveDateTime=written)) is naive


@given(moment=st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1)), digits=st.integers(0, 6))
def test_an_instant_covers_what_its_digits_leave_open(moment: datetime, digits: int) -> None:
    fraction = f".{moment.microsecond:06d}"[: digits + 1] if digits else ""
    span = time_span(f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z")
    assert span is not None
    assert span[0] <= moment.replace(tzinfo=UTC) < span[1]
    assert span[1] - span[0] == timedelta(seconds=1) / 10**digits


def test_what_is_no_time() -> None:
    for text in ("", "2024-13", "2024-02-30", "20240101", "2024-01-01T25:00:00Z", "9999"):
        assert time_span(text) is None
