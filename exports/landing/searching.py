"""FHIR search over one resource: whether it would have been in a search's result.

Source: FHIR R4, "Search" (token, date and reference parameters, prefixes, escapes). Only what can
be decided from the resource alone: no chains, no modifiers, no text. Times without a zone are
taken as UTC.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import unquote

from exports.errors import FhirloomError
from exports.resource_types import RESOURCE_TYPES

Span = tuple[datetime, datetime]
"""From a first instant to the first one after it."""
Test = Callable[[Any], bool]

TOKENS: Final[Mapping[str, str]] = {
    "category": "category",
    "class": "class",
    "clinical-status": "clinicalStatus",
    "code": "code",
    "criticality": "criticality",
    "gender": "gender",
    "active": "active",
    "identifier": "identifier",
    "intent": "intent",
    "lifecycle-status": "lifecycleStatus",
    "priority": "priority",
    "severity": "severity",
    "status": "status",
    "type": "type",
    "vaccine-code": "vaccineCode",
    "verification-status": "verificationStatus",
}
"""Token parameters of any type that has them, by the element that they look at."""
MEDICATION_TYPES: Final = frozenset(
    "MedicationAdministration MedicationDispense MedicationRequest MedicationStatement".split()  # noqa: SIM905 - a list to read
)
DATES: Final[Mapping[str, Mapping[str, str]]] = {
    "AllergyIntolerance": {"date": "recordedDate", "onset": "onset"},
    "CarePlan": {"date": "period"},
    "Condition": {
        "abatement-date": "abatement",
        "onset-date": "onset",
        "recorded-date": "recordedDate",
    },
    "DiagnosticReport": {"date": "effective", "issued": "issued"},
    "DocumentReference": {"date": "date"},
    "Encounter": {"date": "period"},
    "Goal": {"start-date": "start"},
    "Immunization": {"date": "occurrence"},
    "MedicationAdministration": {"effective-time": "effective"},
    "MedicationDispense": {"whenhandedover": "whenHandedOver", "whenprepared": "whenPrepared"},
    "MedicationRequest": {"authoredon": "authoredOn"},
    "MedicationStatement": {"effective": "effective"},
    "Observation": {"date": "effective"},
    "Patient": {"birthdate": "birthDate", "death-date": "deceased"},
    "Procedure": {"date": "performed"},
    "ServiceRequest": {"authored": "authoredOn", "occurrence": "occurrence"},
}
"""Date parameters by type, with the element that they look at (without a choice's ending)."""
PATIENTS: Final = ("subject", "patient", "beneficiary")

_PREFIX: Final = re.compile(r"(eq|ne|gt|lt|ge|le|sa|eb)?(\d{4}.*)")
_PARTIAL: Final = re.compile(r"(\d{4})(?:-(\d{2})(?:-(\d{2}))?)?")
_MOMENT: Final = re.compile(
    r"(\d{4}-\d{2}-\d{2}T\d{2}:\d{2})(?::(\d{2})(\.\d+)?)?(Z|[+-]\d{2}:\d{2})?"
)
_BEGINNING: Final = datetime.min.replace(tzinfo=UTC)
_END: Final = datetime.max.replace(tzinfo=UTC)
_PATIENT_REFERENCE: Final = re.compile(r"(?:^|/)Patient/([^/|?#]+)")


@dataclass(frozen=True)
class Search:
    """A search of one type: every criterion has to hold."""

    type: str
    criteria: tuple[Test, ...]

    def finds(self, resource: Mapping[str, Any]) -> bool:
        """Whether a resource of that type is in the result."""
        return all(holds(resource) for holds in self.criteria)


def parse_search(text: str) -> Search:
    """A search as `Observation?category=laboratory&date=ge2020`, percent-encoded or not.

    Raises `FhirloomError` (bad-input) for one that can't be decided from the resource alone.
    """
    resource_type, _, query = text.partition("?")
    if resource_type not in RESOURCE_TYPES or not query:
        raise _undecidable(resource_type if resource_type in RESOURCE_TYPES else "a type filter")
    criteria = []
    for pair in query.split("&"):
        name, equals, value = pair.partition("=")
        if not equals or not value:
            raise _undecidable(resource_type)
        criteria.append(_criterion(resource_type, unquote(name), _split(unquote(value), ",")))
    return Search(resource_type, tuple(criteria))


def _criterion(resource_type: str, name: str, values: Sequence[str]) -> Test:
    """One parameter with its alternatives, as a test of the resource."""
    if name == "_id":
        ids = {_plain(value) for value in values}
        return lambda resource: resource.get("id") in ids
    if name == "_lastUpdated":
        return _dated(resource_type, "lastUpdated", values, within="meta")
    if name in ("patient", "subject") and resource_type != "Patient":
        wanted = {_patient_id(resource_type, _plain(value)) for value in values}
        return lambda resource: bool(wanted & set(_subjects(resource)))
    if element := DATES.get(resource_type, {}).get(name):
        return _dated(resource_type, element, values)
    if name == "code" and resource_type in MEDICATION_TYPES:
        return _coded("medicationCodeableConcept", values)
    if name == "combo-code" and resource_type == "Observation":
        in_code, in_component = _coded("code", values), _coded("code", values, within="component")
        return lambda resource: in_code(resource) or in_component(resource)
    if element := TOKENS.get(name):
        return _coded(element, values)
    raise _undecidable(resource_type)


def _coded(element: str, values: Sequence[str], within: str = "") -> Test:
    """Whether a root element, or one of a member of `within`, has one of the codes."""
    wanted = [[_plain(part) for part in _split(value, "|")] for value in values]

    def holds(resource: Mapping[str, Any]) -> bool:
        members = resource.get(within, []) if within else [resource]
        holders = [member for member in members if isinstance(member, Mapping)]
        tokens = [token for holder in holders for token in _tokens(holder.get(element))]
        return any(_matches(token, parts) for token in tokens for parts in wanted)

    return holds


def _matches(token: tuple[str | None, str], wanted: Sequence[str]) -> bool:
    """Whether (system, code) is what was asked for; a system of None is implied by the element."""
    system, code = token
    if len(wanted) == 1:
        return code == wanted[0]
    same_system = system is None or system == wanted[0]
    return same_system and wanted[1] in ("", code)


def _tokens(value: Any) -> list[tuple[str | None, str]]:
    """(system, code) of a code, boolean, Coding, CodeableConcept, Identifier, or a list of them."""
    if isinstance(value, list):
        return [token for item in value for token in _tokens(item)]
    if isinstance(value, bool):
        return [(None, str(value).lower())]
    if isinstance(value, str):
        return [(None, value)]
    if not isinstance(value, dict):
        return []
    if "coding" in value:
        return _tokens(value["coding"])
    code = value.get("code", value.get("value"))
    return [(str(value.get("system", "")), code)] if isinstance(code, str) else []


def _dated(resource_type: str, element: str, values: Sequence[str], within: str = "") -> Test:
    asked = []
    for value in values:
        found = _PREFIX.fullmatch(value)
        span = None if found is None else time_span(found[2])
        if found is None or span is None:
            raise _undecidable(resource_type)
        asked.append((found[1] or "eq", span))

    def holds(resource: Mapping[str, Any]) -> bool:
        holder = resource.get(within) if within else resource
        spans = _spans(holder, element) if isinstance(holder, dict) else []
        return any(_compare(prefix, span, of) for of in spans for prefix, span in asked)

    return holds


def _compare(prefix: str, asked: Span, of: Span) -> bool:
    contained = asked[0] <= of[0] and of[1] <= asked[1]
    above, below = of[1] > asked[1], of[0] < asked[0]
    return {
        "eq": contained,
        "ne": not contained,
        "gt": above,
        "lt": below,
        "ge": above or contained,
        "le": below or contained,
        "sa": of[0] >= asked[1],
        "eb": of[1] <= asked[0],
    }[prefix]


def time_span(text: str) -> Span | None:
    """The time that a FHIR date, dateTime or instant covers; None for anything else."""
    try:
        if found := _PARTIAL.fullmatch(text):
            year, month, day = (int(part) if part else None for part in found.groups())
            start = datetime(year or 0, month or 1, day or 1, tzinfo=UTC)
            if day:
                return start, start + timedelta(days=1)
            following = start + timedelta(days=32 if month else 367)
            return start, following.replace(day=1, month=following.month if month else 1)
        if found := _MOMENT.fullmatch(text):
            seconds, fraction = found[2] or "00", (found[3] or "")[:7]
            start = datetime.fromisoformat(f"{found[1]}:{seconds}{fraction}{found[4] or '+00:00'}")
            if fraction:
                return start, start + timedelta(seconds=10.0 ** (1 - len(fraction)))
            return start, start + (timedelta(seconds=1) if found[2] else timedelta(minutes=1))
    except (ValueError, OverflowError):
        return None
    return None


def _spans(holder: Mapping[str, Any], element: str) -> list[Span]:
    """The times of an element: a date, dateTime or instant, a Period, a Timing's events."""
    spans = []
    for ending in ("", "Date", "DateTime", "Instant", "Period", "Timing"):
        value = holder.get(element + ending)
        if isinstance(value, str) and (span := time_span(value)) is not None:
            spans.append(span)
        elif isinstance(value, dict):
            start, end = (_edge(value.get(name)) for name in ("start", "end"))
            if start or end:
                spans.append((start[0] if start else _BEGINNING, end[1] if end else _END))
            events = [span for event in value.get("event") or [] if (span := _edge(event))]
            if events:
                spans.append((min(s for s, _ in events), max(e for _, e in events)))
    return spans


def _edge(value: Any) -> Span | None:
    return time_span(value) if isinstance(value, str) else None


def _subjects(resource: Mapping[str, Any]) -> list[str]:
    references = [resource.get(name) for name in PATIENTS]
    texts = [str(item.get("reference", "")) for item in references if isinstance(item, dict)]
    return [found[1] for text in texts if (found := _PATIENT_REFERENCE.search(text))]


def _patient_id(resource_type: str, value: str) -> str:
    found = _PATIENT_REFERENCE.search(value)
    if found is None and "/" in value:
        raise _undecidable(resource_type)
    return found[1] if found else value


def _split(text: str, mark: str) -> list[str]:
    """`text` at each `mark` that no backslash stands before; escapes stay."""
    return re.split(rf"(?<!\\){re.escape(mark)}", text)


def _plain(text: str) -> str:
    return re.sub(r"\\([\\,|$])", r"\1", text)


def _undecidable(resource_type: str) -> FhirloomError:
    return FhirloomError(
        "bad-input",
        "The server doesn't apply a type filter, and it can't be applied here either",
        where=f"type filter of {resource_type}",
        fix="Use codes, dates, _id and patient without modifiers, or leave the filter out.",
    )
