"""A feature matrix as arrays, parted into train and test rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features.matrix import FeatureMatrix
from training.evaluate import HeldOutRows
from training.logistic import Floats, Labels
from training.split import Split, SplitRule, split_rows

FEWEST_TRAIN_EVENTS: Final = 50
FEWEST_TEST_EVENTS: Final = 20
GROUPS: Final = ("sex", "race", "ethnicity")


@dataclass(frozen=True)
class Dataset:
    """The rows of a matrix: its `table`, the predictors as `rows` [N, n] and the `label` [N].

    `split` is None where no embargo year leaves rows on both sides.
    """

    matrix: FeatureMatrix
    table: pa.Table
    rows: Floats
    label: Labels
    split: Split | None

    def column(self, name: str) -> Any:
        """A column [N] of the table."""
        return self.table.column(name).to_numpy()


def load(matrix: FeatureMatrix, rule: SplitRule) -> Dataset:
    """Read a matrix and part its rows by `rule`."""
    table = matrix.read()
    names = matrix.features
    rows = np.empty((table.num_rows, len(names)), dtype=np.float32)
    for index, name in enumerate(names):
        rows[:, index] = table.column(name).to_numpy()
    split = split_rows(table.column("patient").to_numpy(), table.column("year").to_numpy(), rule)
    return Dataset(matrix, table, rows, table.column("label").to_numpy().astype(np.int8), split)


def why_not(data: Dataset) -> str:
    """Why these rows can't train and test a model, in a sentence; empty where they can."""
    if data.split is None:
        return (
            "No model was trained: the stays span too few years to test on later ones than those "
            "trained on (three are needed)."
        )
    parts = (
        ("train on", data.split.train, FEWEST_TRAIN_EVENTS),
        ("test on", data.split.test, FEWEST_TEST_EVENTS),
    )
    for purpose, part, fewest in parts:
        for kind, outcome in (("events", 1), ("stays without the event", 0)):
            found = int((data.label[part] == outcome).sum())
            if found < fewest:
                return (
                    f"No model was trained: there are too few {kind} to {purpose} "
                    f"({found}, where {fewest} are needed)."
                )
    return ""


def held_out_rows(data: Dataset, split: Split, oracle: Path | None) -> HeldOutRows:
    """What is known of the test rows besides the predictors."""
    test = split.test
    return HeldOutRows(
        patient=data.column("patient")[test],
        label=data.label[test].astype(np.float64),
        scores={name: data.column(name)[test].astype(np.float64) for name in data.matrix.scores},
        oracle=None if oracle is None else _true_risk(data, oracle)[test],
        groups={
            name: data.table.column(name).fill_null("unknown").to_numpy()[test] for name in GROUPS
        },
    )


def _true_risk(data: Dataset, oracle: Path) -> Any:
    keys = ["patient", "encounter"]
    order = data.table.select(keys).append_column("row", pa.array(np.arange(data.label.size)))
    known = pq.read_table(oracle, columns=[*keys, "risk"])
    joined = order.join(known, keys=keys, join_type="left outer").sort_by("row")
    return joined.column("risk").to_numpy().astype(np.float64)


def described_population(data: Dataset) -> dict[str, Any]:
    """The task, its index events and its attrition, as the matrix' manifest tells them."""
    facts = data.matrix.sealed.facts
    return {
        "task": facts["task"],
        "rows": data.label.size,
        "events": int(data.label.sum()),
        "died_first": facts["died_first"],
        "attrition": facts["attrition"],
    }


def described_split(data: Dataset, split: Split) -> dict[str, Any]:
    """The rule, the embargo year, and the rows, events and patients of both parts."""
    patient = data.column("patient")

    def part(rows: Any) -> dict[str, int]:
        return {
            "rows": int(rows.sum()),
            "events": int(data.label[rows].sum()),
            "patients": int(np.unique(patient[rows]).size),
        }

    return {
        "rule": "patients hashed apart; train before the embargo year, test after it",
        "embargo_year": split.embargo_year,
        "train": part(split.train),
        "test": part(split.test),
    }
