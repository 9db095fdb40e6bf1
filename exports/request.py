"""What to ask a FHIR server for.

Source: FHIR Bulk Data Access STU2, "Bulk Data Kick-off Request".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from exports.errors import FhirloomError
from exports.resource_types import RESOURCE_TYPES
from exports.sealed import hash_json

Level = Literal["system", "patient", "group"]
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
FHIR_ID = re.compile(r"[A-Za-z0-9.\-]{1,64}")


@dataclass(frozen=True)
class ExportRequest:
    """One `$export` of a server: all of it, all patients, or the patients of one group.

    `server` is the FHIR base URL; `types` the resource types (empty: all that the server has);
    `since` asks for what changed after it (with zone). `client_id` and `key` (PEM or JWK file of
    an RSA or P-384 private key) are those registered for SMART Backend Services; without a
    `client_id` the server is taken to be open. Raises `FhirloomError` (bad-input).
    """

    server: str
    level: Level = "system"
    group_id: str = ""
    types: tuple[str, ...] = ()
    since: datetime | None = None
    client_id: str = ""
    key: Path | None = None

    def __post_init__(self) -> None:
        parts = urlsplit(self.server)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise _unusable("The server isn't an http(s) URL", "server", "Give the FHIR base URL.")
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise _unusable("Plain http would show the records", "server", "Give an https URL.")
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
        if unknown := sorted(set(self.types) - RESOURCE_TYPES):
            raise _unusable(
                f"There is no resource type {unknown[0]}", "types", "Use the names of FHIR R4."
            )
        if self.since is not None and self.since.tzinfo is None:
            raise _unusable("A time without zone means nothing here", "since", "Add the zone.")
        if bool(self.client_id) != (self.key is not None):
            raise _unusable("Client id and key go together", "client id", "Give both, or neither.")

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
    def parameters(self) -> dict[str, str]:
        """The kick-off's parameters."""
        chosen = {"_outputFormat": "application/fhir+ndjson"}
        if self.types:
            chosen["_type"] = ",".join(self.types)
        if self.since is not None:
            chosen["_since"] = self.since.isoformat()
        return chosen

    @property
    def scope(self) -> dict[str, Any]:
        """What is asked for, whatever server it is asked of."""
        return {
            "level": self.level,
            "group_id": self.group_id,
            "types": sorted(self.types),
            "since": None if self.since is None else self.since.isoformat(),
        }

    @property
    def digest(self) -> str:
        """The hash that names this request's job: what, of which server, as which client."""
        return hash_json({**self.scope, "server": self.base, "client_id": self.client_id})


def _unusable(what: str, where: str, fix: str) -> FhirloomError:
    return FhirloomError("bad-input", what, where=where, fix=fix)
