"""Patients registered twice, test patients and sensitive results: marked so that all can tell."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from typing import Any

import pytest

from exports.sandbox.population import Hospital, PatientRecord, patient_record
from exports.sandbox.registration import HTEST, RESTRICTED

HOSPITAL = Hospital(seed=7, patients=600)


@pytest.fixture(scope="module")
def records() -> list[PatientRecord]:
    return [patient_record(HOSPITAL, index) for index in range(HOSPITAL.patients)]


def labels(resource: dict[str, Any]) -> list[Any]:
    return list(resource["meta"].get("security", []))


def plain(reference: str) -> str:
    """The id that a reference of any form leads to."""
    return re.split("[/:]", reference.removesuffix("/_history/1"))[-1]


def test_some_patients_are_test_data_and_some_results_are_sensitive(
    records: list[PatientRecord],
) -> None:
    marked: Counter[str] = Counter()
    for record in records:
        for resource in record.resources:
            for label in labels(resource):
                marked[f"{resource['resourceType']} {label['code']}"] += 1
                assert label in (HTEST, RESTRICTED)
    assert marked["Patient HTEST"] > 0
    assert marked["Observation R"] > 0
    assert set(marked) == {"Patient HTEST", "Observation R"}


def test_a_patient_registered_twice_says_so_in_both_records(records: list[PatientRecord]) -> None:
    merged = 0
    for record in records:
        patients = {r["id"]: r for r in record.resources if r["resourceType"] == "Patient"}
        if len(patients) == 1:
            continue
        merged += 1
        by_link = {p["link"][0]["type"]: p for p in patients.values()}
        survivor, former = by_link["replaces"], by_link["replaced-by"]
        assert survivor["link"][0]["other"]["reference"] == f"Patient/{former['id']}"
        assert former["link"][0]["other"]["reference"] == f"Patient/{survivor['id']}"
        assert former["active"] is False
        owners: defaultdict[str, set[str]] = defaultdict(set)
        for resource in record.resources:
            if "encounter" in resource:
                owner = resource["subject" if "subject" in resource else "patient"]
                owners[plain(resource["encounter"]["reference"])].add(plain(owner["reference"]))
        assert all(len(ids) == 1 for ids in owners.values())
        assert set().union(*owners.values()) <= set(patients)
        planted = {p.value for p in record.truth.identifiers if p.location == "Patient.id"}
        assert former["id"] in planted
    assert merged > 2
