"""What is planned after a stay: CarePlans and their Goals."""

from __future__ import annotations

from html import escape
from typing import Final

from exports.sandbox.clock import DAY, HOUR, local, local_date
from exports.sandbox.elements import US_CORE, Resource, concept, new_id
from exports.sandbox.filing import Contact, Filing
from exports.sandbox.particulars import Particulars

PLANNED: Final = 0.22
"""Of finished stays."""
AIMS: Final = (
    "Weight below {kilos} kg",
    "Walk to the corner and back with {name}",
    "No smoking at home",
    "Take medicines as listed, {name} to help",
)


def plan(filing: Filing, contact: Contact, particulars: Particulars) -> None:
    """A CarePlan with its Goal for some stays."""
    rng, visit, person = filing.rng, contact.visit, filing.person
    if rng.random() >= PLANNED or visit.disposition == "exp":
        return
    relative = particulars.relatives[1]
    made = visit.end - rng.randrange(1, 20) * HOUR // 4
    aim = rng.choice(AIMS).format(kilos=rng.randrange(60, 110, 5), name=relative.given)
    goal: Resource = {
        "resourceType": "Goal",
        "id": new_id(rng),
        "lifecycleStatus": rng.choice(["active", "proposed", "accepted", "on-hold"]),
        "description": {"text": aim},
        "startDate": local_date(made),
        "target": [{"dueDate": local_date(made + rng.randrange(14, 180) * DAY)}],
    }
    care: Resource = {
        "resourceType": "CarePlan",
        "id": new_id(rng),
        "text": {
            "status": "additional",
            "div": '<div xmlns="http://www.w3.org/1999/xhtml"><p>Plan for '
            f"{escape(person.name, quote=False)}, to be called at {person.phone}; "
            f"{relative.word} {escape(relative.name, quote=False)} drives.</p></div>",
        },
        "status": rng.choice(["active", "completed", "on-hold"]),
        "intent": "plan",
        "category": [
            concept(
                US_CORE.replace("StructureDefinition", "CodeSystem") + "careplan-category",
                "assess-plan",
            )
        ],
        "period": {"start": local(made)},
        "goal": [filing.refer("Goal", goal["id"])],
    }
    known = made + rng.randrange(0, 3 * HOUR)
    if filing.add(goal, known, happens=made):
        named = relative.given in aim
        filing.plant(goal, [("A", "description.text", relative.given)] if named else [])
    if filing.add(care, known, happens=made, contact=contact):
        filing.plant(
            care,
            [
                ("A", "text.div", person.name),
                ("A", "text.div", relative.name),
                ("D", "text.div", person.phone),
            ],
        )
