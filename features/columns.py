"""Arrow tables as numpy arrays: the rows of index patients, their codes and their values."""

from __future__ import annotations

from collections.abc import Container

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from features.spec import Membership
from features.timeline import Timeline
from features.valuesets import ValueSet

Ints = NDArray[np.int64]


class Rows:
    """Rows of one view that some index event may see; `time` and `known` are timeline keys.

    A row that is not `dated` (its date is partial) has the key of the patient's beginning.
    """

    def __init__(self, table: pa.Table, timeline: Timeline, *, static: bool) -> None:
        self._table = table
        self._categories: dict[str, tuple[Ints, list[str]]] = {}
        kept, rank = timeline.locate(table.column("patient").to_numpy())
        self.dated = np.ones(len(kept), bool)
        if static:
            self.time = self.known = timeline.always(rank)
        else:
            known = timeline.keys(rank, table.column("known_at").to_numpy()[kept])
            early = known < timeline.ends(rank)
            kept, rank, self.known = kept[early], rank[early], known[early]
            time = table.column("time")
            self.dated = time.is_valid().to_numpy()[kept]
            begun = timeline.keys(rank, time.fill_null(0).to_numpy()[kept])
            self.time = np.where(self.dated, begun, timeline.always(rank))
        self._kept = kept

    def pick(self, codes: ValueSet | None, where: tuple[Membership, ...]) -> Ints:
        """Positions of the rows whose code is in `codes` and that meet every `where`."""
        tests: list[tuple[str, Container[str]]] = [(w.column, w.values) for w in where]
        if codes is not None:
            tests.append(("code", codes))
        if not tests:
            return np.arange(len(self._kept))
        met = self._is_in(*tests[0])
        for test in tests[1:]:
            met &= self._is_in(*test)
        return met.nonzero()[0]

    def values(self, value: str | Membership) -> NDArray[np.float64]:
        """A numeric column (NaN where null), or 1 and 0 for a membership."""
        if isinstance(value, Membership):
            return self._is_in(value.column, value.values).astype(np.float64)
        column: NDArray[np.generic] = self._table.column(value).to_numpy()
        return column[self._kept].astype(np.float64)

    def _is_in(self, column: str, values: Container[str]) -> NDArray[np.bool_]:
        if column not in self._categories:
            self._categories[column] = self._encode(column)
        positions, names = self._categories[column]
        # Null is position -1, hence the last entry, and is in nothing.
        member = np.array([name in values for name in names] + [False])
        return member[positions]

    def _encode(self, column: str) -> tuple[Ints, list[str]]:
        array = self._table.column(column).combine_chunks()
        if not pa.types.is_dictionary(array.type):
            array = array.dictionary_encode()
        positions = array.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        return positions[self._kept], array.dictionary.to_pylist()
