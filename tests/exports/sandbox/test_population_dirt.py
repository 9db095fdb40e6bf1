"""Dirt is as frequent as stated, and leaves what it touches in order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from math import sqrt
from typing import Any

import orjson
import pytest

from exports.sandbox.catalog import catalog
from exports.sandbox.dirt import RATES, VERBAL_NOTE
from exports.sandbox.elements import BASE, LOCAL
from exports.sandbox.grime import SENTINELS
from exports.sandbox.population import PatientRecord

Resource = dict[str, Any]


@pytest.fixture(scope="module")
def by_type(records: list[PatientRecord]) -> dict[str, list[Resource]]:
    found: dict[str, list[Resource]] = {}
    for record in records:
        for resource in record.resources:
            found.setdefault(resource["resourceType"], []).append(resource)
    return found


def assert_rate(found: int, of: int, kind: str) -> None:
    rate = RATES[kind]
    assert found > 0
    assert abs(found - rate * of) < 5 * sqrt(of * rate) + 0.03 * of * rate, (kind, found, of)


def code(resource: Resource) -> str:
    """The published code, wherever it stands among several."""
    codings = resource["code"]["coding"]
    return next(str(each["code"]) for each in codings if each["system"] != LOCAL)


def voided(resource: Resource) -> bool:
    if resource["resourceType"] == "Condition":
        status = resource["verificationStatus"]["coding"][0]["code"]
    else:
        status = resource["status"]
    return bool(status == "entered-in-error")


def test_measures_come_in_two_units(by_type: dict[str, list[Resource]]) -> None:
    coded = [each for each in by_type["Observation"] if "code" in each.get("valueQuantity", {})]
    dual = [each for each in coded if unit_of(each) is not None]
    other = [each for each in dual if each["valueQuantity"]["code"] == unit_of(each)]
    assert {code(each) for each in other} == {code(each) for each in dual}
    assert_rate(len(other), len(dual), "other unit")


def unit_of(observation: Resource) -> str | None:
    measure = catalog().measures.get(code(observation))
    return measure.other_unit if measure is not None and measure.other_unit else None


def test_other_units_say_the_same(by_type: dict[str, list[Resource]]) -> None:
    for each in by_type["Observation"]:
        result = each.get("valueQuantity", {})
        if code(each) == "8310-5" and each["status"] == "final" and "code" in result:
            low, high = (93, 107) if result["code"] == "[degF]" else (34, 42)
            assert low < result["value"] < high


@pytest.mark.parametrize("kind", ["Observation", "Condition", "Encounter"])
def test_some_rows_were_entered_in_error(by_type: dict[str, list[Resource]], kind: str) -> None:
    wrong = [each for each in by_type[kind] if voided(each)]
    right = {each["id"] for each in by_type[kind] if not voided(each)}
    assert right.isdisjoint(each["id"] for each in wrong)
    assert_rate(len(wrong), len(right), "entered in error")


def test_some_rows_come_again_in_the_same_file_and_later(records: list[PatientRecord]) -> None:
    rows = again = late = 0
    for record in records:
        lines = Counter(orjson.dumps(each) for each in record.resources)
        rows += len(lines)
        again += sum(count - 1 for count in lines.values())
        late += len(record.late)
        assert all(orjson.dumps(each) in lines for each in record.late)
    assert_rate(again, rows, "repeated")
    assert_rate(late, rows, "repeated late")


def test_some_rows_have_an_earlier_version(records: list[PatientRecord]) -> None:
    rows = older = 0
    for record in records:
        versions: dict[str, set[str]] = {}
        for each in record.resources:
            versions.setdefault(each["id"], set()).add(each["meta"]["lastUpdated"])
        rows += len(versions)
        older += sum(len(times) - 1 for times in versions.values())
    assert_rate(older, rows, "older version")


def test_the_latest_version_of_a_row_is_final(by_type: dict[str, list[Resource]]) -> None:
    latest: dict[str, Resource] = {}
    for each in by_type["Observation"]:
        known = latest.setdefault(each["id"], each)
        if known["meta"]["lastUpdated"] < each["meta"]["lastUpdated"]:
            latest[each["id"]] = each
    assert {each["status"] for each in latest.values()} == {"final", "entered-in-error"}
    assert "preliminary" in {each["status"] for each in by_type["Observation"]}


def test_some_references_are_absolute(by_type: dict[str, list[Resource]]) -> None:
    labs = by_type["Observation"]
    absolute = [
        each for each in labs if each["subject"]["reference"].startswith(f"{BASE}/Patient/")
    ]
    assert_rate(len(absolute), len(labs), "absolute reference")


def test_some_condition_dates_are_partial_or_missing(by_type: dict[str, list[Resource]]) -> None:
    conditions = by_type["Condition"]
    onsets = [each["onsetDateTime"] for each in conditions if "onsetDateTime" in each]
    assert {len(onset) for onset in onsets} >= {4, 7, 25}
    recorded = [each.get("recordedDate", "") for each in conditions]
    assert_rate(sum(len(date) == 10 for date in recorded), len(recorded), "date-only record")
    assert_rate(sum(date == "" for date in recorded), len(recorded), "unrecorded")


def test_an_unknown_extension_names_a_person(by_type: dict[str, list[Resource]]) -> None:
    noted = [
        extension["valueString"]
        for each in by_type["Observation"]
        for extension in each.get("extension", [])
        if extension["url"] == VERBAL_NOTE
    ]
    assert_rate(len(noted), len(by_type["Observation"]), "verbal note")
    assert all(re.fullmatch(r"as told by \S+ .+", text) for text in noted)


def test_low_results_are_reported_as_less_than_the_limit(
    by_type: dict[str, list[Resource]],
) -> None:
    below = [
        each
        for each in by_type["Observation"]
        if each.get("valueQuantity", {}).get("comparator") == "<"
    ]
    assert 0 < len(below) < len(by_type["Observation"]) / 100
    assert all(catalog().measures[code(each)].floor for each in below)


def stained(resources: list[Resource], has: Callable[[Resource], bool]) -> int:
    return len({each["id"] for each in resources if has(each)})


@pytest.mark.parametrize(
    ("kind", "has"),
    [
        ("Observation", lambda each: "unit" not in each.get("valueQuantity", {"unit": ""})),
        ("Observation", lambda each: "code" not in each.get("valueQuantity", {"code": ""})),
        ("Observation", lambda each: each.get("valueString", "").startswith("<")),
        ("Observation", lambda each: "told at" in each.get("valueString", "")),
        ("Observation", lambda each: len(each["code"]["coding"]) > 1),
        ("Observation", lambda each: each["code"]["coding"][0]["system"] == LOCAL),
        ("Observation", lambda each: each["issued"].endswith("Z")),
        ("Observation", lambda each: "text" in each),
        ("Observation", lambda each: "ehrInternal" in each),
        ("Condition", lambda each: each.get("onsetDateTime") in SENTINELS),
        ("Condition", lambda each: each.get("abatementDateTime") == "9999-12-31"),
        ("MedicationRequest", lambda each: "contained" in each),
        ("MedicationRequest", lambda each: "medicationReference" in each),
        ("MedicationDispense", lambda each: each["whenHandedOver"].endswith("Z")),
        ("Immunization", lambda each: len(each["occurrenceDateTime"]) < 10),
    ],
)
def test_some_are_dirty_in_other_ways(
    by_type: dict[str, list[Resource]], kind: str, has: Callable[[Resource], bool]
) -> None:
    assert 0 < stained(by_type[kind], has) < 0.2 * len(by_type[kind])
