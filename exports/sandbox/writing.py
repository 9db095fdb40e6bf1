"""Notes of many kinds, as plain text, HTML or RTF, and which identifiers each gives away."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import Any, Final, Literal

from exports.sandbox.catalog import DATA
from exports.sandbox.clock import HOUR, MINUTE, local
from exports.sandbox.course import Setting
from exports.sandbox.elements import LOINC, TERMINOLOGY, US_CORE, Resource, concept, new_id
from exports.sandbox.filing import Contact, Filing
from exports.sandbox.note_fields import Field, note_fields
from exports.sandbox.particulars import Particulars
from exports.sandbox.staff import Staff
from exports.sandbox.truth import Letter

Format = Literal["text/plain", "text/html", "text/rtf"]
FORMATS: Final[dict[Format, int]] = {"text/plain": 70, "text/html": 18, "text/rtf": 12}
"""Content types, by weight."""
CONTENT: Final = "content[0].attachment.data"
FORM: Final = "presentedForm[0].data"
FIELD: Final = re.compile(r"\{(\w+)\}")
SETTINGS: Final[dict[Setting, str]] = {"planned": "stay", "unplanned": "stay"}


@dataclass(frozen=True)
class Template:
    """A kind of note: its LOINC type, how often a visit of a kind has one, and its text."""

    loinc: str
    display: str
    resource: str
    settings: dict[str, float]
    parts: tuple[str, ...]
    """Literal text and names of fields in turn, text first."""


@cache
def templates() -> tuple[Template, ...]:
    """The templates of `data/notes.json`."""
    read: list[dict[str, Any]] = json.loads((DATA / "notes.json").read_text("utf-8"))
    return tuple(
        Template(
            each["loinc"],
            each["display"],
            each.get("resource", "DocumentReference"),
            each["settings"],
            tuple(FIELD.split("\n".join(each["text"]) + "\n")),
        )
        for each in read
    )


def write_notes(filing: Filing, contact: Contact, particulars: Particulars, staff: Staff) -> None:
    """The notes of a visit beside its discharge summary."""
    rng, visit = filing.rng, contact.visit
    setting = SETTINGS.get(visit.setting, visit.setting)
    for template in templates():
        if rng.random() >= template.settings.get(setting, 0):
            continue
        at = visit.start + int(rng.uniform(0.1, 0.9) * (visit.end - visit.start))
        fields = note_fields(rng, filing.person, particulars, contact, at, staff)
        text, found = fill(template.parts, fields)
        kind = rng.choices(list(FORMATS), list(FORMATS.values()))[0]
        attachment = attach(kind, template.display, text)
        known = at + rng.randrange(20 * MINUTE, 6 * HOUR)
        if template.resource == "DiagnosticReport":
            resource, where, place = (
                _report(filing, template, contact, at, known),
                FORM,
                "encounter",
            )
            resource["presentedForm"] = [attachment]
        else:
            resource, where, place = _document(filing, template, contact, at, known), CONTENT, ""
            resource["content"] = [{"attachment": attachment}]
        if filing.add(resource, known, happens=at, contact=contact, place=place):
            filing.plant(resource, [(letter, where, value) for letter, value in found])


def fill(
    parts: tuple[str, ...], fields: dict[str, Callable[[], Field]]
) -> tuple[str, list[tuple[Letter, str]]]:
    """A template's text with its fields, and the identifiers (class, value) in order, each once."""
    written, found = [parts[0]], []
    for name, literal in zip(parts[1::2], parts[2::2], strict=True):
        letter, value = fields[name]()
        written += (value, literal)
        if letter is not None:
            found.append((letter, value))
    return "".join(written), list(dict.fromkeys(found))


def attach(kind: Format, title: str, text: str) -> Resource:
    """An Attachment of a text in a format."""
    return {
        "contentType": f"{kind}; charset=utf-8" if kind != "text/rtf" else kind,
        "data": b64encode(WRITERS[kind](title, text)).decode(),
    }


def _plain(title: str, text: str) -> bytes:
    return text.encode()


def _html(title: str, text: str) -> bytes:
    head = f"<html><head><title>{title}</title><style>p {{margin: 0}}</style></head><body>\n"
    body = "\n".join(
        f"<p>{escape(line, quote=False)}</p>" if line else "<br/>" for line in text.splitlines()
    )
    return f"{head}{body}\n</body></html>\n".encode()


def _rtf(title: str, text: str) -> bytes:
    """Rich Text Format 1.9: ASCII, other characters as `\\u` and a question mark."""
    told = text.replace("\\", r"\\").replace("{", r"\{").replace("}", r"\}")
    plain = "".join(c if c.isascii() else f"\\u{_signed(ord(c))}?" for c in told)
    body = plain.replace("\n", "\\par\n")
    return f"{{\\rtf1\\ansi\\deff0{{\\fonttbl{{\\f0 Arial;}}}}\\f0\\fs20 {body}}}".encode()


WRITERS: Final[dict[Format, Callable[[str, str], bytes]]] = {
    "text/plain": _plain,
    "text/html": _html,
    "text/rtf": _rtf,
}


def _signed(code: int) -> int:
    return code - 0x10000 if code > 0x7FFF else code


def _document(
    filing: Filing, template: Template, contact: Contact, at: int, known: int
) -> Resource:
    booking, _ = contact.booked(at)
    return {
        "resourceType": "DocumentReference",
        "id": new_id(filing.rng),
        "status": "current",
        "type": concept(LOINC, template.loinc, template.display),
        "category": [concept(TERMINOLOGY + "us-core-documentreference-category", "clinical-note")],
        "date": local(known),
        "author": [{"display": booking.attending.name}],
        "context": {"encounter": [filing.refer("Encounter", booking.id)]},
    }


def _report(filing: Filing, template: Template, contact: Contact, at: int, known: int) -> Resource:
    booking, _ = contact.booked(at)
    return {
        "resourceType": "DiagnosticReport",
        "id": new_id(filing.rng),
        "meta": {"profile": [US_CORE + "us-core-diagnosticreport-note"]},
        "status": "final",
        "category": [concept(TERMINOLOGY + "v2-0074", "RAD", "Radiology")],
        "code": concept(LOINC, template.loinc, template.display),
        "effectiveDateTime": local(at),
        "issued": local(known),
        "performer": [filing.refer("Practitioner", booking.attending.id, booking.attending.name)],
    }
