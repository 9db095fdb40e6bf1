"""The leak scan of everything else that leaves: reports, models, bundles, stores, attestations.

What these say is made from proven tables alone; this proves it. Held against them is who the people
of the input are: every identifier of patients, their relatives and their caregivers, whole names in
either order, birth dates in every form, and the id of every resource. The words that ship with the
programs are exempt one by one: a person may be called Page. Numbers count from eight digits, since
reports are full of shorter ones.

Each run carries its negative control: the name of somebody of the input among the texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from deid.engine import bind, connect, fetch
from deid.proofs.artifact_texts import artifact_texts
from deid.proofs.date_forms import dates_told, forms_of
from deid.proofs.identifiers import SHORTEST, Identifier, digits, normal, of_resource
from deid.proofs.leak_scan import lines_of_files
from deid.proofs.released import exceptions
from deid.sql_on_fhir.compiler import text as sql_text
from exports.errors import FhirloomError
from exports.landing.ndjson import load
from exports.landing.zone import LandingZone
from exports.progress import Progress, silent
from exports.sealed import CURRENT, hash_json

PEOPLE: Final = ("Patient", "Person", "Practitioner", "RelatedPerson")
"""Types of resources that say who somebody is."""
SHORTEST_NUMBER: Final = 8
"""Digits of an identifier that is a number, or is told as one."""
COUNTRY: Final = "1"
"""How a telephone number may begin."""
CONTROL: Final = "negative control"
SHIPPED: Final = ("deid", "exports", "features", "flows", "training")
NAMES_OF_PEOPLE: Final = frozenset({"sandbox", "notes", "geography"})
"""Shipped folders whose words are names: they exempt nothing."""

_FLOAT: Final = re.compile(r"(?<![\w.])-?\d+\.\d+(?:e[-+]?\d+)?(?![\w.]*\.\d)", re.IGNORECASE)
_NUMBER: Final = re.compile(r"\+?\(?\d[\d ().+/-]{5,}\d")


@dataclass(frozen=True)
class Texts:
    """The texts of all artifacts, by place in normal form, and what stands in them at all."""

    by_place: Mapping[str, str]
    tokens: frozenset[str]
    numbers: Mapping[str, str]
    asked: dict[str, list[str]] = field(default_factory=dict)

    def places(self, phrase: str) -> list[str]:
        """Where a phrase in normal form stands, as whole tokens."""
        if not self.tokens.issuperset(phrase.split(" ")):
            return []
        if phrase not in self.asked:
            told = self.by_place.items()
            self.asked[phrase] = [place for place, text in told if f" {phrase} " in text]
        return self.asked[phrase]


def scan_artifacts(
    root: Path, landing: LandingZone, phi: Path, *, progress: Progress = silent
) -> dict[str, Any]:
    """Scan every file below `root` but the tables; returns what may be told.

    Raises `FhirloomError` (proof-failed) that names the files in which an identifier of the input
    stands; what it is stands in `phi/logs`.
    """
    people = [line for kind in PEOPLE for line in _lines(landing, kind, progress)]
    control = next(_names(people), "")
    texts = read_texts(
        [*artifact_texts(root, shipped_contents()), (CONTROL, f"seen by {control} today")]
    )
    found: dict[str, set[str]] = {}
    identifiers = 0
    for line in people:
        for identifier in _of_person(load(line)):
            identifiers += 1
            for place in told_in(texts, identifier):
                found.setdefault(place, set()).add(f"{identifier.letter} {identifier.value}")
    for key in _ids_told(texts, phi / "extract" / CURRENT):
        for place in told_in(texts, Identifier("", "R", key)):
            found.setdefault(place, set()).add(f"R {key}")
    if control and found.pop(CONTROL, None) is None:
        raise _refused({CONTROL: set()}, phi, "The scan did not find its own negative control")
    if found:
        raise _refused(found, phi, "Identifiers of the input stand in what was written")
    return {"files_scanned": len(texts.by_place) - 1, "identifiers_of_people": identifiers}


def read_texts(texts: Iterable[tuple[str, str]]) -> Texts:
    """Bring (place, text) pairs into the form in which they are searched."""
    parts: dict[str, list[str]] = {}
    numbers: dict[str, str] = {}
    for place, text in texts:
        told = _FLOAT.sub(" ", text)
        parts.setdefault(place, []).append(normal.__wrapped__(told))
        for number in map(digits, _NUMBER.findall(told)):
            for national in (number, number.removeprefix(COUNTRY)):
                if len(national) >= SHORTEST_NUMBER:
                    numbers[national] = place
    by_place = {place: f" {' | '.join(told)} " for place, told in parts.items()}
    tokens = frozenset(token for told in by_place.values() for token in told.split())
    return Texts(by_place, tokens, numbers)


def told_in(texts: Texts, identifier: Identifier) -> set[str]:
    """The places that tell an identifier in some form."""
    form, number = normal(identifier.value), digits(identifier.value)
    if identifier.letter == "C":
        days = dates_told(form.split())
        # With two digits of the year a date looks like a time of day, of which stores are full.
        forms = {told for day in days for told in forms_of(day) if f"{day.year:04}" in told}
        return {place for told in forms for place in texts.places(told)}
    found: set[str] = set()
    if len(form) >= SHORTEST and not form.replace(" ", "").isdigit():
        orders = {form}
        if identifier.letter == "A":
            orders.add(" ".join(reversed(form.split(" "))))
        for order in orders:
            places = texts.places(order)
            if places and not shipped().places(order):
                found.update(places)
    if len(number) >= SHORTEST_NUMBER and not any(letter.isalpha() for letter in form):
        if number in texts.tokens:
            found.update(texts.places(number))
        if number in texts.numbers:
            found.add(texts.numbers[number])
    return found


@cache
def shipped() -> Texts:
    """What the programs and declarations that ship say, and the words that exceptions allow."""
    words = "\n".join(exceptions()["words"])
    return read_texts([("words", words), *((path.name, path.read_text()) for path in _sources())])


@cache
def shipped_contents() -> frozenset[bytes]:
    """The shipped files themselves: what stands in a copy of one is not of the input."""
    return frozenset(path.read_bytes() for path in _sources())


def _sources() -> list[Path]:
    source = Path(__file__).parents[2]
    return [
        path
        for folder in SHIPPED
        for path in (source / folder).rglob("*")
        if path.suffix in (".py", ".json", ".yaml", ".j2", ".html")
        and not NAMES_OF_PEOPLE.intersection(path.relative_to(source).parts)
    ]


def _lines(landing: LandingZone, kind: str, progress: Progress) -> Iterator[bytes]:
    for block in lines_of_files(landing.paths(kind), progress):
        yield from (line for line in block.split(b"\n") if line.strip())


def _of_person(resource: dict[str, Any]) -> Iterator[Identifier]:
    """Who somebody is: the leaves, not the words of narratives; and names as they are spoken."""
    for identifier in of_resource(resource):
        days = (str(resource.get(key))[:10] for key in ("birthDate", "deceasedDateTime"))
        if identifier.letter == "C" and identifier.value not in days:
            continue
        if identifier.patient_id or resource["resourceType"] != "Patient":
            yield identifier
    for name in _parts_of_names(resource):
        yield Identifier("", "A", name)


def _parts_of_names(resource: dict[str, Any]) -> Iterator[str]:
    names = resource.get("name")
    for name in names if isinstance(names, list) else ():
        given, family = name.get("given") or [], name.get("family")
        for first in given if isinstance(given, list) else ():
            if first and family:
                yield f"{first} {family}"


def _names(people: Iterable[bytes]) -> Iterator[str]:
    return (name for line in people for name in _parts_of_names(load(line)))


def _ids_told(texts: Texts, extracted: Path) -> list[str]:
    """Ids of resources whose first token stands in some text."""
    files = sorted(str(path) for path in extracted.glob("*.parquet"))
    if not files:
        return []
    with connect() as connection:
        tokens = pa.array(sorted(token for token in texts.tokens if not token.isalpha()))
        bind(connection, {"tokens": pa.table({"token": tokens.cast(pa.string())})})
        listed = ", ".join(map(sql_text, files))
        ids = fetch(
            connection,
            f"SELECT DISTINCT id FROM read_parquet([{listed}], union_by_name = true) "
            "WHERE lower(regexp_extract(id, '[A-Za-z0-9]+')) IN (FROM tokens)",
        )
    found: list[str] = ids["id"].to_pylist()
    return found


def _refused(found: Mapping[str, set[str]], phi: Path, what: str) -> FhirloomError:
    places = sorted(found)
    ref = f"proof-{hash_json(places)[:8]}"
    logs = phi / "logs"
    logs.mkdir(mode=0o700, exist_ok=True)
    lines = [f"{place}: {value}" for place in places for value in sorted(found[place])]
    log = logs / f"{ref}.log"
    log.touch(mode=0o600)
    log.write_text("\n".join(lines) + "\n")
    return FhirloomError(
        "proof-failed",
        f"{what} ({'; '.join(places)})",
        where="artifacts of a run",
        fix="Remove them, and correct what wrote them; or justify an exception.",
        ref=ref,
    )
