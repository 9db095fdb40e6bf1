"""One row of the matrix, whoever asks: predictors and clinical scores of index events.

`build` calls this for a bucket of patients, `online` for one patient; both get the same bits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.kernel import Index, compute
from features.score import Score
from features.spec import FeatureSpec, columns_read


@dataclass(frozen=True)
class FeatureRows:
    """`features`: float32 [index events, features of the spec]; `scores`: float32 [.., scores]."""

    features: NDArray[np.float32]
    scores: NDArray[np.float32]


def compute_rows(
    events: Mapping[str, pa.Table], index: Index, spec: FeatureSpec, scores: Sequence[Score] = ()
) -> FeatureRows:
    """Predictors and scores of index events, from one pass of the kernel.

    `events` maps view to table; it needs the tables and columns of `columns_needed(spec, scores)`.
    """
    wanted = [*spec.features, *(feature for score in scores for feature in score.features)]
    computed = compute(events, index, wanted)
    points = np.empty((len(index), len(scores)), np.float32)
    position = len(spec.features)
    for column, score in enumerate(scores):
        points[:, column] = score.of(computed[:, position : position + len(score.features)])
        position += len(score.features)
    return FeatureRows(computed[:, : len(spec.features)], points)


def columns_needed(spec: FeatureSpec, scores: Sequence[Score] = ()) -> dict[str, tuple[str, ...]]:
    """The columns that `compute_rows` reads of each view."""
    return columns_read(
        [*spec.features, *(feature for score in scores for feature in score.features)]
    )
