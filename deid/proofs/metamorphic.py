"""The metamorphic proof: what must not matter does not, and what matters does.

Some patients' resources are rehearsed twice. Once as they are; once more in another order, beside
two populations that are made of them under other ids. In the one everything is rewritten that must
not matter: names, ids and references, telecom, addresses, text, extensions, URLs, zones, and each
patient's dates by whole days, within the anchor year and at constant ages. Each patient's canonical
output has to be the same all three times, and no surrogate may come again.

In the other population one clinical value of a patient is changed as well, or one moment: the
negative controls. Each has to be seen in that patient's output.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import orjson
import pyarrow as pa

from deid.proofs.changes import Change, changes
from deid.proofs.examples import Resource, read_extensions
from deid.proofs.proof import Evidence, Verdict
from deid.proofs.rehearsal import Rehearsed, rehearse
from deid.proofs.rewriting import Rewriting, moments
from deid.proofs.shifts import shift
from deid.proofs.whole_patients import Patients, whole_patients
from deid.rules import Rules
from deid.vocabulary import Vocabulary
from exports.landing.zone import LandingZone
from exports.progress import Progress, silent
from exports.sealed import hash_json

REWRITTEN, CONTROL = "rewritten", "control"
SURROGATES: Final = ("patient", "encounter")
FEW: Final = 11
"""Patients; among fewer there may be no value that can be changed."""


def canonical(tables: Mapping[str, pa.Table]) -> dict[int, str]:
    """Each patient's rows as a hash in which surrogates and the order of rows don't show.

    A patient is a set of encounters, an encounter a set of rows (those without one are a set too).
    Two patients have one hash just where their tables are equal up to a renaming of surrogates.
    """
    stays: defaultdict[int, defaultdict[int | None, list[str]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for table, rows in tables.items():
        told = rows.drop_columns([name for name in SURROGATES if name in rows.column_names])
        whose = rows["patient"].to_pylist()
        there = "encounter" in rows.column_names
        which = rows["encounter"].to_pylist() if there else [None] * len(rows)
        for patient, encounter, row in zip(whose, which, told.to_pylist(), strict=True):
            stays[patient][encounter].append(f"{table} {sorted(row.items())!r}")
    return {
        patient: hash_json(
            [sorted(rows.pop(None, [])), sorted(sorted(stay) for stay in rows.values())]
        )
        for patient, rows in stays.items()
    }


@dataclass
class Compared:
    """What was compared, and what it showed; `values` are for `phi/logs` alone."""

    patients: int = 0
    resources: int = 0
    left_out: int = 0
    rows: int = 0
    shifted: int = 0
    rewritten: Counter[str] = field(default_factory=Counter)
    differing: Counter[str] = field(default_factory=Counter)
    again: int = 0
    planted: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)
    values: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        """Nothing differs, no surrogate came again, and each changed value was seen."""
        controlled = self.planted == self.seen and bool(self.planted or self.patients < FEW)
        return controlled and not self.differing and not self.again

    def facts(self) -> dict[str, Any]:
        """What may be told outside the PHI zone."""
        return {
            "patients": self.patients,
            "resources": self.resources,
            "resources_left_out": self.left_out,
            "rows_compared": self.rows,
            "patients_shifted": self.shifted,
            "rewritten": dict(sorted(self.rewritten.items())),
            "outputs_differing": sum(self.differing.values()),
            "surrogates_repeated": self.again,
            "negative_controls_planted": dict(sorted(self.planted.items())),
            "negative_controls_found": dict(sorted(self.seen.items())),
        }


def compare(
    landing: LandingZone, rules: Rules, vocabulary: Vocabulary, exported: datetime
) -> Compared:
    """Rehearse some patients of a landing zone as they are, rewritten and changed."""
    seed = landing.sealed.digest
    people = whole_patients(landing, rules, seed)
    given = [item for resources in people.resources.values() for item in resources]
    first = rehearse(_lines([*given, *people.shared]), rules, vocabulary, exported)
    days = {patient: _days(patient, people, first, exported, seed) for patient in people.resources}
    planted = {change.patient: change for change in changes(people.resources, first.rows, rules)}
    rewritten, control = (_rewriting(f"{seed} {name}", rules) for name in (REWRITTEN, CONTROL))
    both = (rewritten, control)
    others = [rewriting.resource(item, 0) for rewriting in both for item in people.shared]
    for patient, resources in people.resources.items():
        others += [rewritten.resource(item, days[patient]) for item in resources]
        change = planted.get(patient)
        for item in resources:
            told = change.changed if change is not None and item == change.resource else item
            others += [] if told is None else [control.resource(told, days[patient])]
    everything = [*given, *people.shared, *others]
    random.Random(seed).shuffle(everything)  # noqa: S311 - an order, no secret
    second = rehearse(_lines(everything), rules, vocabulary, exported)
    result = Compared(
        patients=len(people.resources),
        resources=len(given),
        left_out=people.left_out,
        rows=sum(table.num_rows for table in first.tables.values()),
        shifted=sum(map(bool, days.values())),
        rewritten=rewritten.done,
        again=len(_surrogates(first) & _surrogates(second)),
    )
    _compare(first, second, people, both, planted, result)
    return result


def _compare(
    first: Rehearsed,
    second: Rehearsed,
    people: Patients,
    rewritings: tuple[Rewriting, Rewriting],
    planted: Mapping[str, Change],
    result: Compared,
) -> None:
    before, after = _outputs(first), _outputs(second)
    rewritten, control = rewritings
    for patient in people.resources:
        expected = before.get(patient)
        changed = planted.get(patient)
        populations = {
            "as it was": patient,
            REWRITTEN: rewritten.id(patient),
            CONTROL: control.id(patient),
        }
        for population, key in populations.items():
            same = after.get(key) == expected
            if population == CONTROL and changed is not None:
                result.planted[changed.kind] += 1
                result.seen[changed.kind] += not same
            elif not same:
                result.differing[population] += 1
                result.values.append(f"{patient}, {population}")


def _outputs(done: Rehearsed) -> dict[str, list[tuple[int, str]]]:
    """The canonical output of each patient by id, of one timeline or of two."""
    hashes = canonical(done.tables)
    found: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    for row in done.patients.to_pylist():
        found[row["patient_id"]].append((row["old"], hashes.get(row["surrogate"], "")))
    return {patient: sorted(outputs) for patient, outputs in found.items()}


def _surrogates(done: Rehearsed) -> set[int]:
    """Every surrogate in a rehearsal's tables."""
    return {
        surrogate
        for table in done.tables.values()
        for column in SURROGATES
        if column in table.column_names
        for surrogate in table[column].unique().to_pylist()
        if surrogate is not None
    }


def _days(patient: str, people: Patients, first: Rehearsed, exported: datetime, seed: str) -> int:
    if patient in people.still:
        return 0
    resources = people.resources[patient]
    births = [item["birthDate"] for item in resources if isinstance(item.get("birthDate"), str)]
    dated = [moment for item in resources for moment in moments(item["resourceType"], item)]
    zeros = [row["zero"] for row in first.patients.to_pylist() if row["patient_id"] == patient]
    return shift(dated, births, zeros, exported, f"{seed} {patient}")


def _rewriting(seed: str, rules: Rules) -> Rewriting:
    policy = rules.policy
    digits = 5 if policy.dated else 3 if policy.zip3 is not None else 0
    return Rewriting(seed, read_extensions(rules), digits, policy.dated)


def _lines(resources: Iterable[Resource]) -> dict[str, list[bytes]]:
    lines: defaultdict[str, list[bytes]] = defaultdict(list)
    for resource in resources:
        lines[resource["resourceType"]].append(orjson.dumps(resource) + b"\n")
    return lines


def verdict(evidence: Evidence, *, progress: Progress = silent) -> Verdict:
    """The proof over the rules and patients of a run whose tables are not released yet."""
    progress(0, 1, "rewritings")
    compared = compare(
        evidence.landing, evidence.rules, evidence.vocabulary, evidence.crosswalk.exported
    )
    progress(1, 1, "rewritings")
    failure = "The metamorphic proof did not see its own negative controls"
    if compared.again:
        failure = "Surrogates came again: they are not drawn at random"
    if compared.differing:
        told = ", ".join(sorted(compared.differing))
        failure = f"Output depends on what must not matter to it ({told})"
    return Verdict("metamorphic", compared.holds, compared.facts(), failure, tuple(compared.values))
