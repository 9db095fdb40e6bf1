"""What the records themselves tell of a patient, to be found in the patient's notes.

Names come from where FHIR keeps them, with the order of their parts; all else from the same walk
over every leaf as the leak scan's (`deid.proofs.identifiers`). What belongs to nobody in particular
(practitioners, organizations) is known for everyone's notes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from deid.notes.shadow import squeezed
from deid.proofs.identifiers import SHORTEST, of_resource

PATIENT, RELATIVE, CLINICIAN, ORGANIZATION = (
    "PATIENT",
    "RELATIVE",
    "KNOWN_CLINICIAN",
    "ORGANIZATION",
)
NAMED: Final = frozenset({PATIENT, RELATIVE, CLINICIAN})
TYPES: Final = (
    "Account",
    "Appointment",
    "CareTeam",
    "Coverage",
    "Device",
    "Encounter",
    "EpisodeOfCare",
    "Location",
    "Organization",
    "Patient",
    "Person",
    "Practitioner",
    "PractitionerRole",
    "RelatedPerson",
)
"""Resource types that are read for what is known, besides those that hold the notes."""
_OF_LETTER: Final = {
    "D": "PHONE", "E": "PHONE", "F": "EMAIL", "G": "SSN", "H": "MRN", "I": "PLAN", "J": "ACCOUNT",
    "K": "LICENSE", "L": "VEHICLE", "M": "DEVICE", "N": "URL", "O": "IP", "R": "ID",
}  # fmt: skip
_OF_ITS_OWN: Final = frozenset({"Patient", "RelatedPerson", "Person"})
"""Types whose dates and places tell of a person, not of an event."""
_UUID: Final = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_DIGIT: Final = re.compile(r"\d")
_TITLE: Final = re.compile(
    r"\b(?:Dr|Mr|Mrs|Ms|Prof|M\.?D|D\.?O|R\.?N|N\.?P|Ph\.?D|PA-C|Jr|Sr|II|III|IV)\b\.?,?",
    re.IGNORECASE,
)
_OF_TYPE: Final = {
    "Organization": ORGANIZATION,
    "Location": ORGANIZATION,
    "RelatedPerson": RELATIVE,
    "Patient": PATIENT,
}
_DISPLAYED: Final = (
    ("subject", PATIENT),
    ("patient", PATIENT),
    ("generalPractitioner", CLINICIAN),
    ("author", CLINICIAN),
    ("authenticator", CLINICIAN),
    ("performer", CLINICIAN),
    ("resultsInterpreter", CLINICIAN),
    ("custodian", ORGANIZATION),
    ("managingOrganization", ORGANIZATION),
    ("serviceProvider", ORGANIZATION),
)


@dataclass(frozen=True, slots=True)
class Known:
    """One identifier: whose (empty: everyone's notes), which entity it is, and the value.

    Of a name, `value` is the given names, a tab, and the family name.
    """

    patient_id: str
    entity: str
    value: str


def known_of(resource: dict[str, Any]) -> Iterator[Known]:
    """What one resource tells."""
    kind = str(resource["resourceType"])
    found = of_resource(resource)
    patient_id = found[0].patient_id if found else ""
    yield from _names(resource, kind, patient_id)
    for identifier in found:
        if identifier.patient_id != patient_id:  # a word of its narrative
            continue
        own = kind in _OF_ITS_OWN
        if identifier.letter == "B" and (own or not patient_id):
            yield Known(patient_id, _place(identifier.value), identifier.value)
        elif identifier.letter == "C" and own:
            yield Known(patient_id, "DATE", identifier.value)
        elif (entity := _OF_LETTER.get(identifier.letter)) and _tells(identifier.value, entity):
            yield Known(
                patient_id, "EMAIL" if "@" in identifier.value else entity, identifier.value
            )


def _tells(value: str, entity: str) -> bool:
    """Whether a value can be looked for: it has a number in it, and it is no UUID (a pattern's)."""
    least = SHORTEST + 1 if entity == "ID" else SHORTEST
    numbered = len(squeezed(value)) >= least and bool(_DIGIT.search(value))
    return "@" in value or (numbered and not _UUID.fullmatch(value))


def _place(value: str) -> str:
    if re.fullmatch(r"\d{5}(-\d{4})?", value):
        return "ZIP"
    return "ADDRESS" if _DIGIT.search(value) else "PLACE"


def _names(resource: dict[str, Any], kind: str, patient_id: str) -> Iterator[Known]:
    if kind in ("Patient", "Person", "RelatedPerson", "Practitioner"):
        role = {"Patient": PATIENT, "Practitioner": CLINICIAN}.get(kind, RELATIVE)
        owner = "" if kind == "Practitioner" else patient_id
        for name in _listed(resource.get("name")):
            yield from _human(owner, role, name)
    if kind == "Patient":
        for contact in _listed(resource.get("contact")):
            yield from _human(patient_id, RELATIVE, contact.get("name"))
    if kind in ("Organization", "Location"):
        for name in (resource.get("name"), *(resource.get("alias") or ())):
            if isinstance(name, str):
                yield Known("", ORGANIZATION, name)
    for key, role in _DISPLAYED:
        for reference in _listed(resource.get(key)):
            yield from _referred(patient_id, role, reference)
    for participant in _listed(resource.get("participant")):
        for key in ("individual", "actor", "member"):
            for reference in _listed(participant.get(key)):
                yield from _referred(patient_id, CLINICIAN, reference)


def _referred(patient_id: str, role: str, reference: dict[str, Any]) -> Iterator[Known]:
    """Whom a reference shows, by the type that it refers to; `role` where it tells none."""
    target = str(reference.get("reference") or "")
    kind = next((kind for kind in _OF_TYPE if f"{kind}/" in target), "")
    yield from _displayed(patient_id, _OF_TYPE.get(kind, role), reference.get("display"))


def _human(patient_id: str, role: str, name: Any) -> Iterator[Known]:
    """A HumanName by its parts, and by its text."""
    if not isinstance(name, dict):
        return
    given = [str(part) for part in name.get("given") or () if part]
    family = str(name.get("family") or "")
    if given or family:
        yield Known(patient_id, role, f"{' '.join(given)}\t{family}")
    if isinstance(name.get("text"), str):
        yield from _displayed(patient_id, role, name["text"])


def _displayed(patient_id: str, role: str, text: Any) -> Iterator[Known]:
    """A name written in one: `Given Family, MD` or `Family, Given`."""
    if not isinstance(text, str):
        return
    if role == ORGANIZATION:
        yield Known(patient_id, role, text)
        return
    bare = " ".join(_TITLE.sub(" ", text).split()).strip(" ,")
    family, comma, given = bare.partition(",")
    if not comma:
        given, _, family = bare.rpartition(" ")
    if family.strip():
        yield Known(patient_id, role, f"{given.strip()}\t{family.strip()}")


def _listed(value: Any) -> list[dict[str, Any]]:
    items = value if isinstance(value, list) else [value]
    return [item for item in items if isinstance(item, dict)]
