from __future__ import annotations

import pytest

from exports.sandbox.population import Hospital, PatientRecord, patient_record

PATIENTS = 120


@pytest.fixture(scope="session")
def records() -> list[PatientRecord]:
    """The first patients of the default hospital, whole."""
    hospital = Hospital()
    return [patient_record(hospital, index) for index in range(PATIENTS)]
