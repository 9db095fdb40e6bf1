"""The FHIR R4 datatypes that the hospital writes again and again."""

from __future__ import annotations

from random import Random
from typing import Any, Final

Resource = dict[str, Any]

BASE: Final = "https://ehr.example.org/fhir"
LOINC: Final = "http://loinc.org"
LOCAL: Final = "https://ehr.example.org/codes"
ICD_10_CM: Final = "http://hl7.org/fhir/sid/icd-10-cm"
ICD_10_PCS: Final = "http://www.cms.gov/Medicare/Coding/ICD10"
RXNORM: Final = "http://www.nlm.nih.gov/research/umls/rxnorm"
UCUM: Final = "http://unitsofmeasure.org"
TERMINOLOGY: Final = "http://terminology.hl7.org/CodeSystem/"
US_CORE: Final = "http://hl7.org/fhir/us/core/StructureDefinition/"


def new_id(rng: Random) -> str:
    """An opaque id that looks like a UUID, lower case."""
    digits = f"{rng.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def coding(system: str, code: str, display: str = "") -> dict[str, str]:
    """A Coding, without display where none is given."""
    read = {"system": system, "code": code}
    return {**read, "display": display} if display else read


def concept(system: str, code: str, display: str = "") -> Resource:
    """A CodeableConcept of one coding."""
    return {"coding": [coding(system, code, display)]}


def reference(kind: str, identity: str, display: str = "") -> dict[str, str]:
    """A relative Reference."""
    read = {"reference": f"{kind}/{identity}"}
    return {**read, "display": display} if display else read


def quantity(value: float, unit: str) -> Resource:
    """A UCUM Quantity."""
    return {"value": value, "unit": unit, "system": UCUM, "code": unit}
