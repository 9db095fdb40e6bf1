"""What the templates of notes are filled with: values, and the class of those that identify.

Dates, telephone numbers and ages are written in the ways that people write them.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from random import Random
from typing import Final

from exports.sandbox.clock import DAY, YEAR, utc_offset
from exports.sandbox.filing import Contact
from exports.sandbox.particulars import Particulars
from exports.sandbox.people import Person
from exports.sandbox.staff import Staff
from exports.sandbox.truth import Letter

Field = tuple[Letter | None, str]
"""The class of 45 CFR 164.514(b)(2)(i), or None for what identifies nobody, and the text."""
OLD: Final = 90
DATES: Final[tuple[str, ...]] = (
    "%Y-%m-%d",
    "%m/%d/%Y",
    "{month}/{day}/%y",
    "%B {day}, %Y",
    "%b {day} %Y",
    "%d-%b-%Y",
    "{day} %B %Y",
    "%m.%d.%Y",
    "%A, %B {day}, %Y",
    "%m/%d",
    "%Y%m%d",
)
PHONES: Final = ("{}-{}-{}", "({}) {}-{}", "{}.{}.{}", "+1 {} {} {}", "{} {}-{}")
AGES: Final = ("{}-year-old", "{} y/o", "{} year old", "{}yo")


def note_fields(
    rng: Random, person: Person, particulars: Particulars, contact: Contact, at: int, staff: Staff
) -> dict[str, Callable[[], Field]]:
    """The fields of a note of that moment, each made when it is asked for."""
    visit, booking = contact.visit, contact.bookings[0]
    relative, household = particulars.relatives
    attending = booking.attending.name.removesuffix(", MD")
    male = person.male

    def choose(values: tuple[str, ...]) -> str:
        return rng.choice(values)

    def date(moment: int) -> Field:
        return "C", written_date(moment, choose(DATES))

    def phone(number: str) -> str:
        return choose(PHONES).format(*number.split("-"))

    def age() -> Field:
        years = int((at - person.born) / YEAR)
        return "C" if years >= OLD else None, choose(AGES).format(years)

    def colleague() -> str:
        return rng.choice(staff.practitioners).name.removesuffix(", MD")

    history = ", ".join(disease.display for disease in visit.present[:4])
    return {
        "name": lambda: ("A", person.name),
        "name_rev": lambda: ("A", f"{person.family}, {person.given} {person.middle[0]}."),
        "NAME": lambda: ("A", f"{person.family}, {person.given}".upper()),
        "family": lambda: ("A", person.family),
        "given": lambda: ("A", person.given),
        "relative": lambda: ("A", relative.name),
        "relative_given": lambda: ("A", relative.given),
        "household": lambda: ("A", household.name),
        "employer": lambda: ("A", particulars.employer),
        "attending": lambda: ("A", attending),
        "colleague": lambda: ("A", colleague()),
        "colleague_family": lambda: ("A", colleague().split(" ", 1)[1]),
        "nurse": lambda: ("A", _initialled(colleague())),
        "line": lambda: ("B", person.line),
        "city": lambda: ("B", person.city),
        "zip": lambda: ("B", person.zip if rng.random() < 0.8 else f"{person.zip}-{_four(rng)}"),
        "born": lambda: date(person.born),
        "admitted": lambda: date(visit.start),
        "seen": lambda: date(at),
        "earlier": lambda: date(at - rng.randrange(3, 300) * DAY),
        "next": lambda: date(at + rng.randrange(3, 60) * DAY),
        "month": lambda: ("C", written_date(at - rng.randrange(90, 900) * DAY, "%B %Y")),
        "age": age,
        "phone": lambda: ("D", phone(person.phone)),
        "relative_phone": lambda: ("D", phone(relative.phone)),
        "employer_phone": lambda: ("D", phone(particulars.employer_phone)),
        "fax": lambda: ("E", phone(person.fax)),
        "email": lambda: ("F", person.email),
        "ssn": lambda: ("G", person.ssn.replace("-", choose(("-", " ", "")))),
        "mrn": lambda: ("H", person.mrn if rng.random() < 0.8 else f"00{person.mrn}"),
        "member": lambda: ("I", person.member),
        "group": lambda: ("I", particulars.group),
        "visit": lambda: ("J", booking.visit_number),
        "account": lambda: ("J", particulars.account),
        "licence": lambda: ("K", particulars.licence),
        "passport": lambda: ("K", particulars.passport),
        "vin": lambda: ("L", particulars.vin),
        "plate": lambda: ("L", particulars.plate),
        "serial": lambda: ("M", f"SN{rng.randrange(3 * 10**9, 10**10)}"),
        "portal": lambda: ("N", particulars.portal),
        "address": lambda: ("O", particulars.address),
        "voiceprint": lambda: ("P", particulars.voiceprint),
        "photo_url": lambda: ("Q", particulars.photo_url),
        "study": lambda: ("R", particulars.study),
        "accession": lambda: ("R", f"S{rng.randrange(10**11, 10**12)}"),
        "state": lambda: (None, person.state),
        "hospital": lambda: (None, booking.organization.name),
        "reason": lambda: (None, visit.reason.display),
        "history": lambda: (None, f"History of {history}." if history else "No history."),
        "word": lambda: (None, relative.word),
        "household_word": lambda: (None, household.word),
        "sex": lambda: (None, "man" if male else "woman"),
        "title": lambda: (None, "Mr." if male else "Ms."),
        "he": lambda: (None, "he" if male else "she"),
        "He": lambda: (None, "He" if male else "She"),
        "his": lambda: (None, "his" if male else "her"),
        "His": lambda: (None, "His" if male else "Her"),
        "him": lambda: (None, "him" if male else "her"),
    }


def written_date(at: int, style: str) -> str:
    """A day on the hospital's calendar in a style of `DATES`."""
    day = datetime.fromtimestamp(at + utc_offset(at), UTC)
    return day.strftime(style.format(month=day.month, day=day.day))


def _initialled(name: str) -> str:
    given, family = name.split(" ", 1)
    return f"{given[0]}. {family}"


def _four(rng: Random) -> str:
    return f"{rng.randrange(1000, 10_000)}"
