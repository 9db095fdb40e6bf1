"""Patients and times as one ordered integer, so that one search serves all patients at once.

A key is `(rank of the patient + 1) * SPAN + (time - the patient's latest index time)`. Keys of one
patient differ as its times do; the zero of its times has vanished.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

SPAN: Final = 1 << 40  # seconds, some 35,000 years: leaves room for 8 million patients in int64

Ints = NDArray[np.int64]


class Timeline:
    """The index events of some patients, in the order of their keys `at` (int64 [events]).

    `order` maps this order to the given one, so that searches go through memory in one direction.
    """

    def __init__(self, patient: Ints, time: Ints) -> None:
        self._patients, rank = np.unique(patient, return_inverse=True)
        self._latest = np.full(len(self._patients), np.iinfo(np.int64).min)
        np.maximum.at(self._latest, rank, time)
        self._base = (np.arange(len(self._patients)) + 1) * SPAN
        at = self._base[rank] + (time - self._latest[rank])
        self.order: Ints = at.argsort(kind="stable")
        self.at: Ints = at[self.order]
        self._beginning: Ints = self._base[rank[self.order]] - SPAN + 1

    def since(self, window: int | None) -> Ints:
        """The key at which each index event's window begins (None: before all of its past)."""
        if window is None:
            return self._beginning
        since: Ints = np.maximum(self.at - window, self._beginning)
        return since

    def locate(self, patient: Ints) -> tuple[Ints, Ints]:
        """The rows that belong to index patients, and the rank of each of those rows' patient."""
        rank = self._patients.searchsorted(patient)
        np.minimum(rank, len(self._patients) - 1, out=rank)
        rows = (self._patients[rank] == patient).nonzero()[0]
        return rows, rank[rows]

    def keys(self, rank: Ints, time: Ints) -> Ints:
        """The keys of times of the patients of those ranks; never below the patient's beginning."""
        keys: Ints = self._base[rank] + np.maximum(time - self._latest[rank], 1 - SPAN)
        return keys

    def always(self, rank: Ints) -> Ints:
        """Keys that every index event of the patients of those ranks sees."""
        return self._base[rank] + (1 - SPAN)

    def ends(self, rank: Ints) -> Ints:
        """The keys of those patients' latest index events: rows known from then on are unseen."""
        return self._base[rank]


def between(start: Ints, stop: Ints) -> tuple[Ints, Ints]:
    """All positions of the ranges start[i]:stop[i], one range after the other, and each one's i."""
    length = stop - start
    owner = np.repeat(np.arange(len(length)), length)
    offset = start - (np.cumsum(length) - length)
    return np.arange(len(owner)) + offset[owner], owner
