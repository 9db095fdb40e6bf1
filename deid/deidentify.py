"""De-identification by 45 CFR 164.514(b)(2), whole: from the landing zone to proven tables.

By the other policy (`deid.policy`) the same steps give a limited data set, in `phi/limited`.

Extract, crosswalk, vocabulary, tables, proofs: each step is sealed, and a rerun takes up what is
there. The tables are written and proven inside the PHI zone; only then do they cross over, and
their attestation is signed.
"""

from __future__ import annotations

import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deid.attestation.issue import Attestation, issue
from deid.attestation.origin import origin
from deid.balance import DUPLICATE
from deid.extract import extract
from deid.identity.crosswalk import crosswalk
from deid.oracle import FILE, write_oracle
from deid.proofs.proof import Evidence
from deid.proofs.prove import prove
from deid.research import RULES, ResearchTables
from deid.rules import Rules, load_rules
from deid.tables import tables_stage, write_tables
from deid.vocabulary import FILE as VOCABULARY_FILE
from deid.vocabulary import Vocabulary, freeze_vocabulary
from exports.landing.zone import LandingZone
from exports.progress import Progress, silent
from exports.sealed import Sealed, find_sealed, sealing


@dataclass(frozen=True)
class ViewCounts:
    """What became of the resources that one view read: rows = kept + dropped + quarantined."""

    view: str
    resource: str
    rows: int
    kept: int
    dropped: Mapping[str, int]
    quarantined: Mapping[str, int]


@dataclass(frozen=True)
class Proof:
    """One proof over the released tables; `detail` holds no value of a patient."""

    name: str
    passed: bool
    detail: Mapping[str, Any]


@dataclass(frozen=True)
class Deidentified:
    """Released tables, with the counts and proofs that came with them, and what attests to them."""

    tables: ResearchTables
    vocabulary: Vocabulary
    counts: tuple[ViewCounts, ...]
    proofs: tuple[Proof, ...]
    oracle: Path | None
    attestation: Attestation


def deidentify(
    landing: LandingZone,
    work: Path,
    *,
    declared: Collection[str],
    truth: Path | None = None,
    rules: Rules | None = None,
    refreeze_vocabulary: bool = False,
    left_out: frozenset[str] = frozenset(),
    progress: Progress = silent,
) -> Deidentified:
    """De-identify a landing zone into `work/research/tables`, or where the rules' policy has it.

    `declared` holds the codes and prefixes of the value sets in use; `truth` is the sandbox's;
    `left_out` lists patients whom the landing leaves out by now, as an operator wrote them.
    Raises `FhirloomError`: proof-failed where a proof does not hold (nothing is released then, and
    the detail is in `phi/logs`), bad-input where there is nothing to work on.
    """
    rules = rules or load_rules()
    phi, research = work / "phi", rules.policy.released(work)
    extracted = extract(landing, phi, rules, progress=progress)
    walk = crosswalk(extracted, landing, phi, rules, left_out=left_out)
    vocabulary = freeze_vocabulary(
        extracted, walk, phi, rules, declared=declared, again=refreeze_vocabulary
    )
    stage = tables_stage(extracted, walk, vocabulary, rules)
    sealed = find_sealed(research / "tables", stage)
    if sealed is None:
        unproven = phi / "unproven"
        shutil.rmtree(unproven, ignore_errors=True)
        unproven.mkdir(mode=0o700)
        facts = write_tables(
            unproven, extracted, walk, vocabulary, rules, spill=phi / "spill", progress=progress
        )
        account = origin(
            landing, extracted, walk.exported, rules, spill=phi / "spill", progress=progress
        )
        evidence = Evidence(unproven, landing, extracted, walk, vocabulary, rules, phi, truth)
        proofs = prove(evidence, progress=progress)
        with sealing(research / "tables", stage) as draft:
            for table in sorted(unproven.iterdir()):
                shutil.move(table, draft.path)
            shutil.copyfile(vocabulary.path, draft.path / VOCABULARY_FILE)
            for part in ("views", "domains"):
                shutil.copytree(rules.folder / part, draft.path / RULES / part)
            rules.policy.save(draft.path / RULES)
            draft.facts |= facts | {"policy": rules.policy.facts()}
            draft.facts["counts"] = [
                *_counts(rules, extracted, facts["outcomes"]),
                *_unread(rules, landing),
            ]
            draft.facts |= {"proofs": proofs, "origin": account}
        shutil.rmtree(unproven)
        sealed = draft.result
    oracle = write_oracle(truth, walk, research).path / FILE if truth is not None else None
    return Deidentified(
        ResearchTables(sealed),
        vocabulary,
        tuple(ViewCounts(**item) for item in sealed.facts["counts"]),
        tuple(Proof(**item) for item in sealed.facts["proofs"]),
        oracle,
        issue(sealed, phi),
    )


def _counts(
    rules: Rules, extracted: Sealed, outcomes: Mapping[str, Mapping[str, int]]
) -> list[dict[str, Any]]:
    counts = []
    for view in rules.views:
        read = extracted.facts["views"][view.name]
        found = dict(outcomes[view.name])
        kept = found.pop("kept", 0)
        repeats = read["rows"] - sum(read["quarantined"].values()) - kept - sum(found.values())
        counts.append(
            {
                "view": view.name,
                "resource": view.view.resource,
                "rows": read["rows"],
                "kept": kept,
                "dropped": dict(
                    sorted(({**found, DUPLICATE: repeats} if repeats else found).items())
                ),
                "quarantined": read["quarantined"],
            }
        )
    for view in rules.auxiliary:
        read = extracted.facts["views"][view.name]
        fates = {fate: read[fate] for fate in ("rows", "dropped", "quarantined")}
        counts.append(
            {"view": view.name, "resource": view.view.resource, "kept": read["out"], **fates}
        )
    return counts


def _unread(rules: Rules, landing: LandingZone) -> list[dict[str, Any]]:
    """The resources of the types that no view reads: landed, and dropped as a whole."""
    read = {view.view.resource for view in (*rules.views, *rules.auxiliary)}
    dropped = {
        f"no view of {kind}": rows for kind, rows in landing.rows().items() if kind not in read
    }
    counts = {"view": "no view", "resource": "", "rows": sum(dropped.values()), "kept": 0}
    return [{**counts, "dropped": dropped, "quarantined": {}}] if dropped else []
