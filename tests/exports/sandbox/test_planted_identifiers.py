"""Identifiers of every class are planted, and each stands where the truth says."""

from __future__ import annotations

import html
import re
from base64 import b64decode
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from exports.sandbox.particulars import VIN_VALUES, VIN_WEIGHTS
from exports.sandbox.population import Hospital, PatientRecord, hospital_resources, patient_record
from exports.sandbox.staff import staff
from exports.sandbox.truth import PlantedIdentifier

Resource = dict[str, Any]
HOSPITAL = Hospital(seed=7, patients=200)
CLASSES = set("ABCDEFGHIJKLMNOPQR")
"""45 CFR 164.514(b)(2)(i)."""
STEP = re.compile(r"(\w+)(?:\[(\d+)\])?\.?")
RTF_CHARACTER = re.compile(r"\\u(-?\d+)\?")


@pytest.fixture(scope="module")
def records() -> list[PatientRecord]:
    return [patient_record(HOSPITAL, index) for index in range(HOSPITAL.patients)]


@pytest.fixture(scope="module")
def truth(records: list[PatientRecord]) -> list[PlantedIdentifier]:
    return [each for record in records for each in record.truth.identifiers]


def seen(attachment: Resource) -> str:
    """What a reader sees of an attachment."""
    text = b64decode(attachment["data"]).decode()
    kind = attachment["contentType"].partition(";")[0]
    if kind == "text/html":
        return html.unescape(re.sub(r"<[^>]*>", "", text))
    if kind == "text/rtf":
        return RTF_CHARACTER.sub(lambda found: chr(int(found[1]) % 0x10000), text)
    return text


def value_at(resource: Resource, location: str) -> str | None:
    """The string at a FHIR path of named elements and numbered items, as a reader sees it."""
    here: Any = resource
    for name, number in STEP.findall(location.partition(".")[2]):
        if name == "data" and here.get("contentType", "").startswith("text/"):
            return seen(here)
        here = here.get(name) if isinstance(here, dict) else None
        if isinstance(here, list):
            here = here[int(number)] if int(number) < len(here) else None
        if here is None:
            return None
    return str(here)


def versions(records: list[PatientRecord]) -> dict[tuple[str, str], list[Resource]]:
    found: defaultdict[tuple[str, str], list[Resource]] = defaultdict(list)
    for record in records:
        for each in record.resources:
            found[each["resourceType"], each["id"]].append(each)
    return found


def test_every_class_is_planted_in_many_places(truth: list[PlantedIdentifier]) -> None:
    assert {each.letter for each in truth} == CLASSES
    places = {re.sub(r"\[\d+\]", "", each.location) for each in truth}
    assert len(places) > 70
    assert len({place.partition(".")[0] for place in places}) >= 17
    of_class = Counter(each.letter for each in truth)
    assert min(of_class.values()) >= 30, of_class


def test_planted_identifiers_stand_where_the_truth_says(
    records: list[PatientRecord], truth: list[PlantedIdentifier]
) -> None:
    resources = versions(records)
    for each in truth:
        there = resources[each.location.partition(".")[0], each.resource_id]
        told = (value_at(resource, each.location) for resource in there)
        assert any(each.value in text for text in told if text), each.location


def test_the_check_sees_a_value_that_is_elsewhere(records: list[PatientRecord]) -> None:
    patient = next(r for r in records[0].resources if r["resourceType"] == "Patient")
    assert value_at(patient, "Patient.name[0].family") == patient["name"][0]["family"]
    assert value_at(patient, "Patient.name[7].family") is None
    assert patient["name"][0]["family"] not in str(value_at(patient, "Patient.birthDate"))


def test_truths_name_their_patient_and_practitioners_have_their_own(
    records: list[PatientRecord],
) -> None:
    for record in records:
        ids = {r["id"] for r in record.resources if r["resourceType"] == "Patient"}
        assert {each.patient_id for each in record.truth.identifiers} <= ids
    shared = {each["id"]: each for each in hospital_resources(HOSPITAL)}
    for each in staff(HOSPITAL.seed).identifiers:
        assert value_at(shared[each.resource_id], each.location) == each.value
        assert each.patient_id == ""


def notes(records: list[PatientRecord]) -> Iterator[tuple[str, Resource]]:
    for record in records:
        for each in record.resources:
            for content in each.get("content", ()):
                yield each["id"], content["attachment"]
            for attachment in each.get("presentedForm", ()):
                yield each["id"], attachment


def test_notes_come_in_several_formats_and_kinds(
    records: list[PatientRecord], truth: list[PlantedIdentifier]
) -> None:
    formats = Counter(note["contentType"].partition(";")[0] for _, note in notes(records))
    assert formats.keys() == {"text/plain", "text/html", "text/rtf"}
    assert min(formats.values()) > 20
    types = Counter(
        each["type"]["coding"][0]["display"]
        for record in records
        for each in record.resources
        if each["resourceType"] == "DocumentReference"
    )
    assert len(types) >= 7
    spans: defaultdict[str, set[str]] = defaultdict(set)
    for each in truth:
        if each.location.endswith("data") and "photo" not in each.location:
            spans[each.resource_id].add(each.letter)
    assert set().union(*spans.values()) == CLASSES
    assert all(note in spans for note, _ in notes(records))
    styles = {re.sub(r"\d", "9", each.value) for each in truth if each.letter == "C"}
    assert {"9999-99-99", "99/99/9999", "99.99.9999", "99999999"} <= styles
    assert any(re.search("year|yo", each.value) for each in truth if each.letter == "C")


def test_vehicle_numbers_have_their_check_digit(truth: list[PlantedIdentifier]) -> None:
    numbers = {each.value for each in truth if each.letter == "L" and len(each.value) == 17}
    assert len(numbers) > 20
    for number in numbers:
        values = zip(VIN_WEIGHTS, number, strict=True)
        rest = sum(weight * VIN_VALUES[sign] for weight, sign in values) % 11
        assert number[8] == ("X" if rest == 10 else str(rest))
