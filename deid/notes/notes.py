"""Free text as an output of its own, asked for by its own command: `research/notes`.

Layout of the sealed folder: `bucket-000.parquet` and so on, the patients of each bucket being those
of the research tables' bucket, and `README.txt`. Columns: `patient` and `encounter` (surrogates),
`time` and `known_at` (seconds from the patient's zero), `code` (of the vocabulary), `note`, and how
many of each kind were replaced. Rows are sorted by all of them.

No method takes every identifier out of free text for sure. So notes are not de-identified by Safe
Harbor (45 CFR 164.514(b)(2)): they are labelled as needing review wherever they are told of.
"""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from deid.engine import connect
from deid.extract import extract
from deid.identity.custody import Crosswalk, open_crosswalk
from deid.notes.analyzer import Analyzer
from deid.notes.attachments import gather
from deid.notes.leak_check import Check
from deid.notes.lexicon import lexicon_hash, with_learned
from deid.notes.locating import Note, Patient, everyones, patients, place_notes, small_words
from deid.notes.measure import Measure, Planted, planted_in_notes
from deid.notes.pattern_recognizer import patterns_hash
from deid.notes.replacing import KINDS, Replaced, StandIns
from deid.proofs.recall import FILE as TRUTH
from deid.rules import Rules, load_rules
from deid.tables import BUCKETS, tables_stage
from deid.vocabulary import Vocabulary, freeze_vocabulary
from exports.errors import FhirloomError
from exports.landing.zone import LandingZone
from exports.progress import Progress, silent
from exports.sealed import Sealed, Stage, find_sealed, hash_file, hash_json, sealing

VERSION: Final = 1
LABEL: Final = "needs review: free text, not de-identified by Safe Harbor (45 CFR 164.514(b)(2))"
README: Final = """These notes NEED REVIEW before anyone uses them.

Identifiers were searched for and replaced, and none that the records know is left. But free text
can tell who somebody is in ways that no search foresees: these notes are NOT de-identified by the
Safe Harbor method (45 CFR 164.514(b)(2)), and the attestation of the research tables does not
cover them.
"""
FAILED: Final = "analysis failed"
SCHEMA: Final = pa.schema(
    [
        pa.field("patient", pa.int64()),
        pa.field("time", pa.int64()),
        pa.field("known_at", pa.int64()),
        pa.field("encounter", pa.int64()),
        pa.field("code", pa.string()),
        pa.field("note", pa.string(), metadata={"label": LABEL}),
        *(pa.field(f"replaced_{kind}", pa.int32()) for kind in KINDS),
    ],
    metadata={"label": LABEL},
)


@dataclass(frozen=True)
class Notes:
    """A sealed folder of notes that need review."""

    sealed: Sealed

    def read(self, bucket: int) -> pa.Table:
        """One bucket's notes."""
        return pq.read_table(self.sealed.path / f"bucket-{bucket:03d}.parquet")


def deidentify_notes(
    landing: LandingZone,
    work: Path,
    *,
    rules: Rules | None = None,
    model: Path | None = None,
    truth: Path | None = None,
    progress: Progress = silent,
) -> Notes:
    """The notes of the patients in `work/research/tables`, in `work/research/notes`.

    `model` is a configuration of Presidio's NLP engine, `truth` the sandbox's. Raises
    `FhirloomError`: proof-failed where something known of a patient is left in a note (nothing is
    released then), bad-input where there are no research tables of this landing zone, for a
    limited data set, and for a model that is not there.
    """
    rules = rules or load_rules()
    phi, research = work / "phi", work / "research"
    if rules.policy.dated:
        raise _refused("Notes are written beside de-identified tables alone")
    extracted, walk, vocabulary = _made(landing, phi, rules)
    tables = find_sealed(research / "tables", tables_stage(extracted, walk, vocabulary, rules))
    if tables is None:
        raise _refused("There are no research tables of what was landed")
    stage = notes_stage(tables, walk, model, truth)
    sealed = find_sealed(research / "notes", stage)
    if sealed is not None:
        return Notes(sealed)
    folder = phi / "notes"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    try:
        gather(landing, folder, progress=progress)
        run = _Run(planted_in_notes(truth) if truth is not None else {})
        out = folder / "unproven"
        out.mkdir()
        with connect(folder) as connection:
            run.left_out.update(place_notes(connection, folder, extracted, walk, vocabulary, rules))
            lexicon = with_learned(small_words(connection))
            run.analyzer = Analyzer(lexicon, everyones(connection), model)
            for bucket in range(BUCKETS):
                progress(bucket, BUCKETS, "buckets")
                rows = [
                    row
                    for patient in patients(connection, bucket, walk.exported)
                    for row in run.patient(patient)
                ]
                _write(out / f"bucket-{bucket:03d}.parquet", rows)
            progress(BUCKETS, BUCKETS, "buckets")
        _demand(run.check, phi)
        with sealing(research / "notes", stage) as draft:
            for file in sorted(out.iterdir()):
                shutil.move(file, draft.path)
            (draft.path / "README.txt").write_text(README)
            draft.facts |= run.facts() | {"model": model is not None}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return Notes(draft.result)


def notes_stage(tables: Sealed, walk: Crosswalk, model: Path | None, truth: Path | None) -> Stage:
    """What determines the notes."""
    inputs = {"tables": tables.digest, "crosswalk": walk.sealed.digest}
    if truth is not None:
        inputs["truth"] = hash_file(truth / TRUTH)
    if model is not None:
        inputs["model"] = hash_file(model) if model.is_file() else ""
    return Stage("notes", VERSION, inputs, hash_json([lexicon_hash(), patterns_hash()]))


def _made(landing: LandingZone, phi: Path, rules: Rules) -> tuple[Sealed, Crosswalk, Vocabulary]:
    """What the tables were made from; nothing of it is made anew."""
    extracted = extract(landing, phi, rules)
    walk = open_crosswalk(phi / rules.policy.crosswalk)
    if walk is None or walk.sealed.inputs["extract"] != extracted.digest:
        raise _refused("There are no research tables of what was landed")
    return extracted, walk, freeze_vocabulary(extracted, walk, phi, rules, declared=())


@dataclass
class _Run:
    """One run over all notes: what it has counted so far."""

    planted: Planted
    analyzer: Analyzer | None = None
    check: Check = field(default_factory=Check)
    measure: Measure = field(default_factory=Measure)
    left_out: Counter[str] = field(default_factory=Counter)
    replaced: Counter[str] = field(default_factory=Counter)
    written: int = 0

    def patient(self, patient: Patient) -> list[dict[str, Any]]:
        """The rows of one patient's notes; one whose analysis fails is left out and counted."""
        analyzer = self.analyzer
        if analyzer is None:
            raise RuntimeError("the analyzer is built before the first patient")
        own = analyzer.knowing(patient.known)
        stand_ins = StandIns.of(patient.timeline, patient.known)
        rows = []
        for note in patient.notes:
            try:
                replaced = stand_ins.replace(note.text, analyzer.find(note.text, own))
            except Exception:  # whatever it is: what could not be analysed does not pass
                self.left_out[FAILED] += 1
                continue
            rows.append(_row(note, replaced))
            self.replaced.update(replaced.counts)
            if self.planted:
                self.measure.add(note.text, replaced, self.planted.get(note.resource_id, ()))
        self.check.look(patient.known, [row["note"] for row in rows], analyzer.lexicon)
        self.written += len(rows)
        return rows

    def facts(self) -> dict[str, Any]:
        """The facts of the manifest: counts alone."""
        return {
            "label": LABEL,
            "buckets": BUCKETS,
            "notes": self.written,
            "left_out": dict(sorted(self.left_out.items())),
            "replaced": {kind: self.replaced[kind] for kind in KINDS},
            "proofs": [self.check.facts()],
            "measured": self.measure.facts() if self.planted else None,
        }


def _row(note: Note, replaced: Replaced) -> dict[str, Any]:
    return {
        "patient": note.patient,
        "time": note.time,
        "known_at": note.known_at,
        "encounter": note.encounter,
        "code": note.code,
        "note": replaced.text,
        **{f"replaced_{kind}": replaced.counts.get(kind, 0) for kind in KINDS},
    }


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    ordered = sorted(rows, key=lambda row: [(value is not None, value) for value in row.values()])
    table = pa.Table.from_pylist(ordered, schema=SCHEMA)
    pq.write_table(table, path, compression="zstd", write_statistics=False)


def _demand(check: Check, phi: Path) -> None:
    if check.passed:
        return
    ref = f"notes-{hash_json(check.facts())[:8]}"
    logs = phi / "logs"
    logs.mkdir(mode=0o700, exist_ok=True)
    log = logs / f"{ref}.log"
    log.touch(mode=0o600)
    log.write_text("\n".join(check.values) + "\n")
    what = "The check of the notes did not find its own negative control"
    if check.hits:
        found = ", ".join(f"{entity} {times}" for entity, times in sorted(check.hits.items()))
        what = f"What the records know of patients is left in their notes ({found})"
    raise FhirloomError(
        "proof-failed",
        what,
        where="notes; nothing was released",
        fix="Read the detail: a recognizer of deid/notes has to learn that way of writing.",
        ref=ref,
    )


def _refused(what: str) -> FhirloomError:
    return FhirloomError(
        "bad-input",
        what,
        where="research/tables",
        fix="Run `fhirloom deid` on this work folder first, without --limited-data-set.",
    )
