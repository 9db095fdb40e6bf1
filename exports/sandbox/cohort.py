"""Whose record a resource belongs to, and which patients a group has."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import Final

from exports.sandbox.elements import Resource

OWNERS: Final = ("subject", "patient", "beneficiary", "individual", "who")


def patient_of(resource: Resource) -> str:
    """The id of the patient in whose compartment the resource is; "" where it is in none.

    References may be relative or absolute.
    """
    if resource["resourceType"] == "Patient":
        return str(resource["id"])
    for name in OWNERS:
        owner = resource.get(name)
        reference = owner.get("reference", "") if isinstance(owner, dict) else ""
        before, found, patient = reference.rpartition("Patient/")
        if found and (not before or before.endswith("/")):
            return str(patient.split("/")[0])
    return ""


def _in_half(patient: str) -> bool:
    return hashlib.sha256(patient.encode()).digest()[0] % 2 == 0


GROUPS: Final[Mapping[str, Callable[[str], bool]]] = {"all": lambda patient: True, "half": _in_half}
"""The groups by id, and which patients are members: everybody, or about every second one."""
