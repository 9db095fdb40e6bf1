"""How far a merge of increments has strayed from what the server holds, counted by type.

A server that doesn't report deletions leaves rows standing that are gone; one that forgets to
raise `meta.lastUpdated` leaves old ones. Both are measured against a full export.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import duckdb

from exports.increments.standing import Delivery, Standing
from exports.increments.versions import instant
from exports.progress import Progress, silent

FOLDER: Final = "landing-index"
COMPARED: Final = """
WITH later AS (SELECT id FROM read_parquet($full) WHERE last_updated > $as_of),
whole AS (SELECT * FROM read_parquet($full) ANTI JOIN later USING (id)),
merged AS (SELECT * FROM read_parquet($merged) ANTI JOIN later USING (id))
SELECT count(whole.id),
    count(*) FILTER (merged.id IS NULL),
    count(*) FILTER (whole.id IS NULL),
    count(*) FILTER (whole.content_hash <> merged.content_hash)
FROM whole FULL JOIN merged USING (id)
"""


@dataclass(frozen=True)
class Drift:
    """Rows of one type: all that the full export has, and those on which the two disagree.

    `missing` are in the full export alone, `extra` in the merge alone, `different` in both with
    another content. Rows that changed after the merge's time are in none of them.
    """

    rows: int
    missing: int
    extra: int
    different: int

    @property
    def none(self) -> bool:
        """Whether the two agree."""
        return not (self.missing or self.extra or self.different)


def measure_drift(
    phi: Path,
    merged: Sequence[Delivery],
    full: Sequence[Delivery],
    *,
    types: Collection[str] = (),
    as_of: datetime,
    progress: Progress = silent,
) -> dict[str, Drift]:
    """By type, how far a merge known up to `as_of` strayed from a full export made after it.

    `types` are those to compare (none named: all).
    """
    (phi / FOLDER).mkdir(mode=0o700, parents=True, exist_ok=True)
    with (
        TemporaryDirectory(prefix=".drift-", dir=phi / FOLDER) as work,
        Standing(phi, merged, Path(work) / "spill", progress=progress) as of_merged,
        Standing(phi, full, Path(work) / "spill-full", progress=progress) as of_full,
        duckdb.connect() as connection,
    ):
        found = {}
        for resource_type in sorted({*of_merged.types, *of_full.types}):
            if types and resource_type not in types:
                continue
            asked = {"as_of": instant(as_of.isoformat())}
            for name, standing in (("merged", of_merged), ("full", of_full)):
                path = Path(work) / f"{name}.parquet"
                standing.write(resource_type, path)
                asked[name] = str(path)
            found[resource_type] = Drift(*connection.execute(COMPARED, asked).fetchall()[0])
        return found
