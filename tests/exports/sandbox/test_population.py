"""The synthetic hospital is deterministic, well-formed FHIR, and ends when its export is taken."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from random import Random
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exports.sandbox.clock import AS_OF, instant, local, moment
from exports.sandbox.elements import BASE
from exports.sandbox.people import Person, make_person
from exports.sandbox.population import (
    Hospital,
    PatientRecord,
    hospital_resources,
    patient_record,
)

REQUIRED = {
    "Patient": {"identifier", "name", "gender", "birthDate", "address", "telecom", "contact"},
    "Encounter": {"status", "class", "type", "subject", "period", "participant", "priority"},
    "Condition": {"verificationStatus", "category", "code", "subject"},
    "Observation": {"status", "category", "code", "subject", "effectiveDateTime", "issued"},
    "MedicationRequest": {"status", "intent", "subject", "authoredOn"},
    "Procedure": {"status", "code", "subject"},
    "DocumentReference": {"status", "type", "subject", "date", "content"},
    "AllergyIntolerance": {"verificationStatus", "code", "patient", "recordedDate"},
    "CarePlan": {"status", "intent", "category", "subject", "text"},
    "Coverage": {"status", "type", "beneficiary", "payor", "subscriberId"},
    "Device": {"type", "patient", "serialNumber", "udiCarrier"},
    "DiagnosticReport": {"status", "category", "code", "subject", "effectiveDateTime", "issued"},
    "Goal": {"lifecycleStatus", "description", "subject", "target"},
    "Immunization": {"status", "vaccineCode", "patient", "occurrenceDateTime", "primarySource"},
    "MedicationAdministration": {"status", "category", "subject", "context", "performer"},
    "MedicationDispense": {"status", "subject", "authorizingPrescription", "whenHandedOver"},
    "MedicationStatement": {"status", "subject", "dateAsserted", "informationSource"},
    "RelatedPerson": {"active", "patient", "relationship", "name"},
    "ServiceRequest": {"status", "intent", "category", "code", "subject", "authoredOn"},
    "Specimen": {"type", "subject", "collection", "accessionIdentifier"},
}
MEDICATED = {name for name in REQUIRED if name.startswith("Medication")}
DATE_TIME = re.compile(r"\d{4}(-\d\d(-\d\d(T\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d))?)?)?")
HAPPENING = {"effectiveDateTime", "authoredOn", "performedDateTime", "onsetDateTime"}
KNOWING = {"issued", "recordedDate", "lastUpdated", "date"}


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Every string in a resource, with the name of the element that holds it."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from leaves(inner, name)
    elif isinstance(value, str):
        yield name, value


def resources(records: list[PatientRecord]) -> Iterator[dict[str, Any]]:
    for record in records:
        yield from record.resources
        yield from record.late


def person(index: int) -> Person:
    return make_person(Random(index), seed=7, index=index, entry=moment(2019))  # noqa: S311


def dump(record: PatientRecord) -> bytes:
    return orjson.dumps([record.resources, record.late, record.truth.risks])


def test_a_patient_comes_from_seed_and_index_alone(records: list[PatientRecord]) -> None:
    small, large = Hospital(patients=20), Hospital(patients=1_000_000)
    assert dump(patient_record(large, 17)) == dump(patient_record(small, 17)) == dump(records[17])
    assert dump(patient_record(small, 3)) == dump(records[3])


def test_another_seed_makes_other_people() -> None:
    assert dump(patient_record(Hospital(seed=8), 0)) != dump(patient_record(Hospital(), 0))


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_record_numbers_have_eight_digits_and_are_never_shared(one: int, other: int) -> None:
    first, second = person(one), person(other)
    assert re.fullmatch(r"\d{8}", first.mrn)
    assert (first.mrn == second.mrn) == (one == other)


@pytest.mark.parametrize(
    ("utc", "wall"),
    [
        ("2024-03-10T06:59:59Z", "2024-03-10T01:59:59-05:00"),
        ("2024-03-10T07:00:00Z", "2024-03-10T03:00:00-04:00"),
        ("2024-11-03T05:59:59Z", "2024-11-03T01:59:59-04:00"),
        ("2024-11-03T06:00:00Z", "2024-11-03T01:00:00-05:00"),
        ("2019-01-01T02:00:00Z", "2018-12-31T21:00:00-05:00"),
    ],
)
def test_the_hospital_keeps_eastern_time(utc: str, wall: str) -> None:
    assert local(int(datetime.fromisoformat(utc).timestamp())) == wall


@given(st.integers(moment(1930), moment(2030)))
def test_written_times_name_the_moment(at: int) -> None:
    assert datetime.fromisoformat(local(at)).timestamp() == at
    assert datetime.fromisoformat(instant(at)).timestamp() == at


def test_every_resource_has_what_its_profile_requires(records: list[PatientRecord]) -> None:
    seen = set()
    for resource in resources(records):
        kind = resource["resourceType"]
        seen.add(kind)
        assert REQUIRED[kind] <= resource.keys(), kind
        assert re.fullmatch(r"[A-Za-z0-9\-.]{1,64}", resource["id"])
        if kind == "Observation":
            assert len({"valueQuantity", "valueString", "component"} & resource.keys()) == 1
        if kind in MEDICATED:
            assert ("medicationCodeableConcept" in resource) != ("medicationReference" in resource)
    assert seen == REQUIRED.keys()


def test_all_times_are_fhir_times(records: list[PatientRecord]) -> None:
    for resource in resources(records):
        for name, value in leaves(resource):
            if name in HAPPENING | KNOWING | {"start", "end", "birthDate", "deceasedDateTime"}:
                assert DATE_TIME.fullmatch(value), name
            if name in {"issued", "lastUpdated"} or (name in {"start", "end"} and "T" in value):
                assert datetime.fromisoformat(value).tzinfo is not None, name


def test_nothing_is_later_than_the_export_and_nothing_happens_after_death(
    records: list[PatientRecord],
) -> None:
    deaths = 0
    for record in records:
        patient = next(each for each in record.resources if each["resourceType"] == "Patient")
        death = patient.get("deceasedDateTime")
        end = datetime.fromisoformat(death) if death else AS_OF
        deaths += death is not None
        for resource in record.resources:
            for name, value in leaves(resource):
                if name not in HAPPENING | KNOWING | {"start", "end"} or len(value) < 11:
                    continue
                assert datetime.fromisoformat(value) <= AS_OF, name
                if name not in KNOWING:
                    assert datetime.fromisoformat(value) <= end, name
    assert deaths > 5


def test_all_references_lead_somewhere(records: list[PatientRecord]) -> None:
    shared = hospital_resources(Hospital())
    forms: Counter[str] = Counter()
    for record in records:
        everything = [*shared, *record.resources]
        known = {f"{each['resourceType']}/{each['id']}" for each in everything}
        for resource in record.resources + record.late:
            inner = {f"#{each['id']}" for each in resource.get("contained", [])}
            urns = {f"urn:uuid:{each['id']}" for each in everything}
            for name, value in leaves(resource):
                if name == "reference":
                    relative = value.removeprefix(f"{BASE}/").removesuffix("/_history/1")
                    assert relative in known | inner | urns
                    forms[_form(value)] += 1
    assert set(forms) == {"relative", "absolute", "versioned", "urn", "contained"}
    assert forms["relative"] > 0.9 * forms.total()


def _form(reference: str) -> str:
    if reference.startswith("#"):
        return "contained"
    if reference.endswith("/_history/1"):
        return "versioned"
    if reference.startswith("urn:uuid:"):
        return "urn"
    return "absolute" if reference.startswith(BASE) else "relative"


def test_people_are_adults_of_all_ages_some_past_ninety(records: list[PatientRecord]) -> None:
    ages = []
    for record in records:
        patient = next(each for each in record.resources if each["resourceType"] == "Patient")
        born = datetime.fromisoformat(patient["birthDate"]).replace(tzinfo=UTC)
        visits = [each for each in record.resources if each["resourceType"] == "Encounter"]
        first = min(each["period"]["start"] for each in visits if each["status"] == "finished")
        ages.append((datetime.fromisoformat(first) - born).days / 365.25)
        assert "2018" <= first[:4] <= "2023"
    assert 17.9 < min(ages) < 40
    assert 89 < max(ages) < 97


def test_contact_data_can_belong_to_nobody(records: list[PatientRecord]) -> None:
    for resource in resources(records):
        if resource["resourceType"] == "Patient":
            numbers = ("phone", "fax")
            phones = [each["value"] for each in resource["telecom"] if each["system"] in numbers]
            assert all(re.fullmatch(r"\d{3}-555-\d{4}", phone) for phone in phones)
            assert re.fullmatch(r"9\d\d-\d\d-\d{4}", resource["identifier"][1]["value"])


def test_names_are_as_varied_as_real_ones() -> None:
    families = {person(index).family for index in range(2000)}
    assert {"Hamanová", "O'Connor", "van der Berg"} <= families
    assert "White" in families  # a name that is also a value of US Core race


def test_the_volume_is_that_of_a_small_hospital(records: list[PatientRecord]) -> None:
    counts = Counter(each["resourceType"] for each in resources(records))
    further = REQUIRED.keys() - {
        *("Patient", "Encounter", "Condition", "Observation", "MedicationRequest", "Procedure")
    }
    beside = sum(counts[kind] for kind in further)
    assert 100 < (sum(counts.values()) - beside) / len(records) < 170
    assert 0.1 < beside / counts.total() < 0.25
