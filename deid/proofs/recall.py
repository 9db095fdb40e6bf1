"""Recall on planted identifiers: the share of them that a sandbox run kept out of its release.

Everything that is about to be released is searched for every identifier of the truth, in all the
forms of `deid.proofs.phrases`, and the whole numbers of a patient's rows for that patient's own
numbers; what is not found is recalled. It is counted by class (45 CFR 164.514(b)(2)(i), A to R) and
by FHIR location, each with the bound that the share lies above with 95 % confidence (Clopper and
Pearson, Biometrika 26, 1934, one-sided). Not counted are identifiers in resource types that were
never landed, which could not leak, and those too short to be told from other words.

Each class carries its negative control: one of its identifiers, written into a copy of what is
released, has to be found there; so has one number, in a row of its own patient.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from scipy.special import betaincinv

from deid.proofs.identifiers import SHORTEST, SHORTEST_NUMBER, Identifier, digits, normal
from deid.proofs.numbers import LONGEST_NUMBER
from deid.proofs.phrases import Phrases, phrases_of
from deid.proofs.proof import Evidence, Verdict
from deid.proofs.released import numeric_columns, parquet_files, released_strings

FILE: Final = "identifiers.parquet"
CONTROL: Final = "negative control"
CONFIDENCE: Final = 0.95
DAY: Final = len("2024-01-31")
Rows = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Surrogates of patients, and whole numbers beside them."""


@dataclass(frozen=True)
class Recall:
    """What was searched for, and where it was found: places by class and value.

    `planted` has a row for each `class`, `location` (without the numbers of items), `patient_id`
    and `value`; `controls` tells which of the planted controls were found.
    """

    planted: pa.Table
    too_short: int
    found: Mapping[tuple[str, str], frozenset[str]]
    controls: Mapping[str, bool]

    @property
    def passed(self) -> bool:
        """Nothing was found but the controls, and all of these."""
        return not self.found and bool(self.controls) and all(self.controls.values())

    def facts(self) -> dict[str, Any]:
        """What may be told outside the PHI zone."""
        classes, values = self.planted["class"].to_pylist(), self.planted["value"].to_pylist()
        leaked = [pair in self.found for pair in zip(classes, values, strict=True)]
        return {
            "planted": len(leaked),
            "found": sum(leaked),
            "too_short_to_look_for": self.too_short,
            "confidence": CONFIDENCE,
            "negative_controls_planted": len(self.controls),
            "negative_controls_found": sum(self.controls.values()),
            "hits": dict(sorted(Counter(chain.from_iterable(self.found.values())).items())),
            "by_class": _shares(classes, leaked),
            "by_location": _shares(self.planted["location"].to_pylist(), leaked),
        }


def recall(
    truth: pa.Table,
    folder: Path,
    patients: pa.Table,
    vocabulary: frozenset[str],
    permitted: frozenset[str] = frozenset(),
) -> Recall:
    """Search research tables that stand in `folder`, before they are released.

    `truth` has `patient_id`, `class`, `location` and `value`, `patients` has `patient_id` and
    `surrogate`; `vocabulary` is the set of exempt codes, `permitted` the columns (`table.column`)
    in which the policy lets identifiers stay.
    """
    planted, too_short = _searchable(truth)
    pairs = _distinct(planted, ["class", "value"])
    strings = released_strings(folder, vocabulary, permitted)
    samples = {pair[0]: pair[1] for pair in reversed(pairs)}
    controls = {f"({value})": CONTROL for value in samples.values()}
    phrases = phrases_of({**strings, **controls})
    found: dict[tuple[str, str], frozenset[str]] = {}
    seen = dict.fromkeys(samples, False)
    for letter, value in pairs:
        places = _places(phrases, letter, value)
        if CONTROL in places and samples[letter] == value:
            seen[letter] = True
        if told := places - {CONTROL}:
            found[letter, value] = told
    owned = _Owned.by(planted, patients)
    for place, rows in _numbers(folder, permitted):
        for pair in owned.among(rows):
            found[pair] = found.get(pair, frozenset()) | {place}
    if owned.of:
        surrogate, number = next(iter(owned.of))
        seen["number"] = bool(owned.among((np.array([surrogate]), np.array([number]))))
    return Recall(planted, too_short, found, seen)


def lower_bound(kept: int, of: int) -> float:
    """The share that `kept` out of `of` shows to be exceeded, with `CONFIDENCE`."""
    return float(betaincinv(kept, of - kept + 1, 1 - CONFIDENCE)) if kept else 0.0


def verdict(evidence: Evidence) -> Verdict | None:
    """The proof over tables that are not released yet; none where nobody knows what is planted."""
    if evidence.truth is None:
        return None
    counted = recall(
        _landed(evidence.truth / FILE, evidence.landing.rows()),
        evidence.folder,
        evidence.crosswalk.read("patients", ["patient_id", "surrogate"]),
        evidence.vocabulary.published,
        evidence.rules.permitted,
    )
    facts = counted.facts()
    failure = "The search for planted identifiers did not find its own negative controls"
    if counted.found:
        places = "; ".join(facts["hits"])
        failure = f"Planted identifiers are in what was to be released ({places})"
    values = tuple(f"{letter} {value}" for letter, value in sorted(counted.found))
    return Verdict("recall on planted identifiers", counted.passed, facts, failure, values)


def _landed(path: Path, types: Collection[str]) -> pa.Table:
    """The truth of the types that were landed."""
    truth = pq.read_table(path, columns=["patient_id", "class", "location", "value"])
    kinds = pc.list_element(pc.split_pattern(truth["location"], ".", max_splits=1), 0)
    return truth.filter(pc.is_in(kinds, value_set=pa.array(sorted(types), pa.string())))


def _searchable(truth: pa.Table) -> tuple[pa.Table, int]:
    """The distinct identifiers that can be looked for, and how many can't."""
    place = truth.schema.get_field_index("location")
    plain = pc.replace_substring_regex(truth["location"], r"\[\d+\]", "")
    columns = ["class", "location", "patient_id", "value"]
    each = truth.set_column(place, "location", plain).group_by(columns).aggregate([])
    values = pc.unique(each["value"]).to_pylist()
    long = [value for value in values if len(normal(value)) >= SHORTEST]
    kept = each.filter(pc.is_in(each["value"], value_set=pa.array(long, pa.string())))
    return kept.select(columns), len(each) - len(kept)


def _distinct(planted: pa.Table, columns: list[str]) -> list[tuple[str, ...]]:
    table = planted.group_by(columns).aggregate([])
    return sorted(zip(*(table[name].to_pylist() for name in columns), strict=True))


def _places(phrases: Phrases, letter: str, value: str) -> frozenset[str]:
    """The places that tell an identifier; of a moment, its day as well."""
    forms = {value, value[:DAY]} if letter == "C" else {value}
    told = (phrases.told(Identifier("", letter, form)) for form in forms)
    return frozenset().union(*told)


@dataclass(frozen=True)
class _Owned:
    """`of`: an identifier's class and value by its patient's surrogate and its number."""

    of: Mapping[tuple[int, int], tuple[str, str]]
    numbers: NDArray[np.int64]

    @classmethod
    def by(cls, planted: pa.Table, patients: pa.Table) -> _Owned:
        """Each patient's own; a date's digits are none, they are as long as lapses of time."""
        surrogates: dict[str, list[int]] = {}
        for row in patients.to_pylist():
            surrogates.setdefault(row["patient_id"], []).append(row["surrogate"])
        own: dict[tuple[int, int], tuple[str, str]] = {}
        for letter, patient, value in _distinct(planted, ["class", "patient_id", "value"]):
            number = digits(value) if letter != "C" else ""
            if SHORTEST_NUMBER <= len(number) <= LONGEST_NUMBER:
                for surrogate in surrogates.get(patient, ()):
                    own[surrogate, int(number)] = letter, value
        return cls(own, np.unique(np.array([number for _, number in own], np.int64)))

    def among(self, rows: Rows) -> set[tuple[str, str]]:
        """Those that stand as a number in a row of their own patient."""
        if not self.of:
            return set()
        patients, numbers = rows
        nearest = np.searchsorted(self.numbers, numbers).clip(max=len(self.numbers) - 1)
        suspects = self.numbers[nearest] == numbers
        pairs = zip(patients[suspects].tolist(), numbers[suspects].tolist(), strict=True)
        return {self.of[pair] for pair in pairs if pair in self.of}


def _numbers(folder: Path, permitted: frozenset[str]) -> Iterator[tuple[str, Rows]]:
    """The whole numbers of every column, without their signs, with their patients."""
    for path in parquet_files(folder):
        names = [name for name in numeric_columns(path) if name != "patient"]
        table = pq.ParquetFile(path).read(["patient", *names], use_threads=False)
        for name in names:
            place = f"{path.parent.name}.{name}"
            if place in permitted:
                continue
            there = table.select(["patient", name]).drop_null()
            values = there[name].to_numpy()
            whole = (np.abs(values) < 10.0**LONGEST_NUMBER) & (values == np.round(values))
            yield place, (there["patient"].to_numpy()[whole], np.abs(values[whole]).astype("int64"))


def _shares(groups: Iterable[str], leaked: Iterable[bool]) -> dict[str, dict[str, float]]:
    """By group: how many were planted and found, the recall, and the bound it lies above."""
    counts = Counter(zip(groups, leaked, strict=True))
    shares = {}
    for group in sorted({group for group, _ in counts}):
        kept, lost = counts[group, False], counts[group, True]
        shares[group] = {
            "planted": kept + lost,
            "found": lost,
            "recall": float(f"{kept / (kept + lost):.6g}"),
            "at_least": float(f"{lower_bound(kept, kept + lost):.6g}"),
        }
    return shares
