"""What to ask a FHIR server for.

Source: FHIR Bulk Data Access STU2, "Bulk Data Kick-off Request".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlsplit

from exports.access import OPEN, Access
from exports.connection.origins import LOOPBACK
from exports.errors import FhirloomError
from exports.resource_types import RESOURCE_TYPES
from exports.sealed import hash_json

Level = Literal["system", "patient", "group"]
FHIR_ID = re.compile(r"[A-Za-z0-9.\-]{1,64}")
ELEMENT = re.compile(r"([A-Z][A-Za-z]+\.)?[a-z][A-Za-z]*")


@dataclass(frozen=True)
class ExportRequest:
    """One `$export` of a server: all of it, all patients, or the patients of one group.

    `server` is the FHIR base URL, `access` the way to it. The rest narrows what is asked for:
    `types` are resource types (empty: all that the server has); `since` and `until` bound
    `meta.lastUpdated` (with zone); `type_filters` are FHIR searches of one type each
    (`Observation?category=laboratory`); `elements` are `element` or `Type.element`; `patients`
    are ids, for a patient or group export. `associated_data`, `organize_by` and
    `partial_manifests` are passed on to servers that know them. Raises `FhirloomError` (bad-input).
    """

    server: str
    access: Access = OPEN
    level: Level = "system"
    group_id: str = ""
    types: tuple[str, ...] = ()
    since: datetime | None = None
    until: datetime | None = None
    type_filters: tuple[str, ...] = ()
    elements: tuple[str, ...] = ()
    patients: tuple[str, ...] = ()
    associated_data: tuple[str, ...] = ()
    organize_by: str = ""
    partial_manifests: bool = False

    def __post_init__(self) -> None:
        parts = urlsplit(self.server)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise _unusable("The server isn't an http(s) URL", "server", "Give the FHIR base URL.")
        in_clear = parts.scheme == "http" and parts.hostname not in LOOPBACK
        if in_clear and not self.access.plain_http:
            raise _unusable(
                "Plain http would show the records",
                "server",
                "Give an https URL, or allow it with --plain-http where the network is yours.",
            )
        if parts.username or parts.query or parts.fragment:
            raise _unusable(
                "The server's URL has more than a path", "server", "Give the FHIR base URL alone."
            )
        if (self.level == "group") != bool(self.group_id):
            raise _unusable(
                "A group's id goes with a group export", "group", "Give both, or neither."
            )
        if self.group_id and not FHIR_ID.fullmatch(self.group_id):
            raise _unusable(
                "The group's id isn't a FHIR id", "group", "Give the logical id of a Group."
            )
        named = {*self.types, *filter(None, [self.organize_by])}
        if unknown := sorted(named - RESOURCE_TYPES):
            raise _unusable(
                f"There is no resource type {unknown[0]}", "types", "Use the names of FHIR R4."
            )
        for time, where in ((self.since, "since"), (self.until, "until")):
            if time is not None and time.tzinfo is None:
                raise _unusable("A time without zone means nothing here", where, "Add the zone.")
        for search in self.type_filters:
            if search.partition("?")[0] not in RESOURCE_TYPES or "=" not in search:
                raise _unusable(
                    "A type filter isn't a search of one type",
                    "type filter",
                    "Write it like Observation?category=laboratory.",
                )
        if not all(ELEMENT.fullmatch(element) for element in self.elements):
            raise _unusable(
                "An element isn't a name", "elements", "Write `status` or `Observation.status`."
            )
        if not all(FHIR_ID.fullmatch(patient) for patient in self.patients):
            raise _unusable("A patient's id isn't a FHIR id", "patients", "Give logical ids.")
        if self.patients and self.level == "system":
            raise _unusable(
                "A system export can't be narrowed to patients",
                "patients",
                "Ask for a patient or a group export.",
            )

    @property
    def base(self) -> str:
        """The FHIR base URL without a slash at its end."""
        return self.server.rstrip("/")

    @property
    def url(self) -> str:
        """The kick-off URL, without parameters."""
        path = {"system": "", "patient": "/Patient", "group": f"/Group/{self.group_id}"}
        return f"{self.base}{path[self.level]}/$export"

    @property
    def scope(self) -> dict[str, Any]:
        """What is asked for, whatever server it is asked of."""
        return {
            "level": self.level,
            "group_id": self.group_id,
            "types": sorted(self.types),
            "since": None if self.since is None else self.since.isoformat(),
            "until": None if self.until is None else self.until.isoformat(),
            "type_filters": sorted(self.type_filters),
            "elements": sorted(self.elements),
            "patients": sorted(self.patients),
            "associated_data": sorted(self.associated_data),
            "organize_by": self.organize_by,
        }

    @property
    def digest(self) -> str:
        """The hash that names this request's job: what, of which server, as which client."""
        return hash_json({**self.scope, "server": self.base, "client_id": self.access.principal})


def _unusable(what: str, where: str, fix: str) -> FhirloomError:
    return FhirloomError("bad-input", what, where=where, fix=fix)
