"""The sandbox's true risks by surrogate, so that a model can be held against what is knowable."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pyarrow.parquet as pq

from deid.engine import bind, connect, fetch
from deid.identity.custody import Crosswalk
from exports.sealed import Sealed, Stage, find_sealed, hash_file, sealing

VERSION: Final = 1
FILE: Final = "oracle.parquet"


def write_oracle(truth: Path, crosswalk: Crosswalk, research: Path) -> Sealed:
    """Write `oracle.parquet` (patient, encounter, risk) from the truth's `risks.parquet`.

    Only sandbox runs have a truth; nothing else may call this.
    """
    risks = truth / "risks.parquet"
    stage = Stage(
        "oracle", VERSION, {"crosswalk": crosswalk.sealed.digest, "risks": hash_file(risks)}
    )
    root = research / "oracle"
    if found := find_sealed(root, stage):
        return found
    with sealing(root, stage) as draft, connect() as connection:
        bind(
            connection,
            {
                "risks": risks,
                "patients": crosswalk.read("patients"),
                "encounters": crosswalk.read("encounters"),
            },
        )
        table = fetch(
            connection,
            "SELECT p.surrogate AS patient, e.surrogate AS encounter, risk FROM risks "
            "JOIN encounters AS e USING (encounter_id) JOIN patients AS p USING (patient_id) "
            "ORDER BY ALL",
        )
        pq.write_table(table, draft.path / FILE)
        draft.facts["rows"] = table.num_rows
    return draft.result
