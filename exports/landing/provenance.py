"""Where each landed file came from: one FHIR Provenance a file, beside the sealed zone.

The records name URLs and times, so they stand outside of the zone's digest, in
`phi/provenance/<the zone's folder>.ndjson`. Source: FHIR R4, Provenance; RFC 6920 for hashes as
names (`nih:sha-256;...`).
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import orjson

from exports.durable import write_durably
from exports.sealed import hash_json

if TYPE_CHECKING:
    from exports.landing.zone import LandingZone

URI: Final = "urn:ietf:rfc:3986"
TERMINOLOGY: Final = "http://terminology.hl7.org/CodeSystem"


def write_provenance(phi: Path, zone: LandingZone, origins: Mapping[str, str]) -> Path:
    """Record the origin of each landed file, unless this zone's have been recorded before.

    `origins` maps a landed file's name to its URL, whose query (a signature) is left out, or to
    its name in the folder that was landed. A file of which nothing was kept has no record.
    """
    path = phi / "provenance" / f"{zone.sealed.path.name}.ndjson"
    if path.is_file():
        return path
    # One file may have several types; it came once.
    delivered = {file.name: file.sha256 for file in zone.files}
    recorded, maker = datetime.now().astimezone(), f"fhirloom {version('fhirloom')}"
    records = (
        _record(zone, name, delivered[name], stands, origins.get(name, name), recorded, maker)
        for name, stands in zone.standing().items()
    )
    lines = [orjson.dumps(record) for record in records]
    write_durably(path, b"".join(line + b"\n" for line in lines))
    return path


def _record(
    zone: LandingZone,
    name: str,
    sha256: str,
    standing: Mapping[str, str],
    origin: str,
    recorded: datetime,
    maker: str,
) -> dict[str, Any]:
    time = zone.transaction_time
    occurred = {} if time is None else {"occurredDateTime": time.isoformat()}
    return {
        "resourceType": "Provenance",
        "id": hash_json([zone.sealed.digest, name]),
        "target": [_named(digest, path) for path, digest in standing.items()],
        **occurred,
        "recorded": recorded.isoformat(timespec="milliseconds"),
        "activity": {"coding": [{"system": f"{TERMINOLOGY}/v3-DataOperation", "code": "CREATE"}]},
        "agent": [
            {
                "type": {
                    "coding": [
                        {
                            "system": f"{TERMINOLOGY}/provenance-participant-type",
                            "code": "assembler",
                        }
                    ]
                },
                "who": {"type": "Device", "display": maker},
            }
        ],
        "entity": [
            {
                "role": "source",
                "what": {
                    "identifier": {"system": URI, "value": _without_query(origin)},
                    "display": f"as delivered: nih:sha-256;{sha256}",
                },
            }
        ],
    }


def _named(sha256: str, path: str) -> dict[str, Any]:
    identifier = {"system": URI, "value": f"nih:sha-256;{sha256}"}
    return {"identifier": identifier, "display": path}


def _without_query(origin: str) -> str:
    if not origin.lower().startswith(("http://", "https://")):
        return origin
    parts = urlsplit(origin)
    host = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=host, query="", fragment="").geturl()
