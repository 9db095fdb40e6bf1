"""What the server was asked to leave out and didn't, left out here before anything is kept.

Source: FHIR Bulk Data Access STU2, "Query Parameters"; FHIR R4, "Search" (`_elements`, SUBSETTED)
and "Compartment Patient". A resource without `meta.lastUpdated` passes `_since` and `_until`; one
that names no patient passes `patient`; a type without a filter passes `_typeFilter`.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Final

import msgspec
import orjson

from exports.errors import FhirloomError
from exports.landing.ndjson import load
from exports.landing.searching import PATIENTS, Search, Span, parse_search, time_span
from exports.request import ExportRequest

Resource = Mapping[str, Any]

SUBSETTED: Final = {
    "system": "http://terminology.hl7.org/CodeSystem/v3-ObservationValue",
    "code": "SUBSETTED",
}
ALWAYS: Final = frozenset({"resourceType", "id", "meta", "implicitRules", "modifierExtension"})
CHOICES: Final = frozenset(
    """
    abatement age born collected deceased effective medication multipleBirth occurrence onset
    performed product rate reported serviced timing value
    """.split()  # noqa: SIM905 - a list to read
)
"""Root elements whose name ends with the type of their value (`value` stands for `value[x]`)."""
NEEDED: Final[Mapping[str, str]] = {
    "AllergyIntolerance": "clinicalStatus verificationStatus patient",
    "Appointment": "status participant",
    "CarePlan": "status intent subject",
    "CareTeam": "status",
    "Condition": "clinicalStatus verificationStatus subject",
    "Consent": "status scope category",
    "Coverage": "status beneficiary payor",
    "Device": "status",
    "DiagnosticReport": "status code",
    "DocumentReference": "status content",
    "Encounter": "status class",
    "EpisodeOfCare": "status patient",
    "Goal": "lifecycleStatus description subject",
    "Group": "type actual",
    "Immunization": "status vaccineCode patient occurrence isSubpotent",
    "Location": "status mode",
    "Medication": "status",
    "MedicationAdministration": "status medication subject effective",
    "MedicationDispense": "status medication",
    "MedicationRequest": "status intent doNotPerform medication subject reported",
    "MedicationStatement": "status medication subject",
    "Observation": "status code",
    "Organization": "active",
    "Patient": "active deceased link",
    "Practitioner": "",
    "PractitionerRole": "",
    "Procedure": "status subject",
    "Provenance": "target recorded agent",
    "RelatedPerson": "active patient",
    "ServiceRequest": "status intent doNotPerform subject",
    "Specimen": "status",
}
"""Mandatory and modifier elements, which `_elements` never takes away."""
NEEDED_ELSEWHERE: Final = "status intent code type subject patient"
_read_raw: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_PATIENT: Final = re.compile(r"(?<![A-Za-z])Patient/([A-Za-z0-9._~\-]+)")
URN: Final = "urn:uuid:"
FILTERED: Final = "_typeFilter"
"""The parameter that a resource may cease to match."""


@dataclass(frozen=True)
class Narrowing:
    """Parameters of a request to be applied here; an empty one narrows nothing.

    Raises `FhirloomError` (bad-input) for a type filter that can't be applied here.
    """

    types: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    patients: tuple[str, ...] = ()
    elements: tuple[str, ...] = ()
    type_filters: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _ = self._searches

    @classmethod
    def of_dropped(cls, request: ExportRequest, dropped: Collection[str]) -> Narrowing:
        """What a request asked for by parameters (`_type`, `patient`, ...) that were dropped.

        `_elements` is applied whether it was or not: many servers pass it over in silence, and
        where it was heeded, applying it again takes nothing away.
        """
        return cls(
            types=request.types if "_type" in dropped else (),
            since=request.since if "_since" in dropped else None,
            until=request.until if "_until" in dropped else None,
            patients=request.patients if "patient" in dropped else (),
            elements=request.elements,
            type_filters=request.type_filters if "_typeFilter" in dropped else (),
        )

    @classmethod
    def of_heeded(cls, request: ExportRequest, dropped: Collection[str]) -> Narrowing:
        """What the server took on by parameters that were not dropped, as far as it shows in rows.

        Filters of a type count only where all of them can be decided here. In a group's export
        `_since` doesn't: of patients who joined since then, older resources may come too.
        """
        of_time = request.since if request.level != "group" else None
        return cls(
            since=of_time if "_since" not in dropped else None,
            until=request.until if "_until" not in dropped else None,
            patients=request.patients if "patient" not in dropped else (),
            type_filters=(_decidable(request.type_filters) if "_typeFilter" not in dropped else ()),
        )

    @property
    def scope(self) -> dict[str, Any]:
        """What is left out, as JSON."""
        return {
            "types": sorted(self.types),
            "since": None if self.since is None else self.since.isoformat(),
            "until": None if self.until is None else self.until.isoformat(),
            "patients": sorted(self.patients),
            "elements": sorted(self.elements),
            "type_filters": sorted(self.type_filters),
        }

    @property
    def of_times_alone(self) -> bool:
        """Whether type and `meta` of a resource are enough to tell if it is refused."""
        return not (self.patients or self.type_filters)

    @property
    def active(self) -> bool:
        """Whether anything is left out at all."""
        return self != NOTHING_NARROWED

    def concerns(self, resource_type: str) -> bool:
        """Whether a resource of that type may have to be left out, or not be kept whole."""
        of_any = (self.since, self.until, self.patients)
        if any(of_any) or self.refused_type(resource_type) or resource_type in self._searches:
            return True
        return any(element.rpartition(".")[0] in ("", resource_type) for element in self.elements)

    def refused_type(self, resource_type: str) -> str:
        """`_type` where no resource of that type was asked for, else ""."""
        return "_type" if self.types and resource_type not in self.types else ""

    def of(self, resource: Resource) -> dict[str, Any] | None:
        """The resource as it was asked for, or None where it wasn't."""
        if self.refused(resource):
            return None
        kept = self.kept_elements(resource["resourceType"], resource)
        if kept == set(resource):
            return dict(resource)
        return {
            name: _subsetted(value) if name == "meta" else value
            for name, value in {"meta": {}, **resource}.items()
            if name in kept or name == "meta"
        }

    def line_of(self, line: bytes) -> bytes | None:
        """The same on a resource's JSON, whose numbers stay as they are written."""
        resource = load(line)
        if self.refused(resource):
            return None
        kept = self.kept_elements(resource["resourceType"], resource)
        if kept == set(resource):
            return line
        try:
            raw = _read_raw(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return orjson.dumps(self.of(resource))
        raw["meta"] = msgspec.Raw(orjson.dumps(_subsetted(resource.get("meta"))))
        return msgspec.json.encode({name: raw[name] for name in raw if name in kept | {"meta"}})

    def refused(self, resource: Resource) -> str:
        """The parameter by which a resource is left out, or "" where it is kept."""
        kind = resource["resourceType"]
        if refused := self.refused_type(kind):
            return refused
        if self.since is not None or self.until is not None:
            span = _updated(resource)
            if span is not None and self.since is not None and span[1] <= self.since:
                return "_since"
            if span is not None and self.until is not None and span[0] > self.until:
                return "_until"
        if self.patients and not self._is_of_patients(resource):
            return "patient"
        searches = self._searches.get(kind)
        if searches is not None and not any(search.finds(resource) for search in searches):
            return FILTERED
        return ""

    def kept_elements(self, resource_type: str, names: Collection[str]) -> frozenset[str]:
        """Which of a resource's root elements stay."""
        # Millions of resources have a few sets of elements between them.
        shape = (resource_type, *names)
        if shape not in self._kept:
            self._kept[shape] = self._which_stay(resource_type, names)
        return self._kept[shape]

    def _which_stay(self, resource_type: str, names: Collection[str]) -> frozenset[str]:
        asked = {
            element.rpartition(".")[2]
            for element in self.elements
            if element.rpartition(".")[0] in ("", resource_type)
        }
        if not asked:
            return frozenset(names)
        asked |= ALWAYS | set(NEEDED.get(resource_type, NEEDED_ELSEWHERE).split())
        return frozenset(
            name for name in names if _stem(name) in asked or name.lstrip("_") in asked
        )

    @cached_property
    def _kept(self) -> dict[tuple[str, ...], frozenset[str]]:
        return {}

    @cached_property
    def _searches(self) -> dict[str, list[Search]]:
        searches: defaultdict[str, list[Search]] = defaultdict(list)
        for text in self.type_filters:
            search = parse_search(text)
            searches[search.type].append(search)
        return dict(searches)

    def _is_of_patients(self, resource: Resource) -> bool:
        if resource["resourceType"] == "Patient":
            return resource.get("id") in self.patients
        named = {*_PATIENT.findall(orjson.dumps(resource).decode()), *_owners_by_urn(resource)}
        return not named or not named.isdisjoint(self.patients)


NOTHING_NARROWED: Final = Narrowing()


def _decidable(type_filters: Collection[str]) -> tuple[str, ...]:
    undecided = set()
    for text in type_filters:
        try:
            parse_search(text)
        except FhirloomError:
            undecided.add(text.partition("?")[0])
    return tuple(text for text in type_filters if text.partition("?")[0] not in undecided)


def _updated(resource: Resource) -> Span | None:
    meta = resource.get("meta")
    updated = meta.get("lastUpdated") if isinstance(meta, dict) else None
    return time_span(updated) if isinstance(updated, str) else None


def _owners_by_urn(resource: Resource) -> list[str]:
    """The patients whose resource it is, where a URN names them: anything else may have one too."""
    owners = [resource.get(name) for name in PATIENTS]
    named = [str(owner.get("reference", "")) for owner in owners if isinstance(owner, dict)]
    return [name.removeprefix(URN) for name in named if name.startswith(URN)]


def _stem(name: str) -> str:
    """An element's name without the underscore of its extensions, and without a choice's type."""
    plain = name.lstrip("_")
    for choice in CHOICES:
        if plain.startswith(choice) and plain[len(choice) :][:1].isupper():
            return choice
    return plain


def _subsetted(meta: Any) -> dict[str, Any]:
    given = dict(meta) if isinstance(meta, dict) else {}
    tags = given.get("tag")
    others = [
        tag
        for tag in (tags if isinstance(tags, list) else [])
        if not (isinstance(tag, dict) and tag.get("code") == SUBSETTED["code"])
    ]
    return {**given, "tag": [*others, SUBSETTED]}
