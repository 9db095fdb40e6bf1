"""Golden vectors: feature rows and the probabilities that the graph gives for them.

The rows are test rows with each column shuffled by itself, so that every value is realistic and no
row is a patient's, followed by adversarial rows. Whoever deploys the graph checks it on them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from exports.errors import FhirloomError
from training.graph import OUTPUT
from training.logistic import Floats
from training.parity import TOLERANCE, run_graph

_REALISTIC: Final = 200
_ADVERSARIAL: Final = 56
_SEED: Final = 20


def write_golden(
    path: Path, graph: bytes, sample: Floats, made: Floats, features: tuple[str, ...]
) -> None:
    """Write golden vectors from rows `sample` [S, n] and adversarial rows `made` [M, n]."""
    shuffled = np.random.default_rng(_SEED).permuted(sample, axis=0)[:_REALISTIC]
    rows = np.concatenate([shuffled, made[:_ADVERSARIAL]])
    columns = {name: rows[:, index] for index, name in enumerate(features)}
    pq.write_table(pa.table({**columns, OUTPUT: run_graph(graph, rows)}), path)


def check_golden(path: Path, graph: bytes) -> None:
    """Run the graph on golden vectors.

    Raises `FhirloomError` (parity-failed) where a probability is not reproduced within 1e-6.
    """
    table = pq.read_table(path)
    columns = [table.column(name).to_numpy() for name in table.column_names if name != OUTPUT]
    expected = table.column(OUTPUT).to_numpy().astype(np.float64)
    given = run_graph(graph, np.column_stack(columns)).astype(np.float64)
    if not np.max(np.abs(given - expected)) <= TOLERANCE:
        raise FhirloomError(
            "parity-failed",
            "The golden vectors are not reproduced by model.onnx",
            where=path.name,
            fix="Take the bundle again from where it was made; don't deploy this copy.",
        )
