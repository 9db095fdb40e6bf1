"""What the sandbox server tells of itself: its SMART configuration and its CapabilityStatement.

Source: SMART App Launch 2.2, "Discovery"; FHIR R4, CapabilityStatement; FHIR Bulk Data Access,
"Server Capability Documentation".
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from exports.sandbox.manner import RELEASES, Manner
from exports.sandbox.queries import DATES, REFERENCES, known_parameters
from exports.sandbox.smart_server import ALGORITHMS, SCOPES

BULK: Final = "http://hl7.org/fhir/uv/bulkdata"


def smart_configuration(root: str) -> dict[str, Any]:
    """Where tokens are had, and for which proofs and scopes."""
    return {
        "token_endpoint": f"{root}/token",
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": list(ALGORITHMS),
        "scopes_supported": list(SCOPES),
        "capabilities": ["client-confidential-asymmetric", "permission-v1", "permission-v2"],
    }


def capability_statement(
    root: str, manner: Manner, date: datetime, types: Iterable[str]
) -> dict[str, Any]:
    """What can be searched, what can be exported, and by which release of the specification."""
    resources = [_resource(name, manner) for name in sorted({"Group", "Patient", *types})]
    rest: dict[str, Any] = {"mode": "server", "resource": resources}
    statement = {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": date.isoformat(),
        "kind": "instance",
        "software": {"name": "fhirloom sandbox EHR"},
        "implementation": {"description": "Synthetic data", "url": f"{root}/fhir"},
        "fhirVersion": "4.0.1",
        "format": ["json"],
        "rest": [rest],
    }
    if manner.exports:
        release = RELEASES[manner.version]
        statement["instantiates"] = [f"{BULK}/CapabilityStatement/bulk-data|{release}"]
        rest["operation"] = [_operation("export")]
    return statement


def _resource(resource_type: str, manner: Manner) -> dict[str, Any]:
    told: dict[str, Any] = {
        "type": resource_type,
        "interaction": [{"code": "read"}, {"code": "search-type"}],
        "searchParam": [
            {"name": name, "type": _kind(name)} for name in known_parameters(resource_type)
        ],
    }
    if manner.exports and resource_type in ("Patient", "Group"):
        told["operation"] = [_operation(f"{resource_type.lower()}-export")]
    return told


def _operation(name: str) -> dict[str, str]:
    return {"name": "export", "definition": f"{BULK}/OperationDefinition/{name}"}


def _kind(name: str) -> str:
    if name in DATES:
        return "date"
    return "reference" if name in REFERENCES else "token"
