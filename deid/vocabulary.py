"""Step 2: which codes may appear at all; frozen, versioned, shipped with every bundle.

A code may appear when it stands in a declared value set, or when at least `SHARED` patients have
it. That number is fhirloom's own policy, not Safe Harbor's: format proves nothing (a numeric record
number is a well-formed RxNorm code), so what a single patient has is never written. A site's own
codes may be shared and still be something else, such as the day of a clinic or the telephone number
of a ward: what is written like one of these counts as undeclared. All else is RARE. Once frozen,
the vocabulary is used as it is until someone asks for a new one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from deid.engine import bind, connect, fetch
from deid.extract import RARE
from deid.identity.custody import Crosswalk
from deid.identity.persons import bind_persons
from deid.rules import Rules
from deid.sql_on_fhir.compiler import name
from exports.sealed import CURRENT, Sealed, Stage, hash_json, open_sealed, sealing

VERSION: Final = 4
SHARED: Final = 11
"""Patients who must share a code that no value set declares."""
FILE: Final = "vocabulary.json"
NO_CODES: Final = re.compile(
    r"(?<!\d)(?:(?:18|19|20)\d\d(?P<dash>[-./]?)(?:0[1-9]|1[0-2])(?P=dash)(?:0[1-9]|[12]\d|3[01])"
    r"|\d{1,2}([-./])\d{1,2}\2(?:19|20)?\d\d"
    r"|(?:0?[1-9]|[12]\d|3[01])-?(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*-?(?:19|20)\d\d"
    r"|\d{3}[-.]\d{3}[-.]\d{4}|\d{3}-\d{2}-\d{4}|\d{5}-\d{4}"
    r"|\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3})(?!\d)",
    re.IGNORECASE,
)
"""Days, telephone and social security numbers, nine-digit ZIP codes, network addresses."""


@dataclass(frozen=True)
class Vocabulary:
    """The codes that may appear, as `system:code`."""

    path: Path
    codes: frozenset[str]

    @property
    def published(self) -> frozenset[str]:
        """The codes of published systems; a site's own (`local:`) may be anything, even a name."""
        return frozenset(code for code in self.codes if not code.startswith("local:"))

    @property
    def digest(self) -> str:
        """The hash of its codes."""
        return hash_json(sorted(self.codes))

    def table(self) -> pa.Table:
        """One column, `word`."""
        return pa.table({"word": pa.array(sorted(self.codes), pa.string())})


def load_vocabulary(path: Path) -> Vocabulary:
    """Read a vocabulary file."""
    return Vocabulary(path, frozenset(json.loads(path.read_text())["codes"]))


def freeze_vocabulary(
    extracted: Sealed,
    walk: Crosswalk,
    phi: Path,
    rules: Rules,
    *,
    declared: Collection[str],
    again: bool = False,
) -> Vocabulary:
    """The frozen vocabulary of this work folder; made from an extract the first time, or `again`.

    `declared` holds exact codes (`loinc:2160-0`) and prefixes (`icd10cm:I50*`); `walk` tells
    who is who: two records of one person are no two patients, and who was removed is none.
    """
    root = phi / "vocabulary"
    present = open_sealed(root / CURRENT)
    if present is not None and not again:
        return load_vocabulary(present.path / FILE)
    exact = sorted(code for code in declared if not code.endswith("*"))
    prefixes = sorted(code[:-1] for code in declared if code.endswith("*"))
    stage = Stage(
        "vocabulary",
        VERSION,
        {"extract": extracted.digest, "crosswalk": walk.sealed.digest},
        hash_json([exact, prefixes, SHARED]),
    )
    with sealing(root, stage, mode=0o700) as draft, connect() as connection:
        bind_persons(connection, extracted, rules, walk.read("links"), walk.read("removed"))
        bind(
            connection,
            {
                "exact": pa.table({"word": pa.array(exact, pa.string())}),
                "prefixes": pa.table({"prefix": pa.array(prefixes, pa.string())}),
            },
        )
        rows = " UNION ALL ".join(
            f"SELECT {name(column.name)} AS word, patient_id FROM {view.name} SEMI JOIN "
            "(SELECT patient_id FROM patient WHERE dropped IS NULL) AS people USING (patient_id) "
            "WHERE dropped IS NULL"
            for view in rules.views
            for column in view.of("code")
        )
        words = fetch(
            connection,
            f"WITH counted AS (SELECT word, count(DISTINCT patient_id) AS patients FROM ({rows}) "
            f"WHERE word != '{RARE}' GROUP BY word) "
            "SELECT word FROM exact UNION SELECT word FROM counted WHERE patients >= $1 OR EXISTS "
            "(FROM prefixes WHERE starts_with(word, prefix)) ORDER BY word",
            SHARED,
        )
        codes = [word for word in words["word"].to_pylist() if word in exact or _is_code(word)]
        (draft.path / FILE).write_text(json.dumps({"shared": SHARED, "codes": codes}, indent=0))
        draft.facts["codes"] = len(codes)
    return load_vocabulary(draft.result.path / FILE)


def _is_code(word: str) -> bool:
    """Whether a shared word is taken for a code; of published systems, all that has their form."""
    return not word.startswith("local:") or NO_CODES.search(word) is None
