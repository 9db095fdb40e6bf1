"""Notes end to end: from FHIR resources to `research/notes`, and what must not get there."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deid.deidentify import Deidentified
from deid.notes.attachments import ELSEWHERE
from deid.notes.known_recognizer import KnownRecognizer
from deid.notes.name_recognizer import NameRecognizer
from deid.notes.notes import FAILED, LABEL, Notes, deidentify_notes
from deid.rules import load_rules
from exports.errors import FhirloomError
from exports.landing.zone import open_landing
from tests.deid.resources import Resource, encounter

RULES = load_rules().only({"note", "diagnostic_report"})
TEXT = (
    "Patient: Quillfeather, Marguerite  MRN: 55443322\nDOB: 1950-03-04\n"
    "Seen on 2021-02-04 by Dr. Brzezinski. BP 120/80. marguerite quillfeather is stable."
)


def patient() -> Resource:
    return {
        "resourceType": "Patient",
        "id": "p1",
        "birthDate": "1950-03-04",
        "name": [{"family": "Quillfeather", "given": ["Marguerite"]}],
        "identifier": [{"value": "55443322"}],
    }


def document(key: str, *attachments: Resource, **more: Any) -> Resource:
    return {
        "resourceType": "DocumentReference",
        "id": key,
        "status": "current",
        "subject": {"reference": "Patient/p1"},
        "date": "2021-02-04T12:00:00Z",
        "content": [{"attachment": attachment} for attachment in attachments],
        **more,
    }


def attachment(text: str = TEXT, kind: str = "text/plain", code: str = "utf-8") -> Resource:
    return {"contentType": kind, "data": b64encode(text.encode(code)).decode()}


WritesNotes = Callable[[Sequence[Resource]], Notes]


@pytest.fixture
def write(run: Callable[..., Deidentified], tmp_path: Path) -> WritesNotes:
    def written(resources: Sequence[Resource]) -> Notes:
        run([patient(), encounter("e1", "2021-02-01", "2021-02-05"), *resources], rules=RULES)
        work = tmp_path / "work"
        return deidentify_notes(open_landing(work / "phi"), work, rules=RULES)

    return written


def rows(notes: Notes) -> list[dict[str, Any]]:
    read = pa.concat_tables([notes.read(bucket) for bucket in range(notes.sealed.facts["buckets"])])
    found: list[dict[str, Any]] = read.to_pylist()
    return found


def test_a_note_is_readable_and_tells_nobody(write: WritesNotes) -> None:
    (row,) = rows(write([document("d1", attachment())]))
    assert row["note"] == (
        "Patient: [PATIENT]  MRN: [MRN]\nDOB: [DATE]\n"
        "Seen on [day +3] by Dr. [CLINICIAN-1]. BP 120/80. [PATIENT] is stable."
    )
    assert (row["replaced_names"], row["replaced_dates"], row["replaced_numbers"]) == (3, 2, 1)


def test_notes_are_labelled_wherever_they_are_told_of(write: WritesNotes) -> None:
    notes = write([document("d1", attachment())])
    schema = pq.read_schema(notes.sealed.path / "bucket-000.parquet")
    assert notes.sealed.facts["label"] == LABEL
    assert schema.metadata[b"label"] == schema.field("note").metadata[b"label"] == LABEL.encode()
    assert "NEED REVIEW" in (notes.sealed.path / "README.txt").read_text()


def test_what_cannot_be_read_is_counted_and_never_passed_through(write: WritesNotes) -> None:
    report = {
        "resourceType": "DiagnosticReport",
        "id": "r1",
        "status": "final",
        "subject": {"reference": "Patient/p1"},
        "effectiveDateTime": "2021-02-04T12:00:00Z",
        "presentedForm": [attachment("<p>Ms. <b>Quillfeather</b> is well</p>", "text/html")],
    }
    held = {"resourceType": "Binary", "id": "b1", **attachment("Ms. Quillfeather, in a Binary")}
    notes = write(
        [
            report,
            held,
            document(
                "latin", attachment("señora Quillfeather", "text/plain; charset=latin-1", "latin-1")
            ),
            document("binary", {"url": "https://ehr.example.org/fhir/Binary/b1"}),
            document("elsewhere", {"url": "https://ehr.example.org/files/1.txt"}),
            document("pdf", attachment("%PDF", "application/pdf")),
            document("mojibake", attachment("señora Quillfeather", code="latin-1")),
            document("withdrawn", attachment(), status="entered-in-error"),
            document("two", attachment("<p>as a page</p>", "text/html"), attachment("as text")),
        ]
    )
    assert sorted(row["note"] for row in rows(notes)) == [
        "Ms. [PATIENT] is well",
        "Ms. [PATIENT], in a Binary",
        "as text",
        "señora [PATIENT]",
    ]
    assert notes.sealed.facts["left_out"] == {
        "another form of the same note": 1,
        "content type not supported": 1,
        "entered-in-error": 1,
        "not decodable": 1,
        ELSEWHERE: 1,
    }


def test_the_same_input_gives_the_same_digest(write: WritesNotes, tmp_path: Path) -> None:
    first = write([document("d1", attachment()), document("d2", attachment("Mr. Okonkwo"))]).sealed
    (first.path / "manifest.json").unlink()
    work = tmp_path / "work"
    again = deidentify_notes(open_landing(work / "phi"), work, rules=RULES).sealed
    assert (again.fresh, again.digest) == (True, first.digest)
    assert deidentify_notes(open_landing(work / "phi"), work, rules=RULES).sealed.fresh is False


def test_a_note_whose_analysis_raises_is_left_out(
    write: WritesNotes, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = NameRecognizer.analyze

    def raising(self: NameRecognizer, text: str, *args: Any, **options: Any) -> Any:
        if "poison" in text:
            raise TimeoutError
        return looked(self, text, *args, **options)

    monkeypatch.setattr(NameRecognizer, "analyze", raising)
    notes = write([document("d1", attachment()), document("d2", attachment("poison Quillfeather"))])
    assert len(rows(notes)) == 1
    assert notes.sealed.facts["left_out"] == {FAILED: 1}


def test_negative_control_a_blind_recognizer_releases_nothing(
    write: WritesNotes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(KnownRecognizer, "analyze", lambda *_, **__: [])
    with pytest.raises(FhirloomError) as refused:
        write([document("d1", attachment())])
    assert refused.value.code == "proof-failed"
    assert "quillfeather" not in str(refused.value).lower()
    assert not (tmp_path / "work" / "research" / "notes").exists()
    assert not (tmp_path / "work" / "phi" / "notes").exists()
    log = tmp_path / "work" / "phi" / "logs" / f"{refused.value.ref}.log"
    assert "quillfeather" in log.read_text()


@pytest.mark.parametrize("model", ["en_core_web_lg", "/nowhere/model"])
def test_a_model_that_is_not_here_is_refused(
    write: WritesNotes, tmp_path: Path, model: str
) -> None:
    write([document("d1", attachment())])
    config = tmp_path / "model.json"
    config.write_text(
        json.dumps(
            {"nlp_engine_name": "spacy", "models": [{"lang_code": "en", "model_name": model}]}
        )
    )
    work = tmp_path / "work"
    with pytest.raises(FhirloomError, match="not a folder on this disk"):
        deidentify_notes(open_landing(work / "phi"), work, rules=RULES, model=config)


def test_a_model_on_this_disk_is_used(write: WritesNotes, tmp_path: Path) -> None:
    import spacy

    model = spacy.blank("en")
    model.add_pipe("entity_ruler").add_patterns([{"label": "PERSON", "pattern": "stable"}])  # type: ignore[attr-defined]
    model.to_disk(tmp_path / "model")
    write([document("d1", attachment())])
    config = tmp_path / "model.yaml"
    config.write_text(
        "nlp_engine_name: spacy\nmodels:\n  - lang_code: en\n"
        f"    model_name: {tmp_path / 'model'}\n"
    )
    work = tmp_path / "work"
    (row,) = rows(deidentify_notes(open_landing(work / "phi"), work, rules=RULES, model=config))
    assert "stable" not in row["note"]
