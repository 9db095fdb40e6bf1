"""The parameters of one kick-off, as a query or as a Parameters resource.

Source: FHIR Bulk Data Access STU1 to STU4, "Query Parameters"; FHIR R4, Parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode

from exports.bulk.profile import Parameter, Profile
from exports.request import ExportRequest

Method = Literal["GET", "POST"]
Name = Parameter | Literal["_outputFormat"]
FORMATS: Final = ("application/fhir+ndjson", "ndjson", "")
LONGEST_URL: Final = 2000
LISTS: Final = frozenset({"_type", "_elements", "includeAssociatedData"})
LEAST_HARM_FIRST: Final[tuple[Parameter, ...]] = (
    "allowPartialManifests",
    "organizeOutputBy",
    "_elements",
    "_until",
    "includeAssociatedData",
    "_typeFilter",
    "patient",
    "_since",
    "_type",
)
HARMLESS: Final = frozenset({"allowPartialManifests", "organizeOutputBy"})
"""Parameters that change how records are told, and not which ones."""


@dataclass(frozen=True)
class Asked:
    """What a kick-off asks for; `values` by parameter, `format` "" for the server's own.

    `repeated`: lists are told by repetition whatever the profile says, as STU4 wants it.
    """

    url: str
    values: Mapping[Parameter, tuple[str, ...]]
    profile: Profile
    repeated: bool = False
    format: str = FORMATS[0]

    @property
    def by_post(self) -> bool:
        """Whether it goes better as a POST: for patients, a long list, or a server that asks so."""
        wanted = self.repeated or self.profile.kick_off == "POST"
        return wanted or "patient" in self.values or len(self.with_query) > LONGEST_URL

    @property
    def with_query(self) -> str:
        """The URL of the kick-off by GET."""
        return f"{self.url}?{urlencode(list(self._pairs()), quote_via=quote, safe='')}"

    @property
    def resource(self) -> dict[str, Any]:
        """The Parameters resource of the kick-off by POST."""
        parameters = [{"name": name, **_typed(name, value)} for name, value in self._pairs()]
        return {"resourceType": "Parameters", "parameter": parameters}

    @property
    def told(self) -> dict[str, str]:
        """The parameters as the export log tells them."""
        told: dict[str, str] = {}
        for name, value in self._pairs():
            told[name] = f"{told[name]},{value}" if name in told else value
        return told

    def without(self, *parameters: Parameter) -> Asked:
        """The same, less those parameters."""
        kept = {name: value for name, value in self.values.items() if name not in parameters}
        return replace(self, values=kept)

    def _pairs(self) -> Iterator[tuple[Name, str]]:
        if self.format:
            yield "_outputFormat", self.format
        for name, values in self.values.items():
            if name == "_typeFilter":
                yield from self._filters(values)
            elif name in LISTS and not self.repeated and self.profile.lists == "comma":
                yield name, ",".join(values)
            else:
                yield from ((name, value) for value in values)

    def _filters(self, filters: tuple[str, ...]) -> Iterator[tuple[Name, str]]:
        if self.profile.filter_commas == "percent" and not self.repeated:
            filters = tuple(search.replace(",", "%2C") for search in filters)
        if self.profile.filters == "comma" and not self.repeated:
            filters = (",".join(filters),)
        yield from (("_typeFilter", search) for search in filters)


def asked_of(request: ExportRequest, profile: Profile, *, repeated: bool) -> Asked:
    """What `request` asks for, before the server has its say."""
    values: dict[Parameter, tuple[str, ...]] = {
        "_type": request.types,
        "_since": () if request.since is None else (request.since.isoformat(),),
        "_until": () if request.until is None else (request.until.isoformat(),),
        "_typeFilter": request.type_filters,
        "_elements": request.elements,
        "patient": tuple(f"Patient/{patient}" for patient in request.patients),
        "includeAssociatedData": request.associated_data,
        "organizeOutputBy": tuple(filter(None, [request.organize_by])),
        "allowPartialManifests": ("true",) if request.partial_manifests else (),
    }
    given = {name: value for name, value in values.items() if value}
    return Asked(request.url, given, profile, repeated)


def _typed(name: Name, value: str) -> dict[str, Any]:
    if name == "patient":
        return {"valueReference": {"reference": value}}
    if name in ("_since", "_until"):
        return {"valueInstant": value}
    if name == "allowPartialManifests":
        return {"valueBoolean": value == "true"}
    return {"valueString": value}
