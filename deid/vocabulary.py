"""Step 2: which codes may appear at all; frozen, versioned, shipped with every bundle.

A code may appear when it stands in a declared value set, or when at least `SHARED` patients have
it. That number is fhirloom's own policy, not Safe Harbor's: format proves nothing (a numeric record
number is a well-formed RxNorm code), so what a single patient has is never written. All else is
RARE. Once frozen, the vocabulary is used as it is until someone asks for a new one.
"""

from __future__ import annotations

import json
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

VERSION: Final = 3
SHARED: Final = 11
"""Patients who must share a code that no value set declares."""
FILE: Final = "vocabulary.json"


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
        codes = words["word"].to_pylist()
        (draft.path / FILE).write_text(json.dumps({"shared": SHARED, "codes": codes}, indent=0))
        draft.facts["codes"] = len(codes)
    return load_vocabulary(draft.result.path / FILE)
