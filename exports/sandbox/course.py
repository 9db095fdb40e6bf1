"""One person's years with the hospital: visits, stays, readmissions and death.

Events follow competing exponential clocks whose rates rest on the hidden health. After each
discharge the true risk p is computed, and a readmission is drawn with exactly that probability:
if it comes, an unplanned stay begins 1.2 to 29.5 days later; if not, none begins for 31 days.
So p is the probability of the label for every discharge. Planned stays may fall into those days;
a readmission after one waits until the earlier discharges' 30 days have run out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import exp, inf
from random import Random
from typing import Final, Literal

from exports.sandbox.catalog import Disease, Medication, Reason, catalog
from exports.sandbox.clock import DAY, HOUR, MINUTE, YEAR, at_hour, next_workday
from exports.sandbox.disease import Discharge, Health, readmission_risk, sigmoid

Setting = Literal["ambulatory", "emergency", "observation", "unplanned", "planned"]

WINDOW: Final = 30 * DAY
QUIET: Final = 31 * DAY
SOONEST: Final = int(1.2 * DAY)
LATEST: Final = int(29.5 * DAY)
TRANSFERRED: Final = 0.04
AGAINST_ADVICE: Final = 0.015


@dataclass(frozen=True)
class Reading:
    """Measures taken together, value by LOINC code in the catalogue's units."""

    at: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Visit:
    """One contact with the hospital; `disposition` is empty outside inpatient stays.

    `transfer`: the first Encounter's end and the second's start, under 24 hours apart. `risk`:
    the true probability of readmission, for discharges alive and not against advice.
    """

    setting: Setting
    start: int
    end: int
    reason: Reason
    present: tuple[Disease, ...]
    readings: tuple[Reading, ...]
    prescriptions: tuple[Medication, ...]
    disposition: str = ""
    transfer: tuple[int, int] | None = None
    risk: float | None = None

    @property
    def inpatient(self) -> bool:
        """Whether this is an inpatient stay."""
        return self.setting in ("unplanned", "planned")


@dataclass(frozen=True)
class Course:
    """All visits in order of time, and the moment of death, if any."""

    visits: tuple[Visit, ...]
    death: int | None


def simulate(rng: Random, health: Health, entry: int, until: int) -> Course:
    """The course of one person from `entry`; stays may still be going on at `until`."""
    life = _Life(rng, health, entry, until)
    life.see("ambulatory")
    while life.now < until and life.death is None:
        life.step()
    death = life.death if life.death is not None and life.death <= until else None
    return Course(tuple(life.visits), death)


class _Life:
    def __init__(self, rng: Random, health: Health, entry: int, until: int) -> None:
        self.rng, self.health, self.until = rng, health, until
        self.now = entry
        self.visits: list[Visit] = []
        self.death: int | None = None
        self.discharges: list[int] = []
        self.readmitted_at: float = inf
        self.dies_at: float = inf

    def step(self) -> None:
        """Go to the next event, or to where the rates may change."""
        last = self.discharges[-1] if self.discharges else -QUIET
        bounds = (last + SOONEST, last + QUIET, self.readmitted_at, self.dies_at)
        horizon = min([bound for bound in bounds if bound > self.now] + [self.now + WINDOW])
        rates = self._rates(last)
        wait = self.rng.expovariate(sum(rates.values())) * YEAR
        if self.now + wait < horizon:
            self.now += int(wait)
            self._happen(self.rng.choices(list(rates), list(rates.values()))[0])
            return
        self.now = int(horizon)
        if self.now == self.dies_at:
            self.death = self.now
        elif self.now == self.readmitted_at:
            self.readmitted_at = inf
            self._stay("unplanned", self.now)

    def see(self, setting: Setting) -> None:
        """An outpatient visit, unless something else would cut it short."""
        start = self.now
        if setting == "ambulatory":
            start = next_workday(self.now, self.rng.uniform(8, 17))
            length = self.rng.uniform(15, 50) * MINUTE
        else:
            hours = (2, 9) if setting == "emergency" else (14, 44)
            length = self.rng.uniform(*hours) * HOUR
        end = start + int(length)
        if end >= min(self.readmitted_at, self.dies_at, self.until):
            return
        acute = {"ambulatory": 0.0, "emergency": 0.5}.get(setting, 0.7) * self.rng.random()
        occasion = "admission" if setting == "observation" else "visit"
        reading = self._read(start + 10 * MINUTE, occasion, acute)
        reason = self._reason("ambulatory" if setting == "ambulatory" else "emergency", start)
        drugs = reason.medications
        if setting == "ambulatory" and self.rng.random() < 0.45:
            drugs += tuple(self._regular(start, 0.4))
        self._record(Visit(setting, start, end, reason, (), (reading,), drugs))

    def _rates(self, last: int) -> dict[str, float]:
        """Events a year: at `now`, given the latest discharge."""
        health, now = self.health, self.now
        severity, load = health.severity(now), health.load(now)
        decades = (health.age(now) - 60) / 10
        settled = self.readmitted_at == inf and self.dies_at == inf
        quiet = not settled or now < last + QUIET
        home = settled and now >= last + SOONEST
        return {
            "ambulatory": 0.55 + 0.07 * len(health.present(now)),
            "emergency": exp(-1.9 + 0.35 * severity + 0.3 * load),
            "observation": exp(-3.3 + 0.4 * severity + 0.4 * load),
            "planned": home * exp(-2.7 + 0.1 * decades + 0.5 * load),
            "unplanned": (not quiet) * exp(-1.55 + 0.6 * severity + 0.6 * load + 0.1 * decades),
            "death": (not quiet) * exp(-5.7 + 0.8 * severity + 0.7 * load + 0.8 * (decades - 1)),
        }

    def _happen(self, event: str) -> None:
        if event == "death":
            self.death = self.now
        elif event == "unplanned":
            self._stay("unplanned", self.now)
        elif event == "planned":
            self._stay("planned", next_workday(self.now, self.rng.uniform(6, 9)))
        elif event == "ambulatory":
            self.see("ambulatory")
        else:
            self.see("emergency" if event == "emergency" else "observation")

    def _stay(self, setting: Literal["unplanned", "planned"], start: int) -> None:
        rng, health = self.rng, self.health
        unplanned = setting == "unplanned"
        acute = rng.gammavariate(2, 0.5) if unplanned else 0.3 * rng.random()
        severity, present = health.severity(start), health.present(start)
        typical = (1.15 if unplanned else 0.8) + 0.2 * severity + 0.25 * acute
        days = min(60, max(1, round(rng.lognormvariate(typical, 0.45))))
        end = at_hour(start, days, rng.uniform(10, 18))
        died = rng.random() < sigmoid(-4.6 + 0.7 * severity + 0.5 * acute - 1.5 * (not unplanned))
        if died:
            end = start + int(rng.uniform(0.25, 1) * (end - start))
        transfer = None
        if days >= 2 and rng.random() < TRANSFERRED:
            leaves = start + int(rng.uniform(0.3, 0.6) * (end - start))
            transfer = leaves, leaves + int(rng.uniform(0.5, 6) * HOUR)
        reason = self._reason(setting, start)
        drugs = reason.medications + tuple(self._regular(start, 0.55))
        arrival = self._read(start + int(rng.uniform(10, 60)) * MINUTE, "admission", acute)
        leaving = max(arrival.at + 4 * HOUR, end - int(rng.uniform(4, 22) * HOUR))
        residue = acute * rng.uniform(0.15, 0.45)
        departure = self._read(leaving, "discharge", residue)
        visit = Visit(
            setting,
            start,
            end,
            reason,
            tuple(ailment.disease for ailment in present),
            (arrival,) if died else (arrival, departure),
            () if died else tuple(dict.fromkeys(drugs)),
            self._disposition(died, severity),
            transfer,
        )
        if died:
            self._record(visit)
            self.death = end
            return
        risk = readmission_risk(self._discharge(visit, arrival, departure), rng)
        self._record(visit, None if visit.disposition == "aadvice" else risk)
        self._draw_next_month(end, risk, severity)

    def _discharge(self, visit: Visit, arrival: Reading, departure: Reading) -> Discharge:
        return Discharge(
            severity=self.health.severity(visit.end),
            illness=sum(disease.risk for disease in visit.present),
            age=self.health.age(visit.end),
            stay=(visit.end - visit.start) / DAY,
            unplanned=visit.setting == "unplanned",
            stays_last_year=sum(
                1 for each in self.visits if each.inpatient and each.start > visit.start - 365 * DAY
            ),
            drugs=len(visit.prescriptions),
            values={**arrival.values, **departure.values},
        )

    def _draw_next_month(self, end: int, risk: float, severity: float) -> None:
        """Draw readmission with probability `risk`; failing that, perhaps death within 30 days."""
        earlier = [discharge + WINDOW + HOUR for discharge in self.discharges]
        self.discharges.append(end)
        if self.rng.random() < risk:
            soonest = max([end + SOONEST, *earlier])
            self.readmitted_at = self.rng.randrange(soonest, end + LATEST)
        elif self.rng.random() < sigmoid(-4.6 + 0.8 * severity + 0.4 * self.health.load(end)):
            self.dies_at = end + self.rng.randrange(2 * DAY, LATEST)

    def _record(self, visit: Visit, risk: float | None = None) -> None:
        self.visits.append(visit if risk is None else replace(visit, risk=risk))
        self.now = max(self.now, visit.end)

    def _read(self, at: int, occasion: str, acute: float) -> Reading:
        return Reading(at, self.health.measure(at, occasion, acute))

    def _reason(self, setting: str, at: int) -> Reason:
        have = {"", *(ailment.disease.key for ailment in self.health.present(at))}
        fitting = [each for each in catalog().reasons[setting] if each.disease in have]
        return self.rng.choices(fitting, [each.weight for each in fitting])[0]

    def _regular(self, at: int, share: float) -> list[Medication]:
        return [
            ailment.medication
            for ailment in self.health.present(at)
            if ailment.medication is not None and self.rng.random() < share
        ]

    def _disposition(self, died: bool, severity: float) -> str:
        if died:
            return "exp"
        if self.rng.random() < AGAINST_ADVICE:
            return "aadvice"
        dependent = sigmoid(-2.4 + 0.7 * severity + 0.05 * (self.health.age(self.now) - 65))
        if self.rng.random() < dependent:
            return self.rng.choices(["snf", "rehab", "hosp"], [6, 3, 1])[0]
        return "home"
