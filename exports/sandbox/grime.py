"""The rest of what makes a chart as dirty as real data: units, times, codings, and loose talk.

Unlike `dirt`, nothing comes again or is voided here: resources of the chart are changed in place,
with draws of their own, and what identifies somebody is recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from html import escape
from random import Random
from typing import Final

from exports.sandbox.elements import LOCAL, Resource, coding
from exports.sandbox.filing import planted
from exports.sandbox.note_fields import PHONES
from exports.sandbox.particulars import Particulars
from exports.sandbox.people import Person
from exports.sandbox.truth import Letter, PlantedIdentifier

Leaves = list[tuple[Letter, str, str]]
Stain = Callable[[Random, Person, Particulars, Resource], Leaves]

XHTML: Final = 'xmlns="http://www.w3.org/1999/xhtml"'
SENTINELS: Final = ("1900-01-01", "1901-01-01", "1970-01-01")
"""What systems write for a date that nobody knows."""


def begrime(
    rng: Random, person: Person, particulars: Particulars, chart: list[Resource]
) -> list[PlantedIdentifier]:
    """Stain some resources of a chart, at most once each; the identifiers that came with it."""
    found: list[PlantedIdentifier] = []
    for resource in chart:
        draw = rng.random()
        for rate, stain in STAINS.get(resource["resourceType"], ()):
            draw -= rate
            if draw < 0:
                leaves = stain(rng, person, particulars, resource)
                found += planted(person, resource, leaves)
                break
    return found


def _without_unit(rng: Random, person: Person, has: Particulars, observation: Resource) -> Leaves:
    for name in ("unit", "system", "code"):
        observation.get("valueQuantity", {}).pop(name, None)
    return []


def _unit_as_text(rng: Random, person: Person, has: Particulars, observation: Resource) -> Leaves:
    result = observation.get("valueQuantity", {})
    for name in ("system", "code"):
        result.pop(name, None)
    if "unit" in result:
        result["unit"] = rng.choice([result["unit"].lower(), result["unit"].replace("/", " per ")])
    return []


def _result_as_text(rng: Random, person: Person, has: Particulars, observation: Resource) -> Leaves:
    result = observation.pop("valueQuantity", None)
    if result is None:
        return []
    observation["valueString"] = f"<{result['value']} {result.get('unit', '')}".strip()
    return []


def _result_as_talk(rng: Random, person: Person, has: Particulars, observation: Resource) -> Leaves:
    if observation.pop("valueQuantity", None) is None:
        return []
    phone = _phone(rng, has.relatives[0].phone)
    observation["valueString"] = f"hemolyzed, {has.relatives[0].name} told at {phone}"
    return [("A", "valueString", has.relatives[0].name), ("D", "valueString", phone)]


def _own_code_too(rng: Random, person: Person, has: Particulars, observation: Resource) -> Leaves:
    published = observation["code"]["coding"][0]
    # The hospital's dictionary numbers its tests; no other text holds these codes.
    own = coding(LOCAL, f"LB-{sum(map(ord, published['code'])) % 900 + 100}")
    observation["code"] = {
        **observation["code"],
        "coding": rng.choice([[published, own], [own, published]]),
        "text": published.get("display", ""),
    }
    return []


def _issued_in_utc(rng: Random, person: Person, has: Particulars, observation: Resource) -> Leaves:
    issued = datetime.fromisoformat(observation["issued"]).astimezone(UTC)
    observation["issued"] = issued.strftime("%Y-%m-%dT%H:%M:%SZ")
    return []


def _noted(rng: Random, person: Person, has: Particulars, resource: Resource) -> Leaves:
    relative = has.relatives[1]
    phone = _phone(rng, relative.phone)
    text = f"{relative.word} {relative.name} asked to be called back: {phone}; MRN {person.mrn}"
    resource.setdefault("note", []).append({"text": text})
    where = f"note[{len(resource['note']) - 1}].text"
    return [("A", where, relative.name), ("D", where, phone), ("H", where, person.mrn)]


def _narrated(rng: Random, person: Person, has: Particulars, resource: Resource) -> Leaves:
    name = escape(f"{person.family}, {person.given}", quote=False)
    resource["text"] = {
        "status": "generated",
        "div": f"<div {XHTML}><b>{name}</b> ({person.birth_date}), {person.line}<br/></div>",
    }
    return [
        ("A", "text.div", f"{person.family}, {person.given}"),
        ("C", "text.div", person.birth_date),
        ("B", "text.div", person.line),
    ]


def _meter(rng: Random, person: Person, has: Particulars, observation: Resource) -> Leaves:
    serial = f"GM{rng.randrange(3 * 10**9, 10**10)}"
    observation["device"] = {"display": f"Meter {serial}"}
    return [("M", "device.display", serial)]


def _unknown_field(rng: Random, person: Person, has: Particulars, resource: Resource) -> Leaves:
    resource["ehrInternal"] = {"guarantorAccount": has.account, "seenFrom": has.address}
    return [
        ("J", "ehrInternal.guarantorAccount", has.account),
        ("O", "ehrInternal.seenFrom", has.address),
    ]


def _accident(rng: Random, person: Person, has: Particulars, condition: Resource) -> Leaves:
    text = f"after an accident as driver of {has.vin}, plate {has.plate}"
    condition.setdefault("note", []).append({"text": text})
    return [("L", "note[0].text", has.vin), ("L", "note[0].text", has.plate)]


def _text_of_code(rng: Random, person: Person, has: Particulars, condition: Resource) -> Leaves:
    display = condition["code"]["coding"][0].get("display", "")
    text = f"{display}, as {has.relatives[0].name} reports"
    condition["code"] = {**condition["code"], "text": text}
    return [("A", "code.text", has.relatives[0].name)]


def _sentinel_onset(rng: Random, person: Person, has: Particulars, condition: Resource) -> Leaves:
    condition["onsetDateTime"] = rng.choice(SENTINELS)
    return []


def _never_over(rng: Random, person: Person, has: Particulars, condition: Resource) -> Leaves:
    condition["abatementDateTime"] = "9999-12-31"
    return []


def _instruction(rng: Random, person: Person, has: Particulars, order: Resource) -> Leaves:
    phone, email = _phone(rng, person.phone), person.email
    order["dosageInstruction"] = [
        {"patientInstruction": f"{person.given}: one a day. Refills: {phone}, {email}"}
    ]
    where = "dosageInstruction[0].patientInstruction"
    return [("A", where, person.given), ("D", where, phone), ("F", where, email)]


def _destination(rng: Random, person: Person, has: Particulars, stay: Resource) -> Leaves:
    display = f"home of {has.relatives[1].name}, {person.line}, {person.city} {person.zip}"
    # A copy: encounters of a visit may share what their hospitalization says.
    stay["hospitalization"] = {
        **stay.get("hospitalization", {}),
        "destination": {"display": display},
    }
    where = "hospitalization.destination.display"
    return [
        ("A", where, has.relatives[1].name),
        ("B", where, person.line),
        ("B", where, person.city),
        ("B", where, person.zip),
    ]


def _appointment(rng: Random, person: Person, has: Particulars, stay: Resource) -> Leaves:
    phone = _phone(rng, person.phone)
    stay["appointment"] = [{"display": f"reminder to {phone}, {has.portal}"}]
    where = "appointment[0].display"
    return [("D", where, phone), ("N", where, has.portal)]


def _implanted(rng: Random, person: Person, has: Particulars, procedure: Resource) -> Leaves:
    serial = f"IM{rng.randrange(3 * 10**9, 10**10)}"
    procedure["focalDevice"] = [{"manipulated": {"display": f"serial no. {serial}"}}]
    return [("M", "focalDevice[0].manipulated.display", serial)]


def _signed_for(rng: Random, person: Person, has: Particulars, procedure: Resource) -> Leaves:
    text = f"consent by {has.relatives[0].name}, license {has.licence}, {has.voiceprint}"
    procedure.setdefault("note", []).append({"text": text})
    where = f"note[{len(procedure['note']) - 1}].text"
    return [
        ("A", where, has.relatives[0].name),
        ("K", where, has.licence),
        ("P", where, has.voiceprint),
    ]


def _phone(rng: Random, number: str) -> str:
    return rng.choice(PHONES).format(*number.split("-"))


STAINS: Final[dict[str, tuple[tuple[float, Stain], ...]]] = {
    "Observation": (
        (0.003, _without_unit),
        (0.003, _unit_as_text),
        (0.002, _result_as_text),
        (0.001, _result_as_talk),
        (0.010, _own_code_too),
        (0.005, _issued_in_utc),
        (0.003, _noted),
        (0.003, _narrated),
        (0.002, _meter),
        (0.002, _unknown_field),
    ),
    "Condition": (
        (0.02, _narrated),
        (0.02, _noted),
        (0.01, _accident),
        (0.01, _text_of_code),
        (0.008, _sentinel_onset),
        (0.01, _never_over),
    ),
    "MedicationRequest": ((0.01, _instruction), (0.01, _noted)),
    "Encounter": ((0.02, _destination), (0.02, _appointment)),
    "Procedure": ((0.05, _implanted), (0.05, _signed_for)),
}
"""By type: the share of resources that get each stain."""
