"""What the sandbox knows and never writes into FHIR data: true risks and planted identifiers.

Two Parquet files: `risks.parquet` (encounter_id: id of the last Encounter of a stay, risk) and
`identifiers.parquet` (patient_id, class, location, value, resource_id). `class` is the letter of
45 CFR 164.514(b)(2)(i); `location` is the FHIR path in the patient's resources where the value is,
or is part of the text, and `resource_id` the resource in question. Of attachments the value is part
of what a reader sees: the text without base64, the tags of HTML or the marks of RTF. What a
practitioner is known by has no `patient_id`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, NamedTuple, Self

import pyarrow as pa
import pyarrow.parquet as pq

Letter = Literal[
    "A",  # names, of the individual, relatives, employers and household members
    "B",  # geographic units smaller than a state
    "C",  # dates of birth, death, admission, discharge
    "D",  # telephone
    "E",  # fax
    "F",  # e-mail
    "G",  # social security number
    "H",  # medical record number
    "I",  # health plan beneficiary number
    "J",  # account number, the hospital's visit number among them
    "K",  # certificate or licence number
    "L",  # vehicle: VIN, license plate
    "M",  # device: serial number, UDI
    "N",  # web address
    "O",  # IP address
    "P",  # biometric: finger and voice print
    "Q",  # full-face photograph
    "R",  # any other unique number or code, ids of FHIR resources among them
]

RISKS: Final = pa.schema([("encounter_id", pa.string()), ("risk", pa.float64())])
IDENTIFIERS: Final = pa.schema(
    [(name, pa.string()) for name in ("patient_id", "class", "location", "value", "resource_id")]
)
BATCH: Final = 50_000


@dataclass(frozen=True)
class TrueRisk:
    """The probability that a discharge was followed by a readmission within 30 days."""

    encounter_id: str
    risk: float


class PlantedIdentifier(NamedTuple):
    """One identifier of one patient, and where in their resources it stands: a row of the file."""

    patient_id: str
    letter: Letter
    location: str
    value: str
    resource_id: str


@dataclass(frozen=True)
class Truth:
    """All that is known of one patient."""

    risks: tuple[TrueRisk, ...]
    identifiers: tuple[PlantedIdentifier, ...]


class TruthWriter:
    """Writes truths into a folder, patient by patient, in bounded memory."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._risks = _Table(folder / "risks.parquet", RISKS)
        self._identifiers = _Table(folder / "identifiers.parquet", IDENTIFIERS)

    def add(self, truth: Truth) -> None:
        """Add one patient's truth."""
        self._risks.add((each.encounter_id, each.risk) for each in truth.risks)
        self._identifiers.add(truth.identifiers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._risks.close()
        self._identifiers.close()


class _Table:
    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(path, schema)
        self._schema = schema
        self._rows: list[tuple[str | float, ...]] = []

    def add(self, rows: Iterable[tuple[str | float, ...]]) -> None:
        self._rows.extend(rows)
        if len(self._rows) >= BATCH:
            self._flush()

    def close(self) -> None:
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        arrays = [
            pa.array([row[place] for row in self._rows], field.type)
            for place, field in enumerate(self._schema)
        ]
        self._writer.write_table(pa.Table.from_arrays(arrays, schema=self._schema))
        self._rows.clear()
