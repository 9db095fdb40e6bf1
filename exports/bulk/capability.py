"""What a server says that it can do: its CapabilityStatement, read for an export.

Sources: FHIR R4, CapabilityStatement; Bulk Data Access, "Server Capability Documentation". Many
statements are incomplete, so what is not told is unknown, and never taken for a no.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import orjson

from exports.connection.session import Session
from exports.connection.transport import Patience
from exports.errors import FhirloomError
from exports.request import Level

BRIEFLY: Final = Patience(retries=1, first_wait=0.2, longest_wait=1.0)
EDITION: Final = re.compile(r"/(?:uv|us)/bulkdata/.*\|(\d)\.\d")
WITH_TOKEN_ONLY: Final = frozenset({401, 403})
LEVELS: Final[Mapping[str, Level]] = {"Patient": "patient", "Group": "group"}
DEFINED: Final[Mapping[str, Level]] = {
    "/patient-export": "patient",
    "/group-export": "group",
    "/export": "system",
}


@dataclass(frozen=True)
class Capability:
    """One server, as far as it tells.

    `software` and `version` are its own name and release; `identity` is all that may name its
    vendor, in lower case. `bulk_version` is STU1 to STU4, or "". `levels` is None where no export
    is mentioned. `search_parameters` are the names by resource type.
    """

    software: str = ""
    version: str = ""
    released: str = ""
    identity: str = ""
    fhir_version: str = ""
    bulk_version: str = ""
    levels: frozenset[Level] | None = None
    search_parameters: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @property
    def post_only(self) -> bool:
        """Whether the edition has no kick-off by GET: STU4 took it out."""
        return self.bulk_version == "STU4"


UNKNOWN: Final = Capability()
"""A server that tells nothing."""


def read_capability(session: Session, base: str) -> Capability:
    """The server's CapabilityStatement; `UNKNOWN` where it has none, or none that can be read.

    It is asked for without a token first: most servers show it to everybody, and a token may
    need scopes that only the statement tells.
    """
    for with_token in (False, True):
        with suppress(FhirloomError, orjson.JSONDecodeError, httpx.RequestError):
            with session.stream(
                "GET",
                f"{base}/metadata",
                what="the CapabilityStatement",
                headers={"Accept": "application/fhir+json"},
                with_token=with_token,
                answers=WITH_TOKEN_ONLY,
                patience=BRIEFLY,
            ) as response:
                body = response.read()
            if response.is_success:
                return capability_of(orjson.loads(body))
            continue
        break
    return UNKNOWN


def capability_of(statement: Any) -> Capability:
    """What a parsed CapabilityStatement says, whatever else it is."""
    if not isinstance(statement, dict):
        return UNKNOWN
    software = _object(statement.get("software"))
    implementation = _object(statement.get("implementation"))
    rests = [_object(rest) for rest in _list(statement.get("rest"))]
    resources = [_object(entry) for rest in rests for entry in _list(rest.get("resource"))]
    levels = frozenset(_levels(rests, resources))
    names = (software.get("name"), statement.get("publisher"), statement.get("name"))
    described = (implementation.get("description"), statement.get("title"))
    return Capability(
        software=_text(software.get("name")),
        version=_text(software.get("version")),
        released=_text(software.get("releaseDate")),
        identity=" / ".join(_text(part) for part in (*names, *described)).lower(),
        fhir_version=_text(statement.get("fhirVersion")),
        bulk_version=_edition(statement, rests, resources),
        levels=levels or None,
        search_parameters={
            _text(resource.get("type")): frozenset(
                _text(_object(parameter).get("name"))
                for parameter in _list(resource.get("searchParam"))
            )
            for resource in resources
        },
    )


def _levels(rests: list[dict[str, Any]], resources: list[dict[str, Any]]) -> Iterator[Level]:
    for holder in (*rests, *resources):
        for operation in map(_object, _list(holder.get("operation"))):
            name = _text(operation.get("name")).lstrip("$")
            definition = "/" + _text(operation.get("definition")).partition("|")[0]
            if name not in ("export", "patient-export", "group-export"):
                continue
            told = [level for end, level in DEFINED.items() if definition.endswith(end)]
            yield LEVELS.get(_text(holder.get("type"))) or (told[0] if told else "system")


def _edition(
    statement: Mapping[str, Any], rests: list[dict[str, Any]], resources: list[dict[str, Any]]
) -> str:
    canonicals = [
        *_list(statement.get("instantiates")),
        *_list(statement.get("implementationGuide")),
        *(
            _object(operation).get("definition")
            for holder in (*rests, *resources)
            for operation in _list(holder.get("operation"))
        ),
    ]
    told = [found[1] for text in map(_text, canonicals) if (found := EDITION.search(text))]
    return f"STU{max(told)}" if told and "1" <= max(told) <= "4" else ""


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
