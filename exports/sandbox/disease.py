"""The hidden disease process: what makes a synthetic patient ill, and a discharge risky.

A person has a constant frailty, chronic diseases, and a severity that wanders around the frailty
as a first-order autoregressive process (an Ornstein-Uhlenbeck process seen at any moments). None
of these is ever written into FHIR: they show through measures, drugs and hospital use.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random
from typing import Final

from exports.sandbox.catalog import Disease, Measure, Medication, catalog
from exports.sandbox.clock import DAY, YEAR

MEMORY: Final = 110 * DAY
WANDER: Final = 0.75
FRAILTY: Final = 0.6
SYSTOLIC: Final = "8480-6"
DIASTOLIC: Final = "8462-4"
MALE_SHIFTS: Final = {"718-7": 1.3, "2160-0": 0.15, "29463-7": 9.0}


@dataclass(frozen=True)
class Ailment:
    """A chronic disease that one person has, from a moment on, and the drug they take for it."""

    disease: Disease
    since: int
    medication: Medication | None


def sigmoid(log_odds: float) -> float:
    """The probability of given log-odds."""
    return 1 / (1 + math.exp(-log_odds))


class Health:
    """One person's hidden health. Ask in order of time: the severity walks forward only."""

    def __init__(self, rng: Random, *, male: bool, born: int, entry: int, until: int) -> None:
        self.born = born
        self._rng = rng
        self._frailty = rng.gauss(0, 1)
        self._wave, self._at = rng.gauss(0, WANDER), entry
        measures = catalog().measures
        self._traits = {loinc: rng.gauss(0, each.spread) for loinc, each in measures.items()}
        if male:
            for loinc, shift in MALE_SHIFTS.items():
                self._traits[loinc] += shift
        self.ailments = tuple(self._contract(entry, until))

    def _contract(self, entry: int, until: int) -> list[Ailment]:
        decades = (self.age(entry) - 60) / 10
        found = []
        for disease in catalog().diseases:
            log_odds = disease.log_odds + disease.per_decade * decades
            if self._rng.random() < sigmoid(log_odds + disease.frailty * self._frailty):
                if self._rng.random() < 0.75:
                    since = entry - int(self._rng.uniform(0.2, 9) * YEAR)
                else:
                    since = self._rng.randrange(entry, until)
                drugs = disease.medications
                found.append(Ailment(disease, since, self._rng.choice(drugs) if drugs else None))
        return found

    def age(self, at: int) -> float:
        """Age in years."""
        return (at - self.born) / YEAR

    def present(self, at: int) -> list[Ailment]:
        """The chronic diseases the person has by then."""
        return [ailment for ailment in self.ailments if ailment.since <= at]

    def load(self, at: int) -> float:
        """How much the present diseases raise hospital use (log rate)."""
        return sum(ailment.disease.load for ailment in self.present(at))

    def severity(self, at: int) -> float:
        """Severity now, about normal (mean 0, sd 1) over the population."""
        keep = math.exp(-max(0, at - self._at) / MEMORY)
        step = WANDER * math.sqrt(1 - keep * keep)
        self._wave, self._at = keep * self._wave + step * self._rng.gauss(0, 1), max(at, self._at)
        return FRAILTY * self._frailty + self._wave

    def measure(self, at: int, occasion: str, acute: float) -> dict[str, float]:
        """What is measured on an occasion (admission, discharge, visit): value by LOINC code.

        `acute` is how ill the present illness makes the person, 0 and up.
        """
        severity, present = self.severity(at), self.present(at)
        values = {}
        for loinc, measure in catalog().measures.items():
            shifts = [
                each.disease.shifts[loinc] for each in present if loinc in each.disease.shifts
            ]
            chance = measure.chance[occasion]
            if shifts and 0 < chance < 0.6:
                chance += 0.35
            if self._rng.random() < chance or (loinc == DIASTOLIC and SYSTOLIC in values):
                values[loinc] = self._value(measure, sum(shifts), severity, acute)
        return values

    def _value(self, measure: Measure, shift: float, severity: float, acute: float) -> float:
        log = measure.scale == "log"
        value = math.log(measure.typical) if log else measure.typical
        value += self._traits[measure.loinc] + shift + self._rng.gauss(0, measure.noise)
        value += measure.severity * severity + measure.acute * acute
        value = math.exp(value) if log else value
        return round(min(max(value, measure.low), measure.high), measure.digits)


@dataclass(frozen=True)
class Discharge:
    """What the true risk of a discharge rests on, nearly all of it on the record by then.

    Ages in years, `stay` in days, `values` by LOINC code in the catalogue's units, `illness` the
    summed `risk` of the present diseases, `severity` hidden.
    """

    severity: float
    illness: float
    age: float
    stay: float
    unplanned: bool
    stays_last_year: int
    drugs: int
    values: dict[str, float]


def readmission_risk(discharge: Discharge, rng: Random) -> float:
    """The probability of an unplanned inpatient admission within 30 days of a discharge.

    Linear in log-odds; a test that was not done adds nothing; the last term is seen by nobody.
    """
    values = discharge.values
    log_odds = -2.50 + 0.48 * discharge.severity + 0.48 * discharge.illness
    log_odds += 0.30 * math.log1p(discharge.stays_last_year)
    log_odds += 0.30 * discharge.unplanned + 0.20 * math.log(max(discharge.stay, 0.5) / 3)
    log_odds += 0.08 * (discharge.age - 65) / 10 + 0.06 * (discharge.drugs - 4)
    log_odds += 0.50 * math.log(values.get("2160-0", 1.0) / 1.0)
    log_odds += 0.20 * math.log(values.get("42637-9", 100.0) / 100.0)
    log_odds += 0.14 * (12.5 - values.get("718-7", 12.5))
    log_odds += 0.08 * (138.0 - values.get("2951-2", 138.0))
    log_odds += rng.gauss(0, 0.3)
    return sigmoid(log_odds)
