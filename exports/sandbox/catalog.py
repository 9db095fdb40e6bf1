"""What the hospital knows of medicine: diseases, reasons to come, drugs, procedures, measures.

Read from the small tables in `data/`. Codes are ICD-10-CM, ICD-10-PCS, LOINC, RxNorm and UCUM;
Second codings are the hospital's own, the way EHRs send their own dictionaries'.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

DATA: Final = Path(__file__).parent / "data"

Scale = Literal["lin", "log"]


@dataclass(frozen=True)
class Medication:
    """An RxNorm clinical drug."""

    rxnorm: str
    display: str


@dataclass(frozen=True)
class Disease:
    """A chronic disease and what it does.

    Whether a person has it: `log_odds` at 60 years, plus `per_decade`, plus `frailty` times the
    person's own. `load` raises the rate of hospital use, `risk` is its part in the log-odds of
    readmission, `shifts` move measures (in the measure's own scale).
    """

    key: str
    icd: str
    display: str
    local: str
    log_odds: float
    per_decade: float
    frailty: float
    load: float
    risk: float
    shifts: Mapping[str, float]
    medications: tuple[Medication, ...]


@dataclass(frozen=True)
class Reason:
    """Why a patient comes, in ICD-10-CM; `disease` names the chronic one it needs, or is empty."""

    icd: str
    display: str
    disease: str
    weight: float
    medications: tuple[Medication, ...]


@dataclass(frozen=True)
class Procedure:
    """An ICD-10-PCS procedure, done for some `reasons` (ICD-10-CM)."""

    icd10pcs: str
    display: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Measure:
    """A vital sign or laboratory test: its typical value and how far persons and illness move it.

    On the `log` scale `spread` (between persons), `noise` (between moments), `severity` and
    `acute` are in natural-log units. Values lie in `low`..`high`; results below `floor` are
    reported as `<floor`. `other_unit` = unit * `factor` + `offset`.
    """

    loinc: str
    display: str
    category: str
    unit: str
    scale: Scale
    typical: float
    spread: float
    noise: float
    severity: float
    acute: float
    digits: int
    low: float
    high: float
    floor: float | None
    other_unit: str
    factor: float
    offset: float
    chance: Mapping[str, float]


@dataclass(frozen=True)
class Catalog:
    """All tables; `reasons` by setting (unplanned, planned, emergency, ambulatory)."""

    drugs: tuple[Medication, ...]
    diseases: tuple[Disease, ...]
    reasons: Mapping[str, tuple[Reason, ...]]
    procedures: tuple[Procedure, ...]
    measures: Mapping[str, Measure]


@cache
def catalog() -> Catalog:
    """The catalogue, read once."""
    drugs = {
        row["rxnorm"]: Medication(row["rxnorm"], row["display"]) for row in _rows("medications")
    }

    def listed(codes: str) -> tuple[Medication, ...]:
        return tuple(drugs[code] for code in codes.split())

    diseases = tuple(
        Disease(
            row["key"],
            row["icd"],
            row["display"],
            row["local"],
            float(row["log_odds"]),
            float(row["per_decade"]),
            float(row["frailty"]),
            float(row["load"]),
            float(row["risk"]),
            _shifts(row["shifts"]),
            listed(row["medications"]),
        )
        for row in _rows("conditions")
    )
    reasons: dict[str, list[Reason]] = {}
    for row in _rows("reasons"):
        reasons.setdefault(row["setting"], []).append(
            Reason(
                row["icd"],
                row["display"],
                row["condition"],
                float(row["weight"]),
                listed(row["medications"]),
            )
        )
    return Catalog(
        tuple(drugs.values()),
        diseases,
        {setting: tuple(held) for setting, held in reasons.items()},
        tuple(
            Procedure(row["icd10pcs"], row["display"], tuple(row["reason"].split()))
            for row in _rows("procedures")
        ),
        {row["loinc"]: _measure(row) for row in _rows("measures")},
    )


@cache
def names() -> Mapping[str, tuple[str, ...]]:
    """Name lists: `female`, `male`, `family`, `streets`."""
    read: dict[str, list[str]] = json.loads((DATA / "names.json").read_text("utf-8"))
    return {kind: tuple(held) for kind, held in read.items()}


@cache
def listing(table: str) -> tuple[Mapping[str, str], ...]:
    """The rows of a table of `data/` that is read as it stands: `vaccines`, `payers` and others."""
    return tuple(_rows(table))


@cache
def places() -> tuple[tuple[str, str, str], ...]:
    """City, state and ZIP code of where patients live."""
    return tuple((row["city"], row["state"], row["zip"]) for row in _rows("places"))


def _rows(table: str) -> list[dict[str, str]]:
    with (DATA / f"{table}.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _shifts(text: str) -> dict[str, float]:
    pairs = (part.rsplit(":", 1) for part in text.split(";") if part)
    return {loinc: float(shift) for loinc, shift in pairs}


def _measure(row: dict[str, str]) -> Measure:
    def number(name: str) -> float:
        return float(row[name] or 0)

    values: dict[str, Any] = {
        name: number(name)
        for name in ("typical", "spread", "noise", "severity", "acute", "low", "high")
    }
    return Measure(
        loinc=row["loinc"],
        display=row["display"],
        category=row["category"],
        unit=row["unit"],
        scale="log" if row["scale"] == "log" else "lin",
        digits=int(row["digits"]),
        floor=number("floor") or None,
        other_unit=row["other_unit"],
        factor=number("factor"),
        offset=number("offset"),
        chance={moment: number(moment) for moment in ("admission", "discharge", "visit")},
        **values,
    )
