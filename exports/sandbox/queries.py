"""FHIR search over resources in memory: enough of it for type filters and for a search server.

Source: FHIR R4, "Search": tokens, dates with prefixes, references; repeated parameters are "and",
commas are "or", and a comma after a backslash is one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qsl

from exports.sandbox.elements import Resource

Predicate = Callable[[Resource], bool]
Interval = tuple[datetime, datetime]

TOKENS: Final[Mapping[str, tuple[str, ...]]] = {
    "_id": ("id",),
    "category": ("category",),
    "class": ("class",),
    "clinical-status": ("clinicalStatus",),
    "code": ("code", "medicationCodeableConcept", "vaccineCode"),
    "combo-code": ("code", "component"),
    "gender": ("gender",),
    "intent": ("intent",),
    "status": ("status",),
    "type": ("type",),
    "verification-status": ("verificationStatus",),
}
DATES: Final[Mapping[str, tuple[str, ...]]] = {
    "_lastUpdated": ("meta.lastUpdated",),
    "authoredon": ("authoredOn",),
    "birthdate": ("birthDate",),
    "date": (
        "effectiveDateTime",
        "effectivePeriod",
        "period",
        "date",
        "performedDateTime",
        "performedPeriod",
        "effectiveInstant",
        "occurrenceDateTime",
    ),
    "collected": ("collection.collectedDateTime",),
    "effective": ("effectiveDateTime", "effectivePeriod"),
    "effective-time": ("effectiveDateTime", "effectivePeriod"),
    "onset-date": ("onsetDateTime", "onsetPeriod"),
    "recorded-date": ("recordedDate",),
    "whenhandedover": ("whenHandedOver",),
    "whenprepared": ("whenPrepared",),
}
REFERENCES: Final[Mapping[str, tuple[str, ...]]] = {
    "encounter": ("encounter", "context"),
    "patient": ("subject", "patient", "beneficiary"),
    "subject": ("subject",),
}
EVERYWHERE: Final = ("_id", "_lastUpdated")
_KNOWN: Final[Mapping[str, str]] = {
    "AllergyIntolerance": "category clinical-status code date patient verification-status",
    "CarePlan": "category date encounter intent patient status subject",
    "CareTeam": "category encounter patient status subject",
    "Claim": "encounter patient status",
    "Condition": "category clinical-status code encounter onset-date patient recorded-date subject "
    "verification-status",
    "Coverage": "patient status type",
    "Device": "patient status type",
    "DiagnosticReport": "category code date encounter patient status subject",
    "DocumentReference": "category date patient status subject type",
    "Encounter": "class date patient status subject type",
    "ExplanationOfBenefit": "encounter patient status",
    "Goal": "category patient subject",
    "ImagingStudy": "encounter patient status subject",
    "Immunization": "date patient status",
    "Medication": "code status",
    "MedicationAdministration": "code effective-time patient status subject",
    "MedicationDispense": "code patient status subject whenhandedover whenprepared",
    "MedicationRequest": "authoredon category code encounter intent patient status subject",
    "MedicationStatement": "category code effective patient status subject",
    "Observation": "category code combo-code date encounter patient status subject",
    "Patient": "birthdate gender",
    "Procedure": "category code date encounter patient status subject",
    "RelatedPerson": "birthdate gender patient",
    "ServiceRequest": "category code encounter intent patient status subject",
    "Specimen": "collected patient status subject type",
}
PREFIXED: Final = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb)?(\d{4}.*)")
OR: Final = re.compile(r"(?<!\\),")


class UnknownQuery(Exception):  # noqa: N818 - what the client asked, not a failure
    """A search parameter or value that means nothing here."""


def known_parameters(resource_type: str) -> list[str]:
    """The search parameters of a type."""
    return sorted([*EVERYWHERE, *_KNOWN.get(resource_type, "").split()])


def read_type_filter(text: str) -> tuple[str, Predicate]:
    """A type filter (`Observation?category=laboratory`) as its type and what it lets through.

    Raises `UnknownQuery`.
    """
    resource_type, mark, query = text.partition("?")
    if not mark or not query:
        raise UnknownQuery("a type filter is a type, a question mark and a search")
    return resource_type, read_query(resource_type, parse_qsl(query, keep_blank_values=True))


def read_query(resource_type: str, pairs: list[tuple[str, str]]) -> Predicate:
    """What a search of one type lets through. Raises `UnknownQuery`."""
    known = known_parameters(resource_type)
    criteria = []
    for name, value in pairs:
        if name not in known:
            raise UnknownQuery(f"{resource_type} has no search parameter {name}")
        alternatives = [part.replace("\\,", ",") for part in OR.split(value)]
        criteria.append(_any_of([_criterion(name, part) for part in alternatives]))
    return lambda resource: all(criterion(resource) for criterion in criteria)


def _any_of(predicates: list[Predicate]) -> Predicate:
    return lambda resource: any(predicate(resource) for predicate in predicates)


def _criterion(name: str, value: str) -> Predicate:
    if name in TOKENS:
        return _token(TOKENS[name], value)
    if name in DATES:
        return _date(DATES[name], value)
    wanted = value.removeprefix("Patient/")
    return lambda resource: any(
        reference.split("/")[-1] == wanted.split("/")[-1]
        for path in REFERENCES[name]
        for reference in _references(resource.get(path))
    )


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        value = value.get("encounter")
    if isinstance(value, list):
        for each in value:
            yield from _references(each)


def _token(paths: tuple[str, ...], value: str) -> Predicate:
    system, bar, code = value.rpartition("|")

    def fits(found: tuple[str | None, str | None]) -> bool:
        if code and found[1] != code:
            return False
        return not bar or (found[0] or "") == system

    return lambda resource: any(
        fits(found) for path in paths for found in _codings(resource.get(path))
    )


def _codings(value: Any) -> Iterator[tuple[str | None, str | None]]:
    """Every (system, code) in a code, Coding, CodeableConcept, or a list of these."""
    if isinstance(value, str):
        yield None, value
    elif isinstance(value, list):
        for each in value:
            yield from _codings(each)
    elif isinstance(value, dict):
        if "coding" in value:
            yield from _codings(value["coding"])
        elif isinstance(value.get("code"), str):
            yield value.get("system"), value["code"]
        else:
            # A component, whose code is a concept.
            yield from _codings(value.get("code"))


def _date(paths: tuple[str, ...], value: str) -> Predicate:
    match = PREFIXED.fullmatch(value)
    if match is None:
        raise UnknownQuery("a date begins with its year, after a prefix")
    prefix, (low, high) = match[1] or "eq", interval(match[2])
    tests: dict[str, Callable[[datetime, datetime], bool]] = {
        "eq": lambda start, end: low <= start and end <= high,
        "ne": lambda start, end: not (low <= start and end <= high),
        "gt": lambda start, end: end > high,
        "lt": lambda start, end: start < low,
        "ge": lambda start, end: end > low,
        "le": lambda start, end: start < high,
        "sa": lambda start, end: start >= high,
        "eb": lambda start, end: end <= low,
    }
    return lambda resource: any(
        tests[prefix](*span) for path in paths for span in _spans(resource, path)
    )


def _spans(resource: Resource, path: str) -> Iterator[Interval]:
    value: Any = resource
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
    if isinstance(value, str):
        yield interval(value)
    elif isinstance(value, dict):
        start, end = value.get("start"), value.get("end")
        yield (
            interval(start)[0] if start else datetime.min.replace(tzinfo=UTC),
            interval(end)[1] if end else datetime.max.replace(tzinfo=UTC),
        )


def interval(text: str) -> Interval:
    """The span that a FHIR date of any precision covers, end exclusive; UTC where no zone is told.

    Raises `UnknownQuery` for what is no date.
    """
    try:
        if len(text) == 4:
            year = int(text)
            return datetime(year, 1, 1, tzinfo=UTC), datetime(year + 1, 1, 1, tzinfo=UTC)
        if len(text) == 7:
            year, month = int(text[:4]), int(text[5:])
            start = datetime(year, month, 1, tzinfo=UTC)
            return start, datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
        time = datetime.fromisoformat(text)
    except ValueError:
        raise UnknownQuery("that is no date") from None
    zoned = time if time.tzinfo else time.replace(tzinfo=UTC)
    if len(text) == 10:
        return zoned, zoned + timedelta(days=1)
    precision = timedelta(microseconds=1) if "." in text else timedelta(seconds=1)
    return zoned, zoned + precision
