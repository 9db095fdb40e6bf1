"""`FeatureMatrix`: the sealed table of index events that training reads.

Columns of each `bucket-NNN.parquet`: `patient`, `encounter`, `time` (int64; seconds from the
patient's zero), `year` (int16, approximate), `label` (int8), `sex`, `race`, `ethnicity` (for
subgroups), then one float32 column for each feature (NaN: unknown), then one for each score.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from deid.policy import check_place
from exports.errors import FhirloomError
from exports.sealed import CURRENT, Sealed, open_sealed


@dataclass(frozen=True)
class FeatureMatrix:
    """A sealed folder of feature rows."""

    sealed: Sealed

    @property
    def features(self) -> tuple[str, ...]:
        """The predictors, in column order."""
        return tuple(self.sealed.facts["features"])

    @property
    def scores(self) -> tuple[str, ...]:
        """The clinical scores, in column order."""
        return tuple(self.sealed.facts["scores"])

    @property
    def attrition(self) -> Sequence[Mapping[str, Any]]:
        """The cohort's steps: `step`, `stays` and `patients` that remain, `excluded` stays."""
        return list(self.sealed.facts["attrition"])

    def path(self, bucket: int) -> Path:
        """The Parquet file of one bucket of patients."""
        return bucket_path(self.sealed.path, bucket)

    def read(self) -> pa.Table:
        """All rows, in the order (bucket, patient, time)."""
        buckets = range(self.sealed.facts["buckets"])
        return pa.concat_tables([pq.read_table(self.path(bucket)) for bucket in buckets])


def bucket_path(folder: Path, bucket: int) -> Path:
    """Where a bucket lies in a matrix' folder."""
    return folder / f"bucket-{bucket:03d}.parquet"


def open_matrix(research: Path) -> FeatureMatrix:
    """The current feature matrix below `research`, or below `phi/limited` (`Policy.released`).

    Raises `FhirloomError` (bad-input) where features have not been built, and for a matrix that its
    policy does not let stand there.
    """
    sealed = open_sealed(research / "features" / CURRENT)
    if sealed is None:
        raise FhirloomError(
            "bad-input",
            "There is no feature matrix",
            where="research/features",
            fix="Run `fhirloom features build` on this work folder first.",
        )
    check_place(sealed.facts, research)
    return FeatureMatrix(sealed)
