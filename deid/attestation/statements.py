"""The operator's own statement, 45 CFR 164.514(b)(2)(ii): no rule can make it for them.

Statements are lines of `phi/statements.ndjson`, added and never changed; the last one about some
tables is the one that counts.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Final

from exports.durable import write_durably
from exports.errors import FhirloomError

FILE: Final = "statements.ndjson"
LONGEST: Final = 100
"""Characters of a name or a role: it is printed."""

SENTENCE: Final = (
    "The covered entity does not have actual knowledge that the information in these tables could "
    "be used alone or in combination with other information to identify an individual who is a "
    "subject of the information (45 CFR 164.514(b)(2)(ii))."
)


@dataclass(frozen=True)
class Statement:
    """Who stated which sentence about which tables (their digest), and on which day."""

    name: str
    role: str
    day: str
    sentence: str
    tables: str


def state(phi: Path, tables: str, name: str, role: str) -> Statement:
    """Record today's statement; raises `FhirloomError` (bad-input) for a name that is none."""
    said = Statement(
        _printable(name, "--name"),
        _printable(role, "--role"),
        date.today().isoformat(),
        SENTENCE,
        tables,
    )
    line = json.dumps(asdict(said), ensure_ascii=False).encode() + b"\n"
    path = phi / FILE
    write_durably(path, (path.read_bytes() if path.exists() else b"") + line)
    return said


def statement(phi: Path, tables: str) -> Statement | None:
    """The latest statement about the tables of that digest."""
    try:
        lines = (phi / FILE).read_text().splitlines()
    except FileNotFoundError:
        return None
    said = (Statement(**json.loads(line)) for line in reversed(lines))
    return next((each for each in said if each.tables == tables), None)


def _printable(written: str, option: str) -> str:
    tidy = " ".join(written.split())
    if not tidy or len(tidy) > LONGEST or not tidy.isprintable():
        raise FhirloomError(
            "bad-input",
            f"That can't be printed: 1 to {LONGEST} characters are needed",
            where=option,
            fix="Give the name and the role of whoever makes the statement.",
        )
    return tidy
