"""`ResearchTables`: the de-identified Parquet tables, by name and patient bucket.

Layout of the sealed folder: `<table>/bucket-000.parquet`. Every row has `patient` (int64, a random
surrogate). Event tables also have `time` and `known_at` (int64, seconds from the patient's zero,
facility-local wall clock); rows are sorted by patient, time, known_at. All rows of a patient lie
in the bucket of the same number in every table. Beside the tables lie the views and domains (in
`rules/`) and the vocabulary (`vocabulary.json`) that made them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from deid.policy import check_place
from exports.errors import FhirloomError
from exports.sealed import CURRENT, Sealed, open_sealed

RULES: Final = "rules"


@dataclass(frozen=True)
class ResearchTables:
    """A sealed folder of research tables."""

    sealed: Sealed

    @property
    def policy(self) -> Mapping[str, Any]:
        """By which policy they were made: `name`, and the `label` that goes with them."""
        told: Mapping[str, Any] = self.sealed.facts["policy"]
        return told

    @property
    def buckets(self) -> int:
        """How many patient buckets each table has."""
        return int(self.sealed.facts["buckets"])

    @property
    def names(self) -> tuple[str, ...]:
        """The tables, in alphabetical order."""
        return tuple(sorted(self.sealed.facts["tables"]))

    def path(self, table: str, bucket: int) -> Path:
        """The Parquet file of one table and bucket."""
        return self.sealed.path / table / f"bucket-{bucket:03d}.parquet"

    def read(self, table: str, bucket: int, columns: Sequence[str] | None = None) -> pa.Table:
        """One bucket of one table; sorted by patient, time, known_at."""
        return pq.read_table(self.path(table, bucket), columns=columns)


def open_tables(research: Path) -> ResearchTables:
    """The current tables below `research`, or below `phi/limited` (`Policy.released`).

    Raises `FhirloomError` (bad-input) where de-identification has not been run, and for tables that
    their policy does not let stand there.
    """
    sealed = open_sealed(research / "tables" / CURRENT)
    if sealed is None:
        raise FhirloomError(
            "bad-input",
            "There are no research tables",
            where=str(research / "tables"),
            fix="Run `fhirloom deid` on this work folder first.",
        )
    check_place(sealed.facts, research)
    return ResearchTables(sealed)
