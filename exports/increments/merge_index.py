"""Where each row of a delivered zone lies, and what the zone says was deleted: read once, kept.

A sealed folder of `phi/landing-index/` for each zone: `rows/<Type>.parquet` with

    id, patient               logical ids; `patient` is whose record it is, null if nobody's
    named                     ids of all patients whom the row names anywhere, sorted
    linked                    of a Patient, those that are the same person; null if none
    file, line, offset, length    in the zone's folder: the line from 1, bytes as unpacked
    last_updated, content_hash    the version, as `exports.increments.versions` orders it

and `deleted.parquet` with `type` and `id` of what the server reports as deleted, and of what it
delivered and the landing left out: no older version of that stands either.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from exports.increments.links import PATIENT
from exports.increments.versions import good_lines, place
from exports.landing.ndjson import decoded
from exports.landing.screening import linked_patients, named_patients
from exports.landing.zone import LandedFile, LandingZone
from exports.progress import Progress, silent
from exports.sealed import Sealed, Stage, find_sealed, sealing

VERSION: Final = 3
BATCH: Final = 2**14
"""Rows held in memory at once."""
ROWS: Final = pa.schema(
    {
        "id": pa.string(),
        "patient": pa.string(),
        "named": pa.list_(pa.string()),
        "linked": pa.list_(pa.string()),
        "file": pa.string(),
        "line": pa.int64(),
        "offset": pa.int64(),
        "length": pa.int64(),
        "last_updated": pa.string(),
        "content_hash": pa.string(),
    }
)
DELETED: Final = pa.schema({"type": pa.string(), "id": pa.string()})


class _Owned(msgspec.Struct):
    """The elements that name whose record a resource is (FHIR R4, Patient compartment)."""

    subject: Any = None
    patient: Any = None
    beneficiary: Any = None
    individual: Any = None
    addressed: Any = msgspec.field(default=None, name="for")


class _Links(msgspec.Struct):
    link: Any = None


_read_owned: Final = msgspec.json.Decoder(_Owned)
_read_links: Final = msgspec.json.Decoder(_Links)


def files_of(zone: LandingZone, resource_type: str) -> Iterator[tuple[LandedFile, Path]]:
    """The zone's files with rows of that type, each with the path at which to read them."""
    files = [file for file in zone.files if file.type == resource_type and file.rows]
    return zip(files, zone.paths(resource_type), strict=True)


def index_zone(zone: LandingZone, phi: Path, *, progress: Progress = silent) -> Sealed:
    """The index of a delivered zone, made if it isn't there yet.

    Its facts hold `rows` by type, and how many were `deleted`.
    """
    stage = Stage("landing-index", VERSION, {"landing": zone.sealed.digest})
    if found := find_sealed(phi / "landing-index", stage):
        return found
    rows = zone.rows()
    with sealing(phi / "landing-index", stage, mode=0o700) as draft:
        (draft.path / "rows").mkdir(mode=0o700)
        for done, resource_type in enumerate(rows):
            progress(done, len(rows), "types indexed")
            target = draft.path / "rows" / f"{resource_type}.parquet"
            _write(target, ROWS, _placed(zone, resource_type))
        gone = chain(zone.deletions(), zone.withheld())
        told = ({"type": kind, "id": resource_id} for kind, resource_id in gone)
        deleted = _write(draft.path / "deleted.parquet", DELETED, told)
        draft.facts |= {"rows": rows, "deleted": deleted}
    progress(len(rows), len(rows), "types indexed")
    return draft.result


def owner(resource_type: str, resource_id: str, line: bytes) -> str | None:
    """The id of the patient whose record a resource is; None if it names none."""
    if resource_type == "Patient":
        return resource_id
    owned = decoded(_read_owned, line)
    for element in (
        owned.patient,
        owned.subject,
        owned.beneficiary,
        owned.individual,
        owned.addressed,
    ):
        # An Account has several subjects; it goes with the first one.
        for named in element if isinstance(element, list) else [element]:
            reference = named.get("reference") if isinstance(named, dict) else None
            if isinstance(reference, str) and (match := PATIENT.search(reference)):
                return match[1]
    return None


def _named(resource_type: str, resource_id: str, line: bytes) -> list[str]:
    themselves = {resource_id} if resource_type == "Patient" else set()
    return sorted(themselves.union(named.decode() for named in named_patients(line)))


def _linked(line: bytes) -> list[str] | None:
    return sorted(set(linked_patients({"link": decoded(_read_links, line).link}))) or None


def _placed(zone: LandingZone, resource_type: str) -> Iterator[dict[str, Any]]:
    for _, path in files_of(zone, resource_type):
        name = path.relative_to(zone.sealed.path).as_posix()
        for number, offset, line in good_lines(path):
            _, resource_id, version = place(line)
            yield {
                "id": resource_id,
                "patient": owner(resource_type, resource_id, line),
                "named": _named(resource_type, resource_id, line),
                "linked": _linked(line) if resource_type == "Patient" else None,
                "file": name,
                "line": number,
                "offset": offset,
                "length": len(line),
                "last_updated": version.updated,
                "content_hash": version.content,
            }


def _write(path: Path, schema: pa.Schema, rows: Iterable[Mapping[str, Any]]) -> int:
    written, rest = 0, iter(rows)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while batch := list(islice(rest, BATCH)):
            writer.write_table(pa.Table.from_pylist(batch, schema))
            written += len(batch)
    return written
