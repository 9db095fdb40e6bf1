"""Which of the delivered rows stand: decided over the zones' indexes, out of core.

What stands: of each (type, id) the newest `meta.lastUpdated`; of equal ones that of the later
delivery, and within one delivery as `increments.versions` orders them. A deletion takes away what
earlier deliveries brought; what the same or a later one brings was there after it. A patient
who left takes along their record, as it was delivered up to then. A patient whom a landing left
out takes along every row that names them, and so does each that a standing `Patient.link` makes
the same person; they stay out until a delivery of everything.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from exports.increments.merge_index import index_zone
from exports.landing.screening import Exclusion, closed_over
from exports.landing.zone import LandingZone
from exports.progress import Progress, silent
from exports.sealed import Sealed

MEMORY: Final = "1GB"
"""What DuckDB may hold before it goes to the disk."""
DELETIONS: Final = """
CREATE TEMP TABLE deletions AS
SELECT type, id, max(position) AS position
FROM read_parquet($files, filename = true) JOIN places USING (filename) GROUP BY type, id
"""
NEWEST_FIRST: Final = "last_updated DESC, position DESC, content_hash DESC, file, line"
LINKS: Final = f"""
SELECT id, unnest(linked) FROM (
    SELECT id, linked
    FROM (
        SELECT * FROM read_parquet($files, filename = true) JOIN places USING (filename)
    ) AS delivered
    ANTI JOIN deletions ON deletions.id = delivered.id AND deletions.type = 'Patient'
        AND deletions.position > delivered.position
    QUALIFY row_number() OVER (PARTITION BY id ORDER BY {NEWEST_FIRST}) = 1
)
"""  # noqa: S608 - constants alone
REMAINING: Final = """
SELECT delivered.*,
    coalesce(deletions.position > delivered.position, false) AS deleted,
    naming.line IS NOT NULL
        OR coalesce(departures.position >= delivered.position, false) AS departed
FROM (
    SELECT * FROM read_parquet($files, filename = true) JOIN places USING (filename)
) AS delivered
LEFT JOIN deletions ON deletions.id = delivered.id AND deletions.type = $type
LEFT JOIN departures ON departures.patient = delivered.patient
LEFT JOIN (
    SELECT DISTINCT filename, file, line
    FROM (
        SELECT filename, file, line, unnest(named) AS patient
        FROM read_parquet($files, filename = true)
    ) SEMI JOIN excluded USING (patient)
) AS naming ON naming.filename = delivered.filename
    AND naming.file = delivered.file AND naming.line = delivered.line
"""
COUNTED: Final = f"""
SELECT count(*), count(*) FILTER (deleted), count(*) FILTER (departed AND NOT deleted)
FROM ({REMAINING})
"""  # noqa: S608 - constants alone
STANDING: Final = f"""
COPY (
    SELECT $type AS type, id, zone, file, line, "offset", length, last_updated, content_hash
    FROM ({REMAINING}) WHERE NOT deleted AND NOT departed
    QUALIFY row_number() OVER (
        PARTITION BY id ORDER BY {NEWEST_FIRST}
    ) = 1
    ORDER BY position, file, line
) TO $target (FORMAT parquet, COMPRESSION zstd)
"""  # noqa: S608 - constants alone

INDEX: Final = pa.schema(
    {
        "type": pa.string(),
        "id": pa.string(),
        "zone": pa.string(),
        "file": pa.string(),
        "line": pa.int64(),
        "offset": pa.int64(),
        "length": pa.int64(),
        "last_updated": pa.string(),
        "content_hash": pa.string(),
    }
)
IN_FILES: Final = "SELECT zone, file, count(*) FROM read_parquet($1) GROUP BY zone, file"
LINES: Final = """
SELECT line FROM read_parquet($1) WHERE zone = $2 AND file = $3 ORDER BY line
"""


@dataclass(frozen=True)
class Delivery:
    """A delivered zone's part in a merge.

    `whole`: the types of which it delivers all that there is (None: all types), so that nothing
    older of them stands. `left`: ids of the patients who had left when it was made.
    """

    zone: LandingZone
    whole: frozenset[str] | None = frozenset()
    left: frozenset[str] = frozenset()


class Standing(AbstractContextManager["Standing"]):
    """The standing rows of deliveries, oldest first; `spill` is a folder to work in."""

    def __init__(
        self,
        phi: Path,
        deliveries: Sequence[Delivery],
        spill: Path,
        *,
        progress: Progress = silent,
    ) -> None:
        self._deliveries = deliveries
        self._indexes = [index_zone(part.zone, phi, progress=progress) for part in deliveries]
        self._written: Path | None = None
        self._in_file: dict[tuple[str, str], int] = {}
        self._rows = self._row_files()
        self._connection = duckdb.connect(
            config={
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
                "temp_directory": str(spill),
                "memory_limit": MEMORY,
            }
        )
        self._connection.execute("SET enable_progress_bar = false")
        self._connection.register("places", self._places())
        self._connection.register("departures", self._departures())
        files = [str(index.path / "deleted.parquet") for index in self._indexes]
        self._connection.execute(DELETIONS, {"files": files})
        self._connection.register("excluded", self._excluded())

    def __exit__(self, *raised: object) -> None:
        self._connection.close()

    @property
    def types(self) -> list[str]:
        """The types that were delivered, without those of which a later delivery brings none."""
        return list(self._rows)

    def write(self, resource_type: str, target: Path) -> dict[str, int]:
        """Write the standing rows of one type to a Parquet file, and count what became of all.

        The counts are those of rows `standing`, `deleted`, of patients who `departed`, and
        `superseded` by another version. Rows of one zone and file lie together, in its order.
        """
        files = self._rows.get(resource_type)
        if files is None:
            pq.write_table(INDEX.empty_table(), target)
            self._in_file = {}
            return {}
        asked = {"type": resource_type, "files": files}
        total, deleted, departed = self._connection.execute(COUNTED, asked).fetchall()[0]
        self._connection.execute(STANDING, {**asked, "target": str(target)})
        self._written = target
        counted = self._connection.execute(IN_FILES, [str(target)]).fetchall()
        self._in_file = {(zone, file): rows for zone, file, rows in counted}
        standing = sum(self._in_file.values())
        return {
            "standing": standing,
            "deleted": deleted,
            "departed": departed,
            "superseded": total - deleted - departed - standing,
        }

    def rows_in(self, zone: LandingZone, file: str) -> int:
        """How many rows of that file stand, of the type written last."""
        return self._in_file.get((zone.sealed.path.name, file), 0)

    def lines_in(self, zone: LandingZone, file: str) -> NDArray[np.int64]:
        """Their line numbers, from 1, ascending."""
        place = [str(self._written), zone.sealed.path.name, file]
        return np.asarray(self._connection.execute(LINES, place).fetchnumpy()["line"], np.int64)

    def _row_files(self) -> dict[str, list[str]]:
        """By type, the indexes of its rows, from the last delivery that brought all of them on."""
        files: dict[str, list[str]] = {}
        for part, index in zip(self._deliveries, self._indexes, strict=True):
            for resource_type in list(files):
                if part.whole is None or resource_type in part.whole:
                    del files[resource_type]
            for resource_type in index.facts["rows"]:
                files.setdefault(resource_type, []).append(str(_rows(index, resource_type)))
        return dict(sorted(files.items()))

    def _places(self) -> pa.Table:
        """Which delivery each index file belongs to."""
        return pa.Table.from_pylist(
            [
                {"filename": str(path), "position": position, "zone": part.zone.sealed.path.name}
                for position, (part, index) in enumerate(
                    zip(self._deliveries, self._indexes, strict=True)
                )
                for path in (
                    index.path / "deleted.parquet",
                    *(_rows(index, name) for name in index.facts["rows"]),
                )
            ]
        )

    def _departures(self) -> pa.Table:
        last = {
            patient: position
            for position, part in enumerate(self._deliveries)
            for patient in sorted(part.left)
        }
        return pa.table(
            {
                "patient": pa.array(last, pa.string()),
                "position": pa.array(last.values(), pa.int64()),
            }
        )

    def _excluded(self) -> pa.Table:
        """Who must not be in it, with all who are the same person by what stands."""
        excluded: dict[str, Exclusion] = {}
        for part in self._deliveries:
            # A delivery of everything was screened by itself.
            known = {} if part.whole is None else excluded
            excluded = part.zone.excluded_patients() | known
        if excluded and (files := self._rows.get("Patient")):
            links: defaultdict[str, set[str]] = defaultdict(set)
            for patient, other in self._connection.execute(LINKS, {"files": files}).fetchall():
                links[patient].add(other)
                links[other].add(patient)
            excluded = closed_over(excluded, links)
        return pa.table({"patient": pa.array(excluded, pa.string())})


def _rows(index: Sealed, resource_type: str) -> Path:
    return index.path / "rows" / f"{resource_type}.parquet"
