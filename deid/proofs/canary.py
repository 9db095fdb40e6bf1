"""The canary proof: nothing that stands anywhere in a resource comes out, unless its domain has it.

A canary (a word, a number, a date) is put into one place at a time: into each leaf that occurs in
resources of this run and each that a view could name (`deid.proofs.examples`), into fields and
extensions that nobody knows. All these variants are rehearsed at once, by the rules and the
vocabulary of the run, with patients and encounters around them so that their rows are kept. Then
each value of each table is looked at: no canary may be in it.

Each run carries its negative controls. To the rehearsal alone, every closed list and the vocabulary
have one word more, and that word stands in places of its own; and a number that is in range stands
where numbers do. Of these one has to be found in every view. So the proof knows that what stands in
a resource does reach the columns.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import Any, Final

import orjson
import pyarrow as pa
import pyarrow.compute as pc

from deid.proofs.examples import BORN, SUBJECT, Resource, examples, filling
from deid.proofs.landing_sample import sampled
from deid.proofs.leaves import (
    BESIDE,
    CANARY,
    DATE,
    NUMBER,
    WHOLE,
    Variant,
    Words,
    at_root,
    beside_leaves,
    in_leaves,
)
from deid.proofs.proof import Evidence, Verdict
from deid.proofs.rehearsal import rehearse
from deid.rules import Rules
from deid.sql_on_fhir.compiler import compile_view
from deid.vocabulary import Vocabulary
from exports.landing.ndjson import load
from exports.landing.zone import LandingZone
from exports.progress import Progress, silent

CONTROL: Final = "Qzcontrol"
"""The word of the negative controls, which a rehearsal's lists and vocabulary have."""
LINES: Final = 300
"""Lines of each type that are searched for places."""
BYTES: Final = 1 << 20
PLACES: Final = 3000
"""Paths of one type that are tried: a field for each patient must not make the proof endless."""
STAY: Final = {"start": "2015-02-20T08:00:00Z", "end": "2015-03-10T08:00:00Z"}
BOOLEANS: Final = {"true", "false"}
"""A closed list of these alone is read from booleans, and takes no word."""

_WORD: Final = re.compile(rf"(?:{CANARY}|{CONTROL})\d*", re.IGNORECASE)
_DAY: Final = DATE.replace("-", "")
_DIGITS: Final = (str(WHOLE), _DAY)
_REFERENCE: Final = re.compile(rb"(Patient|Encounter)/([A-Za-z0-9.\-]{1,64})")
_SECONDS: Final = {-587865600, -587865600 + 10 * 3600}
"""From 1970 to the canary's date, at midnight and at the examples' hour."""
TOLD_DATES: Final = {_DAY, *(str(second) for second in _SECONDS)}
NUMBERS: Final = frozenset({WHOLE, round(NUMBER * 1000), int(_DAY), *_SECONDS})
"""What a number may not be, as a whole or in thousandths."""
FAR: Final = 2**63
"""Beyond it, and infinite or not a number, nothing is a canary."""


@dataclass
class Tried:
    """What was planted, and where it came out; `values` are for `phi/logs` alone."""

    leaves: dict[str, int] = field(default_factory=dict)
    variants: int = 0
    apart: int = 0
    rows: int = 0
    found: dict[str, set[str]] = field(default_factory=dict)
    controls: dict[str, bool] = field(default_factory=dict)
    values: list[str] = field(default_factory=list)

    @property
    def views_without_control(self) -> list[str]:
        """Views with columns of words, in none of which the control came out."""
        caught: dict[str, bool] = defaultdict(bool)
        for place, seen in self.controls.items():
            caught[place.partition(".")[0]] |= seen
        return sorted(view for view, seen in caught.items() if not seen)

    @property
    def holds(self) -> bool:
        """No canary came out, and in each view with words the control did."""
        return bool(self.variants and self.controls) and not (
            self.found or self.views_without_control
        )

    def facts(self) -> dict[str, Any]:
        """What may be told outside the PHI zone."""
        return {
            "leaves_tried": self.leaves,
            "variants": self.variants,
            "variants_quarantined": self.apart,
            "rows_searched": self.rows,
            "canaries_found": sum(map(len, self.found.values())),
            "negative_controls_planted": len(self.controls),
            "negative_controls_found": sum(self.controls.values()),
        }


class _Planting:
    """The lines that are rehearsed: variants, controls, and whom and what they refer to."""

    def __init__(self, rules: Rules) -> None:
        self.read: dict[str, set[str]] = defaultdict(lambda: {"id", "meta"})
        for view in (*rules.auxiliary, *rules.views):
            self.read[view.view.resource] |= compile_view(view.view).columns.keys()
        self.lines: dict[str, list[bytes]] = defaultdict(list)
        self.doubtful: dict[str, list[bytes]] = defaultdict(list)
        self.words = Words()
        self.paths: list[str] = [""]
        self.count = 0

    def plant(self, resource: Resource, variant: Variant) -> None:
        """A line with what the views read of the resource, and the canary."""
        kind = resource["resourceType"]
        self.count += 1
        kept = {key: resource[key] for key in self.read[kind] if key in resource}
        made = {"resourceType": kind, **kept, "id": f"v{self.count}", variant.top: variant.content}
        line = orjson.dumps(made) + b"\n"
        typed = variant.typed or variant.top not in self.read[kind]
        (self.lines if typed else self.doubtful)[kind].append(line)
        self.paths += [kind + variant.path] * (self.words.count + 1 - len(self.paths))

    def with_companions(self) -> dict[str, list[bytes]]:
        """The lines, and the patients and encounters they name: no row is dropped for want of one.

        A patient who was planted has an encounter, and so a time to be written in.
        """
        people: dict[str, None] = {}
        visits: dict[str, str] = {}
        for kind, line in ((key, line) for key, lines in self.lines.items() for line in lines):
            named: dict[str, list[str]] = {"Patient": [], "Encounter": []}
            for target, key in _REFERENCE.findall(line):
                named[target.decode()].append(key.decode())
            people |= dict.fromkeys(named["Patient"])
            if kind == "Patient":
                visits[f"stay{len(visits)}"] = load(line)["id"]
            elif kind != "Encounter":
                visits |= dict.fromkeys(named["Encounter"], (named["Patient"] or [SUBJECT])[0])
        met: list[Resource] = [
            {
                "resourceType": "Encounter",
                "id": visit,
                "status": "finished",
                "subject": {"reference": f"Patient/{who}"},
                "period": STAY,
            }
            for visit, who in visits.items()
        ]
        born: list[Resource] = [{"resourceType": "Patient", "id": who} for who in people]
        for patient in born:
            if patient["id"] == SUBJECT:
                patient["birthDate"] = BORN
        lines = {kind: list(lines) for kind, lines in self.lines.items()}
        for item in (*met, *born):
            lines.setdefault(item["resourceType"], []).append(orjson.dumps(item) + b"\n")
        return lines


def canaries(landing: LandingZone, rules: Rules, vocabulary: Vocabulary) -> Tried:
    """Try the rules with canaries in every place of a landing zone's resources, and of examples."""
    result, planting = Tried(), _Planting(rules)
    control = Words(CONTROL)
    fill = filling(rules, vocabulary)
    made = {kind: list(examples(kind, rules, fill)) for kind in sorted(planting.read)}
    for kind, maximal in made.items():
        delivered = sampled(landing, kind, most_lines=LINES, most_bytes=BYTES)
        leaves: set[str] = set()
        for resources in (delivered, maximal):
            tried: set[str] = set()
            for resource, variant in islice(_variants(resources, tried, planting.words), PLACES):
                if variant.typed or resources is maximal:
                    planting.plant(resource, variant)
            leaves |= {path for path in tried if not path.endswith(BESIDE)}
        result.leaves[kind] = len(leaves)
    result.variants = planting.count
    for kind, maximal in made.items():
        tried = set()
        for resource in maximal:
            for variant in in_leaves(resource, tried, control):
                if variant.typed and variant.top in planting.read[kind] - {"id"}:
                    planting.plant(resource, variant)
    worded = {name: kept for name, kept in rules.enums.items() if not kept.keys() <= BOOLEANS}
    enums = {**rules.enums, **{name: {**kept, CONTROL: CONTROL} for name, kept in worded.items()}}
    done = rehearse(
        planting.with_companions(),
        replace(rules, enums=enums),
        replace(vocabulary, codes=vocabulary.codes | {f"local:{CONTROL}"}),
        doubtful=planting.doubtful,
    )
    result.apart = sum(done.apart.values())
    result.controls = {
        f"{view.name}.{column.name}": False
        for view in rules.views
        for column in view.of("enum") + view.of("code") + view.of("number")
        if column.kind != "enum" or column.argument in worded
    }
    _search(done.tables, planting.paths, result, fill.number, dated=rules.policy.dated)
    return result


def _variants(
    resources: Iterable[Resource], tried: set[str], words: Words
) -> Iterator[tuple[Resource, Variant]]:
    """The variants of resources of one type, each place once."""
    for number, resource in enumerate(resources):
        for variant in chain(
            at_root(resource, words) if number == 0 else (),
            in_leaves(resource, tried, words),
            beside_leaves(resource, tried, words),
        ):
            yield resource, variant


def _search(
    tables: Mapping[str, pa.Table],
    paths: Sequence[str],
    result: Tried,
    number: float,
    *,
    dated: bool,
) -> None:
    """Look at each value of each table, for canaries and for the controls: a word, and a `number`.

    In a limited data set (`dated`) the canary that is a date may come out.
    """
    for table, rows in tables.items():
        result.rows += rows.num_rows
        for column in rows.column_names:
            place = f"{table}.{column}"
            for value in pc.unique(rows[column]).to_pylist():
                if isinstance(value, float) and value == number:
                    result.controls[place] = True
                for seen in sightings(value) - (TOLD_DATES if dated else set()):
                    if seen == CONTROL.lower():
                        result.controls[place] = True
                    else:
                        result.found.setdefault(place, set()).add(seen)
                        result.values.append(f"{place}: {value}, from {_origin(seen, paths)}")


def _origin(seen: str, paths: Sequence[str]) -> str:
    number = seen.removeprefix(CANARY.lower())
    return paths[int(number)] if number != seen else "a number or a date"


def sightings(value: object) -> set[str]:
    """The canaries in one value: words anywhere in a text, numbers in its digits or as a whole."""
    if isinstance(value, int | float):
        sizes = {int(value), abs(int(value))} if abs(value) < FAR else set()
        if sizes and isinstance(value, float):
            sizes.add(abs(round(value * 1000)))
        return {str(number) for number in NUMBERS & sizes}
    written = str(value)
    digits = re.sub(r"\D", "", written)
    words = {word.lower() for word in _WORD.findall(written)}
    return words | {number for number in _DIGITS if number in digits}


def verdict(evidence: Evidence, *, progress: Progress = silent) -> Verdict:
    """The proof over the rules and resources of a run whose tables are not released yet."""
    progress(0, 1, "canaries")
    tried = canaries(evidence.landing, evidence.rules, evidence.vocabulary)
    progress(1, 1, "canaries")
    failure = "The canary proof did not find its own negative controls"
    if tried.found:
        failure = f"A canary came out of what no column may hold ({'; '.join(sorted(tried.found))})"
    return Verdict("canary", tried.holds, tried.facts(), failure, tuple(tried.values))
