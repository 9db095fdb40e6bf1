"""The leak scan: every string and number that is about to be released, against every identifier.

Strings: each distinct value of a text column, and every column, table and file name, Parquet
metadata entry and statistic, in every form of `deid.proofs.phrases`, against all identifiers of the
input of four characters and more. Codes of the frozen vocabulary are exempt where their system is a
published one, and what `exceptions.json` lists. Numbers: each whole value of a patient's rows
against the patient's own identifiers of six digits and more.

Every line of the input is searched (`deid.proofs.suspects`), and those that may hold something are
walked leaf by leaf. Each run carries its negative controls: an identifier of the input among the
strings, and a patient's number among the numbers, which have to be found. A hit's place is
reported, its value only in `phi/logs`.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson
import pyarrow as pa

from deid.proofs.identifiers import (
    SHORTEST,
    SHORTEST_NUMBER,
    Identifier,
    digits,
    normal,
    of_resource,
)
from deid.proofs.numbers import LONGEST_NUMBER, NumberSet
from deid.proofs.own_numbers import OwnNumbers
from deid.proofs.phrases import Phrases, phrases_of
from deid.proofs.proof import Evidence, Verdict
from deid.proofs.released import (
    exceptions,
    most_numbers,
    released_numbers,
    released_strings,
    unscannable,
)
from deid.proofs.suspects import Suspects
from exports.landing.ndjson import load, unpack, whole_lines
from exports.landing.zone import LandingZone
from exports.progress import Progress, silent

CONTROL: Final = "negative control"
CONTROL_WORD: Final = "negative-control"
STRANGER: Final = orjson.dumps({"resourceType": "Basic", "id": CONTROL_WORD})
"""What has to be found where the first lines of the input have no identifier to look for."""
CONTROL_NUMBER: Final = "918-273-645-546-372"
"""A number that no table has: years of seconds, and no surrogate, which are longer."""
WALKED_WHOLE: Final = 8
"""Patients whose every line is walked: their numbers tell what is to be expected by chance."""
BLOCK: Final = 2**20
"""Bytes of whole lines that are searched at once."""


@dataclass
class Scan:
    """What a scan found, without values: hits by place and class of identifier.

    `values` holds the hits themselves, for `phi/logs` alone.
    """

    lines: int = 0
    lines_due: int = 0
    walked: int = 0
    strings: int = 0
    numbers: int = 0
    string_hits: dict[str, int] = field(default_factory=dict)
    number_hits: dict[str, int] = field(default_factory=dict)
    expected_by_chance: float = 0.0
    controls_found: set[str] = field(default_factory=set)
    values: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        """No hit, every line of the input searched, and the negative controls were found."""
        hits = self.string_hits or self.number_hits
        return self.control_found and not hits and self.lines >= self.lines_due

    @property
    def control_found(self) -> bool:
        """Whether an identifier was found that stood among the strings, and one among the numbers.

        Where no patient has a surrogate, there is no number to plant.
        """
        return self.controls_found >= {"string", "number"}

    def hit(self, place: str, identifier: Identifier, note: str = "") -> None:
        """Count a string hit; the control is what should be hit."""
        if place == CONTROL:
            self.controls_found.add("string")
            return
        told = f"{place} (class {identifier.letter}{note})"
        self.string_hits[told] = self.string_hits.get(told, 0) + 1
        self.values.append(f"{place}: {identifier.value}")

    def facts(self) -> dict[str, Any]:
        """What may be told outside the PHI zone."""
        return {
            "lines_of_the_input": self.lines,
            "lines_walked": self.walked,
            "strings_scanned": self.strings,
            "numbers_scanned": self.numbers,
            "string_hits": dict(sorted(self.string_hits.items())),
            "number_hits": dict(sorted(self.number_hits.items())),
            "number_hits_expected_by_chance": float(f"{self.expected_by_chance:.2g}"),
            "negative_control_found": self.control_found,
            "exceptions_version": exceptions()["version"],
        }


def scan(
    folder: Path,
    blocks: Iterable[bytes],
    patients: pa.Table,
    vocabulary: frozenset[str],
    permitted: frozenset[str] = frozenset(),
    *,
    lines_due: int = 0,
    spill: Path | None = None,
) -> Scan:
    """Scan research tables that stand in `folder`, before they are released.

    `blocks` are the input's lines, whole ones, `lines_due` of them; `patients` has `patient_id`
    and `surrogate`; `vocabulary` is the set of exempt codes, `permitted` are the columns
    (`table.column`) in which the policy lets identifiers stay: those are held to their domain
    alone. `spill` is a folder of the PHI zone.
    """
    result = Scan(lines_due=lines_due)
    strings = released_strings(folder, vocabulary, permitted)
    result.strings = len(strings)
    blocks = iter(blocks)
    first = next(blocks, b"")
    own_control = _control(first)
    phrases = phrases_of({**strings, f"({own_control or CONTROL_WORD})": CONTROL})
    sample = _sample(patients)
    numbers = NumberSet(
        chain(released_numbers(folder), [np.array([int(digits(CONTROL_NUMBER))])]),
        most_numbers(folder),
    )
    result.numbers = numbers.seen - 1
    suspects = Suspects(phrases, numbers, sample)
    with OwnNumbers(patients, sample, spill) as owned:
        for block in chain([first], blocks):
            result.lines += block.count(b"\n") + 1
            _walk_suspects(block, suspects, phrases, owned, result)
        planted = [_with_number(patient) for patient in sample[:1]]
        for line in planted:
            _walk_suspects(line, suspects, phrases, owned, Scan())
        if first and not own_control:
            _walk_suspects(STRANGER, suspects, phrases, owned, result)
        owned.match()
        result.number_hits, result.expected_by_chance = owned.compare(folder)
        if not planted or owned.found(sample[0], int(digits(CONTROL_NUMBER))):
            result.controls_found.add("number")
    for place in unscannable(folder, permitted):
        result.string_hits[place] = 1
    return result


def blocks_of(landing: LandingZone, *, progress: Progress = silent) -> Iterator[bytes]:
    """The lines of every resource in a landing zone, in the order of its files."""
    kinds = sorted(landing.rows())
    yield from lines_of_files([path for kind in kinds for path in landing.paths(kind)], progress)


def lines_of_files(paths: Sequence[Path], progress: Progress = silent) -> Iterator[bytes]:
    """Blocks of whole lines of NDJSON files, plain or gzip.

    Raises `DamagedGzip` for one that breaks off.
    """
    for done, path in enumerate(paths):
        progress(done, len(paths), "files")
        held: list[bytes] = []
        with path.open("rb") as file:
            pieces = iter(lambda: file.read(BLOCK), b"")
            for lines, _ in whole_lines(unpack(pieces)):
                held.append(lines)
                if sum(map(len, held)) >= BLOCK:
                    yield b"\n".join(held)
                    held.clear()
        if held:
            yield b"\n".join(held).rstrip(b"\n")
    progress(len(paths), len(paths), "files")


def _control(block: bytes) -> str:
    """An identifier of the input that the scan has to find: the first resource's id if any."""
    for line in block.split(b"\n"):
        found = [item.value for item in of_resource(load(line))] if line.strip() else []
        for value in sorted(found, key=lambda value: value != load(line).get("id")):
            if len(normal(value)) >= SHORTEST:
                return value
    return ""


def _with_number(patient: str) -> bytes:
    """A line in which a patient has the planted number.

    Its reference is spelled otherwise than those for which the sample's lines are walked anyway:
    the number alone has to be found.
    """
    return orjson.dumps(
        {
            "resourceType": "Basic",
            "subject": {"reference": f"Patient/{patient}/_history/1"},
            "identifier": [{"system": "urn:control", "value": CONTROL_NUMBER}],
        }
    )


def _sample(patients: pa.Table) -> list[str]:
    """Some patients, always the same ones of the same patients, drawn by a hash."""
    known = patients["patient_id"].unique().to_pylist()
    return sorted(known, key=lambda known: sha256(known.encode()).digest())[:WALKED_WHOLE]


def _walk_suspects(
    block: bytes, suspects: Suspects, phrases: Phrases, owned: OwnNumbers, result: Scan
) -> None:
    lines = block.split(b"\n")
    for position in suspects.among(block):
        result.walked += 1
        for identifier in of_resource(load(lines[position])):
            for place, note in phrases.told(identifier).items():
                result.hit(place, identifier, note)
            number = digits(identifier.value)
            of_patient = identifier.patient_id and identifier.letter != "C"
            if of_patient and SHORTEST_NUMBER <= len(number) <= LONGEST_NUMBER:
                owned.add(identifier.patient_id, int(number))


def verdict(evidence: Evidence, *, progress: Progress = silent) -> Verdict:
    """The proof over tables that are not released yet."""
    evidence.spill.mkdir(mode=0o700, exist_ok=True)
    scanned = scan(
        evidence.folder,
        blocks_of(evidence.landing, progress=progress),
        evidence.crosswalk.read("patients", ["patient_id", "surrogate"]),
        evidence.vocabulary.published,
        evidence.rules.permitted,
        lines_due=sum(evidence.landing.rows().values()),
        spill=evidence.spill,
    )
    shutil.rmtree(evidence.spill)
    failure = "The leak scan did not find its own negative control, or did not read every line"
    if places := sorted({**scanned.string_hits, **scanned.number_hits}):
        failure = f"Identifiers of the input stand in what was to be released ({'; '.join(places)})"
    return Verdict("leak scan", scanned.clean, scanned.facts(), failure, tuple(scanned.values))
