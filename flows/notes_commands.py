"""The command of free text: notes are an output of their own, and only where they are asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from flows.answering import EPILOG, alone, answers, prepared, tell
from flows.options import JSON, NOTES_MODEL, WORK, with_full_paths
from flows.settings import load_settings
from flows.work import open_work


@click.command(epilog=EPILOG)
@NOTES_MODEL
@WORK
@JSON
@answers
def notes(work: Path, as_json: bool, notes_model: str | None) -> None:
    """Replace identifiers in free text: WORK/research/notes, which needs review.

    Of the patients in the research tables, the attachments of DocumentReference and
    DiagnosticReport. Notes are never de-identified by Safe Harbor: no search finds everything.
    """
    chosen = with_full_paths({"notes_model": notes_model}) if notes_model else {"notes_model": ""}
    kept = load_settings(open_work(work).phi)
    with prepared(work, replace(kept, notes=True, **chosen)) as folder:
        facts = alone(folder.path, "NOTES")
    tell(facts, as_json)
