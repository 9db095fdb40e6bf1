"""The numbers that identify patients, against the numbers of their rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import pyarrow as pa

from deid.engine import bind, connect, fetch
from deid.proofs.identifiers import SHORTEST_NUMBER
from deid.proofs.numbers import LONGEST_NUMBER
from deid.proofs.released import numeric_columns, parquet_files
from deid.sql_on_fhir.compiler import name, text

HELD: Final = 100_000
"""Numbers that are held in memory before DuckDB takes them."""
MEMORY: Final = "400MB"


class OwnNumbers:
    """Numbers by the patient's id; DuckDB holds them, and spills into the PHI zone.

    `patients` has `patient_id` and `surrogate`; of `sample` all numbers will be added.
    """

    def __init__(self, patients: pa.Table, sample: Sequence[str], spill: Path | None) -> None:
        self._connection = connect(spill)
        self._connection.execute(f"SET memory_limit = '{MEMORY}'")
        sampled = pa.table({"patient_id": pa.array(sample, pa.string())})
        bind(self._connection, {"patients": patients, "sampled": sampled})
        self._connection.execute("CREATE TEMP TABLE numbers (patient_id VARCHAR, n BIGINT)")
        everyone = len(patients["patient_id"].unique())
        self._share = len(sample) / everyone if everyone else 1.0
        self._held: set[tuple[str, int]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def add(self, patient_id: str, number: int) -> None:
        """A number of 6 to 18 digits that identifies a patient."""
        self._held.add((patient_id, number))
        if len(self._held) >= HELD:
            self._pass_on()

    def match(self) -> None:
        """After the last `add`: whose rows each number is to be held against."""
        self._pass_on()
        self._connection.execute(
            "CREATE TEMP TABLE own AS SELECT surrogate AS patient, n, length(n::VARCHAR) AS size, "
            "bool_or(patient_id IN (FROM sampled)) AS sampled "
            "FROM numbers JOIN patients USING (patient_id) GROUP BY ALL"
        )

    def found(self, patient_id: str, number: int) -> bool:
        """Whether a row that says this number of this patient would be a hit."""
        rows = fetch(
            self._connection,
            "SELECT surrogate AS patient, $2::BIGINT AS n FROM patients WHERE patient_id = $1 "
            "INTERSECT SELECT patient, n FROM own",
            patient_id,
            number,
        )
        return bool(rows.num_rows)

    def compare(self, folder: Path) -> tuple[dict[str, int], float]:
        """Hits by `table.column`: how many (patient, value) equal a number that is the patient's.

        Beside them stands how many there would be if the patients' numbers were drawn at random,
        each among those of its size; that is counted on the sample.
        """
        hits: dict[str, int] = {}
        chance = 0.0
        for table in sorted(path for path in folder.iterdir() if path.is_dir()):
            files = parquet_files(table)
            for row in self._compare(files).to_pylist():
                if row["hits"]:
                    hits[f"{table.name}.{row['field']}"] = row["hits"]
                chance += row["chance"] or 0.0
        return hits, chance / self._share

    def _compare(self, files: Sequence[Path]) -> pa.Table:
        columns = numeric_columns(files[0])
        read = f"read_parquet({[str(file) for file in files]})"
        fields = ", ".join(text(column) for column in columns)
        values = ", ".join(f"{_whole(name(column))}" for column in columns)
        return fetch(
            self._connection,
            "WITH released AS (SELECT DISTINCT patient, field, n FROM (SELECT patient, "
            f"unnest([{fields}]) AS field, unnest([{values}]) AS n FROM {read} "
            "WHERE patient IN (SELECT patient FROM own)) WHERE n IS NOT NULL), "
            "hit AS (SELECT field, count(*) AS hits FROM released SEMI JOIN own "
            "USING (patient, n) GROUP BY field), "
            "sized AS (SELECT patient, field, length(n::VARCHAR) AS size, count(*) AS many "
            "FROM released GROUP BY ALL), "
            "owned AS (SELECT patient, size, count(*) AS many FROM own WHERE sampled GROUP BY ALL),"
            " chance AS (SELECT field, sum(sized.many * owned.many / (9 * 10.0 ** (size - 1))) "
            "AS chance FROM sized JOIN owned USING (patient, size) GROUP BY field) "
            "SELECT field, coalesce(hits, 0) AS hits, chance FROM chance "
            "FULL JOIN hit USING (field)",
        )

    def _pass_on(self) -> None:
        ids, numbers = zip(*sorted(self._held), strict=True) if self._held else ((), ())
        held = {"patient_id": pa.array(ids, pa.string()), "n": pa.array(numbers, pa.int64())}
        bind(self._connection, {"held": pa.table(held)})
        self._connection.execute("INSERT INTO numbers FROM held")
        self._held.clear()


def _whole(column: str) -> str:
    """A whole value of 6 to 18 digits without its sign, or null."""
    bounds = f"abs({column}) BETWEEN 1e{SHORTEST_NUMBER - 1} AND 1e{LONGEST_NUMBER} - 1"
    return f"CASE WHEN {bounds} AND {column} = round({column}) THEN abs({column})::BIGINT END"
