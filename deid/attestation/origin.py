"""The account that a run leaves in its tables' manifest, for every attestation to come."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any

from deid.attestation.code import code_facts
from deid.attestation.paths import path_facts
from deid.rules import Rules
from exports.landing.zone import LandingZone
from exports.progress import Progress, silent
from exports.sealed import Sealed


def origin(
    landing: LandingZone,
    extracted: Sealed,
    exported: datetime,
    rules: Rules,
    *,
    spill: Path,
    progress: Progress = silent,
) -> dict[str, Any]:
    """What the tables come from, told without values: code, export, files and element paths.

    `exported` is the moment up to which the export is whole. Its day is told where the server or
    the operator named it; else it was read off the records, and is a date of somebody's. Files have
    numbers: what they are called, and the hash of one with a single patient, stays in `phi/`.
    """
    told = landing.transaction_time is not None
    return {
        "code": code_facts(),
        "export": exported.date().isoformat() if told else None,
        "landing": landing.sealed.digest,
        "files": _files(landing, extracted, rules),
        "paths": path_facts(landing, rules, spill=spill, progress=progress),
    }


def _files(landing: LandingZone, extracted: Sealed, rules: Rules) -> list[dict[str, Any]]:
    """Each landed file's rows of one type, and what became of them in the views of that type."""
    readers = defaultdict(list)
    for view in (*rules.auxiliary, *rules.views):
        readers[view.view.resource].append(view.name)
    balances = extracted.facts["files"]
    return [
        {
            "number": number,
            "type": file.type,
            "rows": file.rows,
            "quarantined": file.quarantined,
            "excluded": file.excluded,
            "narrowed": file.narrowed,
            "views": {
                view: counted
                for view, counted in balances[file.name]["views"].items()
                if view in readers.get(file.type, [f"no view of {file.type}"])
            },
        }
        for number, file in enumerate(landing.files, 1)
    ]
