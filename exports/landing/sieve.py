"""What may not be kept, taken out of delivered files before they are sealed.

One sieve is who must not be in it (`exports.landing.screening`) and what was not asked for
(`landing.narrowing`). A file is read once to see whether anything in it has to go, and only then
rewritten, as one gzip per resource type.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import orjson

from exports.landing.delivery import Delivered, file_chunks
from exports.landing.judging import Judged
from exports.landing.narrowing import FILTERED, NOTHING_NARROWED, Narrowing
from exports.landing.ndjson import judge, load, read_lines, unpack, whole_lines
from exports.landing.screening import (
    TEST,
    TEST_PATIENTS,
    Exclusion,
    Screen,
    may_be_marked,
    may_mention,
    may_name,
    named_patients,
)
from exports.sealed import hash_json


@dataclass(frozen=True)
class Sieve:
    """Which resources to leave out of a landing zone.

    `known` are patients, by logical id, whom an earlier landing has left out: an export that
    brings their observations need not bring the Patient that says so.
    """

    screen: Screen = TEST_PATIENTS
    narrowing: Narrowing = NOTHING_NARROWED
    known: Mapping[str, Exclusion] = field(default_factory=dict, repr=False)

    @property
    def digest(self) -> str:
        """The hash of what is left out: part of what names a landing zone."""
        known = hash_json(dict(self.known)) if self.known else ""
        return hash_json([self.screen.scope, self.narrowing.scope, known])

    def over(self, files: Sequence[tuple[Path, Delivered]]) -> Sifting:
        """The sieve laid over these files: their Patients are read to know whom to leave out."""
        excluded = dict(self.known)
        brought = [
            (path, judged.judged) for path, judged in files if "Patient" in judged.judged.rows
        ]
        marked = self.screen.test_patients and any(judged.labelled for _, judged in brought)
        if marked or self.screen.opted_out or excluded:
            patients = (line for path, _ in brought for line in _patients(path))
            excluded = self.screen.excluded_patients(patients, known=excluded)
        return Sifting(self.screen, self.narrowing, excluded)


@dataclass(frozen=True)
class Dropped:
    """Why a line is not kept: `excluded` names a reason, or else `narrowed` a parameter.

    `alone`: it goes for what it says of itself, and not along with its patient.
    """

    excluded: Exclusion | None = None
    narrowed: str = ""
    alone: bool = False


@dataclass(frozen=True)
class Sifting:
    """A sieve that knows whom to leave out."""

    screen: Screen
    narrowing: Narrowing
    excluded: Mapping[str, Exclusion] = field(repr=False)

    def changes(self, file: Path, judged: Judged) -> bool:
        """Whether a row of a readable file may not be kept as it was delivered."""
        if not self._concerns(judged):
            return False
        return any(
            self.keep(line, verdict) is not line
            for text, _ in whole_lines(unpack(file_chunks(file)))
            if self.suspects(text, judged)
            for line in text.split(b"\n")
            if isinstance(verdict := judge(line), tuple)
        )

    def suspects(self, text: bytes, judged: Judged) -> bool:
        """Whether lines of a file have to be looked at one by one: False is certain."""
        if any(map(self.narrowing.concerns, judged.rows)):
            return True
        if self._ids and ("Patient" in judged.rows or may_name(text, self._ids)):
            return True
        return self._reads_labels(judged) and may_be_marked(text)

    def keep(self, line: bytes, kind: tuple[str, str]) -> bytes | Dropped:
        """A good line of that (type, id) as it is kept, or why it isn't."""
        if (dropped := self._exclusion(line, kind)) is not None:
            return dropped
        if not self.narrowing.concerns(kind[0]):
            return line
        if parameter := self.narrowing.refused_type(kind[0]):
            return Dropped(narrowed=parameter)
        kept = self.narrowing.line_of(line)
        if kept is None:
            parameter = self.narrowing.refused(load(line))
            return Dropped(narrowed=parameter, alone=parameter == FILTERED)
        return kept

    def taints(self, line: bytes) -> bool:
        """Whether a line that is no resource, so that none can judge it, may have to go."""
        if not line.strip():
            return False
        if self.narrowing.active or self.screen.labels:
            return True
        if self.screen.test_patients and TEST.encode() in line:
            return True
        return self.mentions(line)

    def mentions(self, line: bytes) -> bool:
        """Whether a line that is no row may speak of a patient who was left out."""
        return bool(self.excluded) and (b"\\u" in line or may_mention(line, self._ids))

    @cached_property
    def _ids(self) -> frozenset[bytes]:
        return frozenset(patient.encode() for patient in self.excluded)

    def _concerns(self, judged: Judged) -> bool:
        narrowed = any(map(self.narrowing.concerns, judged.rows))
        return narrowed or bool(self.excluded) or self._reads_labels(judged)

    def _reads_labels(self, judged: Judged) -> bool:
        return self.screen.reads_labels and judged.labelled > 0

    def _exclusion(self, line: bytes, kind: tuple[str, str]) -> Dropped | None:
        if self._ids:
            if kind[0] == "Patient" and kind[1] in self.excluded:
                return Dropped(self.excluded[kind[1]])
            if named := self._ids & _named(line):
                return Dropped(self.excluded[min(named).decode()])
        if self.screen.reads_labels and may_be_marked(line):
            labelled = self.screen.why_labelled(load(line))
            return None if labelled is None else Dropped(labelled, alone=True)
        return None


def _patients(path: Path) -> Iterator[bytes]:
    """The lines of all Patients in a file."""
    for _, _, line in read_lines(unpack(file_chunks(path))):
        verdict = judge(line)
        if isinstance(verdict, tuple) and verdict[0] == "Patient":
            yield _within_doubles(line)


def _named(line: bytes) -> set[bytes]:
    try:
        return named_patients(line)
    except orjson.JSONDecodeError:
        return named_patients(_within_doubles(line))


def _within_doubles(line: bytes) -> bytes:
    """A good line as any reader takes it: without its numbers that are beyond all doubles."""
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return orjson.dumps(load(line))
    return line
