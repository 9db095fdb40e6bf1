"""The recorded risk is the probability of the label, told from the FHIR Encounters alone."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from exports.sandbox.clock import AS_OF
from exports.sandbox.population import Hospital, patient_record

PATIENTS = 1000
DAY = timedelta(days=1)
Encounter = dict[str, Any]


@dataclass(frozen=True)
class Stay:
    """Inpatient Encounters less than 24 hours apart."""

    last: str
    start: datetime
    end: datetime
    unplanned: bool
    disposition: str
    encounters: int


@dataclass(frozen=True)
class Hospitalisations:
    """One patient's stays and the risks recorded for them."""

    stays: list[Stay]
    risks: dict[str, float]


def inpatient_stays(resources: list[dict[str, Any]]) -> list[Stay]:
    """The finished stays of one patient: the latest version of each Encounter, voided ones out."""
    latest: dict[str, Encounter] = {}
    for each in resources:
        if each["resourceType"] == "Encounter" and each["class"]["code"] == "IMP":
            known = latest.get(each["id"])
            if known is None or known["meta"]["lastUpdated"] <= each["meta"]["lastUpdated"]:
                latest[each["id"]] = each
    real = [each for each in latest.values() if each["status"] == "finished"]
    stays: list[Stay] = []
    for each in sorted(real, key=lambda each: datetime.fromisoformat(each["period"]["start"])):
        start, end = (datetime.fromisoformat(each["period"][edge]) for edge in ("start", "end"))
        disposition = each["hospitalization"]["dischargeDisposition"]["coding"][0]["code"]
        unplanned = each["priority"]["coding"][0]["code"] in ("EM", "UR")
        if stays and start - stays[-1].end < DAY:
            first = stays.pop()
            count = first.encounters + 1
            stays.append(Stay(each["id"], first.start, end, first.unplanned, disposition, count))
        else:
            stays.append(Stay(each["id"], start, end, unplanned, disposition, 1))
    return stays


@pytest.fixture(scope="module")
def hospitalisations() -> list[Hospitalisations]:
    found = []
    for index in range(PATIENTS):
        record = patient_record(Hospital(), index)
        risks = {each.encounter_id: each.risk for each in record.truth.risks}
        found.append(Hospitalisations(inpatient_stays(record.resources + record.late), risks))
    return found


@pytest.fixture(scope="module")
def discharges(hospitalisations: list[Hospitalisations]) -> NDArray[np.float64]:
    """Risk and label of every discharge whose 30 days were over when the export was taken."""
    rows = [
        (
            person.risks[stay.last],
            any(
                other.unplanned and stay.end < other.start <= stay.end + 30 * DAY
                for other in person.stays
            ),
        )
        for person in hospitalisations
        for stay in person.stays
        if stay.last in person.risks and stay.end + 31 * DAY < AS_OF
    ]
    return np.array(rows, dtype=np.float64)


def test_every_discharge_alive_and_with_advice_has_one_risk(
    hospitalisations: list[Hospitalisations],
) -> None:
    for person in hospitalisations:
        index_stays = {
            stay.last for stay in person.stays if stay.disposition not in ("exp", "aadvice")
        }
        assert person.risks.keys() == index_stays
        assert all(0 < risk < 1 for risk in person.risks.values())


def assert_calibrated(rows: NDArray[np.float64]) -> None:
    risk, label = rows.T
    error = np.sqrt((risk * (1 - risk)).sum()) / len(rows)
    assert abs(label.mean() - risk.mean()) < 4 * error


def test_the_mean_label_is_the_mean_risk(discharges: NDArray[np.float64]) -> None:
    assert len(discharges) > 2000
    assert_calibrated(discharges)


def test_the_risk_is_calibrated_in_each_fifth(discharges: NDArray[np.float64]) -> None:
    for fifth in np.array_split(discharges[discharges[:, 0].argsort()], 5):
        assert_calibrated(fifth)


def test_the_check_sees_a_risk_that_is_a_third_too_high(discharges: NDArray[np.float64]) -> None:
    exaggerated = np.minimum(discharges * [1.33, 1], 1)
    with pytest.raises(AssertionError):
        assert_calibrated(exaggerated)


def test_readmissions_are_as_frequent_and_as_predictable_as_intended(
    discharges: NDArray[np.float64],
) -> None:
    risk, label = discharges.T
    assert 0.17 < label.mean() < 0.23
    assert 0.75 < roc_auc_score(label, risk) < 0.82


def test_stays_are_of_all_kinds(hospitalisations: list[Hospitalisations]) -> None:
    stays = [stay for person in hospitalisations for stay in person.stays]
    share = {
        kind: np.mean([stay.disposition == kind for stay in stays]) for kind in ["exp", "aadvice"]
    }
    assert 0.01 < share["exp"] < 0.05
    assert 0.005 < share["aadvice"] < 0.03
    assert 0.02 < np.mean([stay.encounters == 2 for stay in stays]) < 0.05
    assert 0.1 < np.mean([not stay.unplanned for stay in stays]) < 0.3


def test_planned_stays_fall_into_the_days_after_a_discharge(
    hospitalisations: list[Hospitalisations],
) -> None:
    soon = [
        later
        for person in hospitalisations
        for stay, later in zip(person.stays, person.stays[1:], strict=False)
        if not later.unplanned and later.start <= stay.end + 30 * DAY
    ]
    assert len(soon) > 10
