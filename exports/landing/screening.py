"""Who must not be in it: test patients, patients who opted out, resources under a security label.

A patient is one of them by `meta.security` or `meta.tag` (HTEST of v3-ActReason), or by an
operator's list; a resource of another type that is so marked goes alone. With the patient go all
resources that name `Patient/<id>` anywhere: relative, absolute, versioned, or as `urn:uuid:<id>`;
and every Patient that `Patient.link` makes the same person. What refers to a patient by
identifier alone, or only by way of another resource, is not seen here. Source: FHIR R4, "Security
Labels" and "Patient.link".
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import unquote_to_bytes

import orjson

from exports.errors import FhirloomError
from exports.landing.ndjson import LONGEST_LINE
from exports.sealed import hash_json

Exclusion = Literal["test-patient", "opted-out", "label"]

ACT_REASON: Final = "http://terminology.hl7.org/CodeSystem/v3-ActReason"
ACT_CODE: Final = "http://terminology.hl7.org/CodeSystem/v3-ActCode"
CONFIDENTIALITY: Final = "http://terminology.hl7.org/CodeSystem/v3-Confidentiality"
OTHER_NAMES: Final[Mapping[str, str]] = {
    "http://hl7.org/fhir/v3/ActReason": ACT_REASON,
    "http://hl7.org/fhir/v3/ActCode": ACT_CODE,
    "http://hl7.org/fhir/v3/Confidentiality": CONFIDENTIALITY,
    "urn:oid:2.16.840.1.113883.5.8": ACT_REASON,
    "urn:oid:2.16.840.1.113883.5.4": ACT_CODE,
    "urn:oid:2.16.840.1.113883.5.25": CONFIDENTIALITY,
}
"""What servers call these code systems too: by the name that STU3 gave them, or by OID."""
TEST: Final = "HTEST"
PRESETS: Final[Mapping[str, tuple[str, ...]]] = {
    # Substance use disorder records, 42 CFR Part 2.
    "part2": tuple(
        f"{ACT_CODE}|{code}" for code in ("42CFRPart2", "ETH", "ETHUD", "OPIOIDUD", "SUD")
    ),
    "mental-health": tuple(f"{ACT_CODE}|{code}" for code in ("BH", "MH", "PSY", "PSYTHPN")),
    "restricted": (f"{CONFIDENTIALITY}|R", f"{CONFIDENTIALITY}|V"),
}
"""Labels by the name under which an operator may ask for them together."""

_PATIENT: Final = re.compile(rb"(?:(?<![A-Za-z])Patient\\?/|urn:uuid:)([A-Za-z0-9._~\-]+)")
# A pattern that begins with plain letters is searched for some times as fast.
_REFERENCE: Final = re.compile(rb"Patient(?<![A-Za-z]Patient)\\?/([A-Za-z0-9._~\-]+)")
_PERHAPS_PATIENT: Final = re.compile(rb"Patient\\?/([A-Za-z0-9._~\-]+)")
_ESCAPED: Final = re.compile(rb"\\u00[2-7]")
_TELLING: Final = re.compile(rb'HTEST|"link"|\\u00[2-7]')
_TOKEN: Final = re.compile(rb"[A-Za-z0-9._~\-]+")


@dataclass(frozen=True)
class Screen:
    """Whom and what to leave out.

    `opted_out` holds logical ids and `system|value` identifiers of patients; `labels` holds codes
    or `system|code` of `meta.security`. The default leaves out test patients alone.
    """

    test_patients: bool = True
    opted_out: frozenset[str] = field(default=frozenset(), repr=False)
    labels: frozenset[str] = frozenset()

    @classmethod
    def of(
        cls,
        *,
        test_patients: bool = True,
        patients_file: Path | None = None,
        labels: Sequence[str] = (),
    ) -> Screen:
        """A screen as an operator words it: `labels` may name presets (`part2`, ...), in any case.

        `patients_file` has one logical id or `system|identifier value` a line; a line that begins
        with # is a comment. Raises `FhirloomError` (bad-input) for a file that can't be read.
        """
        named = (label.strip() for label in labels if label.strip())
        chosen = (PRESETS.get(label.lower(), (label,)) for label in named)
        opted_out = frozenset() if patients_file is None else _read_list(patients_file)
        return cls(test_patients, opted_out, frozenset(code for codes in chosen for code in codes))

    @property
    def scope(self) -> dict[str, Any]:
        """What the screen does, as JSON that names nobody."""
        return {
            "test_patients": self.test_patients,
            "opted_out": hash_json(sorted(self.opted_out)) if self.opted_out else "",
            "labels": sorted(self.labels),
        }

    @property
    def reads_labels(self) -> bool:
        """Whether a resource of any type may have to go because of what it is marked with."""
        return self.test_patients or bool(self.labels)

    def excluded_patients(
        self, patients: Iterable[bytes], *, known: Mapping[str, Exclusion] | None = None
    ) -> dict[str, Exclusion]:
        """The logical ids to leave out, with the reason, from the lines of all Patients.

        `known` are ids that were left out before, and stay so.
        """
        excluded = dict(known or {})
        excluded |= {listed: "opted-out" for listed in self.opted_out if "|" not in listed}
        by_identifier = any("|" in listed for listed in self.opted_out)
        links: defaultdict[str, set[str]] = defaultdict(set)
        for line in patients:
            if not (by_identifier or _TELLING.search(line)):
                continue
            patient = orjson.loads(line)
            if (reason := self._why(patient)) is not None:
                excluded.setdefault(patient["id"], reason)
            for other in linked_patients(patient):
                links[patient["id"]].add(other)
                links[other].add(patient["id"])
        return closed_over(excluded, links)

    def why_labelled(self, resource: Mapping[str, Any]) -> Exclusion | None:
        """Why a resource is left out for what it is marked with itself, or None."""
        security = _codings(resource, "security")
        marks = [*security, *_codings(resource, "tag")]
        if self.test_patients and any(_is_test(mark) for mark in marks):
            return "test-patient"
        labelled = any(not self.labels.isdisjoint(_labels(coding)) for coding in security)
        return "label" if labelled else None

    def _why(self, patient: Mapping[str, Any]) -> Exclusion | None:
        for identifier in _objects(patient.get("identifier")):
            if f"{identifier.get('system', '')}|{identifier.get('value')}" in self.opted_out:
                return "opted-out"
        # A label on a Patient is about that resource alone; a test patient's all is test data.
        return "test-patient" if self.why_labelled(patient) == "test-patient" else None


TEST_PATIENTS: Final = Screen()
"""The screen that leaves out test patients alone."""


def named_patients(line: bytes) -> set[bytes]:
    """The ids of all patients that a line (a good one) names, itself included if it is one."""
    if _ESCAPED.search(line):
        line = orjson.dumps(orjson.loads(line))
    return set(_PATIENT.findall(line) if b"urn:uuid:" in line else _REFERENCE.findall(line))


def may_name(text: bytes, patients: frozenset[bytes]) -> bool:
    """Whether lines may refer to one of `patients`: False is certain, True is to be looked at."""
    if not patients.isdisjoint(_PERHAPS_PATIENT.findall(text)) or _ESCAPED.search(text):
        return True
    return b"urn:uuid:" in text and not patients.isdisjoint(_PATIENT.findall(text))


def may_be_marked(text: bytes) -> bool:
    """Whether lines may have a security label or a tag: False is certain."""
    return b'"security"' in text or b'"tag"' in text or bool(_ESCAPED.search(text))


def may_mention(line: bytes, patients: frozenset[bytes]) -> bool:
    """Whether a bad line may have the id of one of `patients` in it, in whatever place.

    One that was cut because it is too long, or that isn't in UTF-8, may have anybody's.
    """
    if len(line) > LONGEST_LINE or b"\0" in line:
        return True
    tokens = set(_TOKEN.findall(unquote_to_bytes(line) if b"%" in line else line))
    # In a sentence, an id may have a full stop or a dash after it.
    plain = {
        part.strip(b"-_~") for token in tokens for part in (token.strip(b"."), *token.split(b"."))
    }
    return not patients.isdisjoint(tokens | plain)


def closed_over(
    patients: Mapping[str, Exclusion], links: Mapping[str, set[str]]
) -> dict[str, Exclusion]:
    """All that are the same person as an excluded one, excluded for the same reason.

    `links` tell of each id those that it is linked with; each link stands there both ways.
    """
    excluded = dict(patients)
    waiting = sorted(excluded)
    while waiting:
        patient = waiting.pop()
        for other in sorted(links.get(patient, ())):
            if other not in excluded:
                excluded[other] = excluded[patient]
                waiting.append(other)
    return dict(sorted(excluded.items()))


def linked_patients(patient: Mapping[str, Any]) -> Iterable[str]:
    """The ids of the patients whom a Patient's links say to be the same person."""
    for link in _objects(patient.get("link")):
        for other in _objects(link.get("other")):
            reference = str(other.get("reference", ""))
            if found := _PATIENT.search(reference.encode()):
                yield found[1].decode()


def _is_test(coding: Mapping[str, Any]) -> bool:
    return coding.get("code") == TEST and _system(coding) in ("", ACT_REASON)


def _labels(coding: Mapping[str, Any]) -> set[str]:
    """A label in every way in which an operator may have named it."""
    code = str(coding.get("code"))
    return {code, f"{coding.get('system', '')}|{code}", f"{_system(coding)}|{code}"}


def _system(coding: Mapping[str, Any]) -> str:
    """A coding's system by the name that R4 gives it, "" where it has none."""
    written = str(coding.get("system", ""))
    return OTHER_NAMES.get(written, written)


def _codings(resource: Mapping[str, Any], member: str) -> list[Mapping[str, Any]]:
    meta = resource.get("meta")
    return _objects(meta.get(member)) if isinstance(meta, dict) else []


def _objects(value: Any) -> list[Mapping[str, Any]]:
    """The objects in a JSON value that is one, or a list of them, or neither."""
    items = value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, dict)]


def _read_list(path: Path) -> frozenset[str]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        raise FhirloomError(
            "bad-input",
            "The list of patients to leave out can't be read",
            where="patients file",
            fix="Give a text file in UTF-8, one patient a line.",
        ) from None
    return patients_listed(lines, where="patients file")


def patients_listed(lines: Iterable[str], *, where: str) -> frozenset[str]:
    """The patients of a list as an operator writes it (`Screen.of`), one a line.

    Raises `FhirloomError` (bad-input) that tells the line, and never quotes it.
    """
    listed = set()
    for number, line in enumerate(lines, start=1):
        entry = line.strip()
        if not entry or entry.startswith("#"):
            continue
        system, bar, value = entry.partition("|")
        if (bar and not value) or (not bar and not _TOKEN.fullmatch(entry.encode())):
            raise FhirloomError(
                "bad-input",
                "An entry of the list of patients is neither an id nor system|value",
                where=f"{where}, line {number}",
                fix="Write a logical id, or an identifier as system|value.",
            )
        listed.add(f"{system.strip()}|{value.strip()}" if bar else entry)
    return frozenset(listed)
