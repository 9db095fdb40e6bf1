"""What else identifies a person: papers, vehicles, biometrics, photographs, and the people around.

Drawn from a stream of its own, so that whoever is asked for less stays the same person. Numbers
are long or hold letters, so that none can equal a lapse of time in seconds.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass
from random import Random
from typing import Final

from exports.sandbox.catalog import names
from exports.sandbox.clock import YEAR, local_date
from exports.sandbox.people import AREAS, Person

RELATIONS: Final = {
    "WIFE": ("wife", False, 0),
    "HUSB": ("husband", True, 0),
    "DAUC": ("daughter", False, 28),
    "SONC": ("son", True, 28),
    "SIS": ("sister", False, 3),
    "BRO": ("brother", True, -3),
    "NBOR": ("neighbor", False, 5),
}
"""v3-RoleCode: the word for it, whether male, and how many years younger than the patient."""
TRADES: Final = (
    "Machine Works",
    "Roofing Company",
    "Seafood Market",
    "Insurance Agency",
    "Boat Yard",
    "Bakery",
    "Moving and Storage",
    "Law Offices",
)
MAKES: Final = ("1HG", "2T1", "3FA", "5YJ", "4S3", "1FT")
VIN_LETTERS: Final = "ABCDEFGHJKLMNPRSTUVWXYZ"
VIN_VALUES: Final = {
    **{str(digit): digit for digit in range(10)},
    **dict(zip(VIN_LETTERS, (*range(1, 9), *range(1, 6), 7, 9, *range(2, 10)), strict=True)),
}
VIN_WEIGHTS: Final = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
JPEG: Final = bytes.fromhex("ffd8ffe000104a46494600010100000100010000")


@dataclass(frozen=True)
class Relative:
    """Someone around the patient. `relation` is a v3-RoleCode, `word` how people call it."""

    relation: str
    word: str
    male: bool
    given: str
    family: str
    birth_date: str
    phone: str

    @property
    def name(self) -> str:
        """Given and family name."""
        return f"{self.given} {self.family}"


@dataclass(frozen=True)
class Particulars:
    """The identifiers of a person that a Patient resource needn't have."""

    licence: str
    passport: str
    account: str
    plate: str
    vin: str
    fingerprint: str
    voiceprint: str
    photo: str
    photo_url: str
    portal: str
    address: str
    study: str
    group: str
    employer: str
    employer_phone: str
    relatives: tuple[Relative, ...]


def make_particulars(rng: Random, person: Person) -> Particulars:
    """The particulars of a person; the second relative lives in the household."""
    lists = names()
    return Particulars(
        licence=f"{rng.choice('BCDFGHKLMSTW')}{rng.randrange(10**13, 10**14)}",
        passport=f"{rng.choice('ACXZ')}{rng.randrange(3 * 10**8, 10**9)}",
        account=f"A-{rng.randrange(4 * 10**10, 9 * 10**10)}",
        plate=f"{rng.randrange(1, 10)}{_letters(rng, 2)} {rng.randrange(100, 1000)}",
        vin=make_vin(rng),
        fingerprint=f"FMR:{rng.getrandbits(160):040x}",
        voiceprint=f"VP-{_letters(rng, 4)}{rng.randrange(3 * 10**9, 10**10)}",
        photo=b64encode(JPEG + rng.randbytes(60)).decode(),
        photo_url=f"https://photos.example.org/faces/{rng.getrandbits(128):032x}.jpg",
        portal=f"https://portal.example.org/home/{rng.getrandbits(128):032x}",
        address=f"203.0.{rng.randrange(100, 256)}.{rng.randrange(100, 255)}",
        study=f"TRIAL-{_letters(rng, 3)}-{rng.randrange(3 * 10**9, 10**10)}",
        group=f"GRP-{rng.randrange(10_000, 99_999)}",
        employer=f"{rng.choice(lists['family'])} {rng.choice(TRADES)}",
        employer_phone=_phone(rng),
        relatives=(_spouse(rng, person), _relative(rng, person)),
    )


def make_vin(rng: Random) -> str:
    """A vehicle identification number with its check digit (49 CFR 565.15)."""
    head = f"{rng.choice(MAKES)}{_letters(rng, 2)}{rng.randrange(100, 1000)}"
    tail = f"{_letters(rng, 2)}{rng.randrange(100_000, 1_000_000)}"
    unchecked = f"{head}0{tail}"
    rest = sum(w * VIN_VALUES[c] for w, c in zip(VIN_WEIGHTS, unchecked, strict=True)) % 11
    return f"{head}{'X' if rest == 10 else rest}{tail}"


def household_line(person: Person) -> str:
    """The address as one line of text."""
    return f"{person.line}, {person.city}, {person.state} {person.zip}"


def _spouse(rng: Random, person: Person) -> Relative:
    relation = rng.choice(["WIFE", "DAUC", "SIS"] if person.male else ["HUSB", "SONC", "BRO"])
    return _named(rng, person, relation)


def _relative(rng: Random, person: Person) -> Relative:
    return _named(rng, person, rng.choice(["DAUC", "SONC", "SIS", "BRO", "NBOR"]))


def _named(rng: Random, person: Person, relation: str) -> Relative:
    word, male, younger = RELATIONS[relation]
    lists = names()
    return Relative(
        relation,
        word,
        male,
        rng.choice(lists["male" if male else "female"]),
        person.family if rng.random() < 0.6 else rng.choice(lists["family"]),
        local_date(person.born + int((younger + rng.uniform(-2, 2)) * YEAR)),
        _phone(rng),
    )


def _letters(rng: Random, count: int) -> str:
    return "".join(rng.choice(VIN_LETTERS) for _ in range(count))


def _phone(rng: Random) -> str:
    return f"{rng.choice(AREAS)}-555-{rng.randrange(10_000):04d}"
