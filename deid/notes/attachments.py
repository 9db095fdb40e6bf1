"""The texts of a landing zone, and what its records know, put down in the PHI zone by resource.

    texts.parquet     resource, id, patient_id (as delivered), written, standing, hash, place,
                      binary_id; text, or unread: why there is none
    binaries.parquet  binary_id; text, or unread
    known.parquet     patient_id (empty: everyone's), entity, value

A note is attached to a DocumentReference or a DiagnosticReport, in it or in a Binary beside it.
"""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.parquet as pq

from deid.notes.known import TYPES, known_of
from deid.notes.reading import PREFERRED, NotReadError, media_type, read_attachment
from exports.landing.ndjson import load
from exports.landing.zone import LandingZone
from exports.progress import Progress, silent

NOTES: Final = ("DocumentReference", "DiagnosticReport")
WITHDRAWN: Final = frozenset({"entered-in-error", "superseded", "cancelled", "registered"})
ELSEWHERE: Final = "not here"
"""What an attachment is counted under that is only a reference to somewhere else."""
TEXTS: Final = pa.schema(
    {
        "resource": pa.string(),
        "id": pa.string(),
        "patient_id": pa.string(),
        "written": pa.string(),
        "standing": pa.bool_(),
        "hash": pa.string(),
        "place": pa.int32(),
        "form": pa.int32(),
        "binary_id": pa.string(),
        "text": pa.string(),
        "unread": pa.string(),
    }
)
BINARIES: Final = pa.schema(
    {"binary_id": pa.string(), "form": pa.int32(), "text": pa.string(), "unread": pa.string()}
)
KNOWN: Final = pa.schema({"patient_id": pa.string(), "entity": pa.string(), "value": pa.string()})
BATCH: Final = 4096
_BINARY: Final = re.compile(r"(?:^|/)Binary/([A-Za-z0-9.-]{1,64})(?:/_history/[^/]+)?$")
_SUBJECT: Final = re.compile(r"(?:^|/)Patient/([A-Za-z0-9.-]{1,64})(?:/_history/[^/]+)?$")


@dataclass(frozen=True)
class _Read:
    """An attachment: its rank among the forms of a document, and its text or the lack of it."""

    form: int
    text: str | None
    unread: str | None


def gather(landing: LandingZone, folder: Path, *, progress: Progress = silent) -> None:
    """Write the three tables into `folder`, which is in the PHI zone."""
    wanted: set[str] = set()
    kinds = [kind for kind in (*NOTES, "Binary", *TYPES) if kind in landing.rows()]
    with (
        _Writer(folder / "texts.parquet", TEXTS) as texts,
        _Writer(folder / "binaries.parquet", BINARIES) as binaries,
        _Writer(folder / "known.parquet", KNOWN) as known,
    ):
        for done, kind in enumerate(kinds):
            progress(done, len(kinds), "resource types")
            for line in _lines(landing, kind):
                if kind == "Binary":
                    resource = load(line)
                    if resource["id"] in wanted:
                        read = _read(resource.get("contentType"), resource.get("data"))
                        binaries.add((resource["id"], *astuple(read)))
                elif kind not in NOTES or b'"attachment"' in line or b'"presentedForm"' in line:
                    resource = load(line)
                    if kind in NOTES:
                        for row in _texts(resource, line):
                            texts.add(row)
                            wanted.add(row[8])
                    for item in known_of(resource):
                        known.add(astuple(item))
        progress(len(kinds), len(kinds), "resource types")


def _lines(landing: LandingZone, kind: str) -> Iterator[bytes]:
    for path in landing.paths(kind):
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield from (line for line in file if line.strip())


def _texts(resource: dict[str, Any], line: bytes) -> Iterator[tuple[Any, ...]]:
    """A row for each attachment."""
    kind = resource["resourceType"]
    if kind == "DiagnosticReport":
        attached = resource.get("presentedForm") or ()
    else:
        attached = [item.get("attachment") for item in resource.get("content") or ()]
    subject = (resource.get("subject") or {}).get("reference") or ""
    whose = _SUBJECT.search(subject)
    head = (
        kind,
        resource["id"],
        whose[1] if whose else None,
        (resource.get("meta") or {}).get("lastUpdated"),
        resource.get("status") not in WITHDRAWN,
        hashlib.sha256(line).hexdigest(),
    )
    for place, attachment in enumerate(item for item in attached if item):
        if attachment.get("data"):
            read = _read(attachment.get("contentType"), attachment["data"])
            yield (*head, place, read.form, "", read.text, read.unread)
        else:
            found = _BINARY.search(attachment.get("url") or "")
            yield (*head, place, len(PREFERRED), found[1] if found else "", None, ELSEWHERE)


def _read(content_type: Any, data: Any) -> _Read:
    kind, _ = media_type(str(content_type or ""))
    form = PREFERRED.index(kind) if kind in PREFERRED else len(PREFERRED)
    try:
        return _Read(form, read_attachment(str(content_type or ""), str(data or "")), None)
    except NotReadError as error:
        return _Read(form, None, error.reason)


class _Writer:
    """Rows to a Parquet file, in bounded memory."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self.writer = pq.ParquetWriter(path, schema, compression="zstd")
        self.schema = schema
        self.rows: list[tuple[Any, ...]] = []

    def add(self, row: tuple[Any, ...]) -> None:
        """Add a row."""
        self.rows.append(row)
        if len(self.rows) >= BATCH:
            self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._flush()
        self.writer.close()

    def _flush(self) -> None:
        columns = zip(*self.rows, strict=True) if self.rows else [() for _ in self.schema]
        arrays = [
            pa.array(column, field.type) for column, field in zip(columns, self.schema, strict=True)
        ]
        self.writer.write_table(pa.Table.from_arrays(arrays, schema=self.schema))
        self.rows.clear()
