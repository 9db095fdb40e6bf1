"""From the parts of a search to a landing zone: one file a type, each resource once, reconciled."""

from __future__ import annotations

import shutil
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import orjson

from exports.landing.delivery import take
from exports.landing.export_log import EventLog
from exports.landing.narrowing import Narrowing
from exports.landing.ndjson import judge
from exports.landing.provenance import write_provenance
from exports.landing.sieve import Sieve
from exports.landing.zone import Arrival, LandingZone, find_landing, seal_landing
from exports.options import ExportOptions
from exports.progress import Progress
from exports.request import ExportRequest
from exports.sealed import hash_json
from exports.search.compartment import REFERENCED
from exports.search.findings import of_plan, of_remarks, of_type
from exports.search.parts import Part, Parts, Plan

MERGED: Final = "merged"
REMARKS: Final = "OperationOutcome.ndjson"
OUTCOME_TYPE: Final = "OperationOutcome"
OUTCOME: Final = OUTCOME_TYPE.encode()
GZIP: Final = 31


@dataclass(frozen=True)
class Reading:
    """What has been read: by the plan, and of each type whether the server offers it."""

    plan: Plan
    offered: Mapping[str, bool]


def seal_parts(
    phi: Path,
    request: ExportRequest,
    parts: Parts,
    reading: Reading,
    *,
    options: ExportOptions,
    progress: Progress,
    log: EventLog,
) -> LandingZone:
    """Seal what the parts hold, and record that it is sealed.

    Raises `FhirloomError` (incomplete) where the policy says so.
    """
    policy, began_at = options.policy, time.monotonic()
    merged = parts.folder / MERGED
    shutil.rmtree(merged, ignore_errors=True)
    for kind in ("files", "errors"):
        (merged / kind).mkdir(mode=0o700, parents=True)
    remarks = merged / "errors" / REMARKS
    arrivals: list[Arrival] = []
    server_rows: dict[str, int] = {}
    findings = list(of_plan(reading.plan, policy))
    told = 0
    for name in sorted(reading.offered):
        found = parts.records(name)
        lines = _Lines(parts.files(name), _narrowing(request, name, found), remarks)
        path = merged / "files" / f"{name}.ndjson.gz"
        arrivals.append(Arrival(path.name, name, take(_packed(lines), path)))
        told += lines.remarks
        totals = [part.total for part in found if part.total is not None]
        if reading.offered[name] and len(totals) == len(found):
            server_rows[name] = sum(totals) - sum(part.matches for part in found) + lines.kept
        findings += of_type(name, reading.offered[name], found, lines.passed_over, policy)
        event = {"fileUrl": f"{request.base}/{name}", "resourceCount": lines.kept}
        log.event("download_complete", {**event, "fileSize": arrivals[-1].delivered.bytes})
    if told:
        findings += of_remarks(remarks, policy)
    sieve = Sieve(options.screen)
    began = reading.plan.began.isoformat()
    spec = hash_json(
        {
            "source": "search",
            "scope": request.scope,
            "transaction_time": began,
            "files": [[arrival.name, arrival.delivered.sha256] for arrival in arrivals],
            "sieve": sieve.digest,
        }
    )

    def bring(folder: Path) -> list[Arrival]:
        for path in sorted(merged.rglob("*.ndjson*")):
            target = folder / path.relative_to(merged)
            target.parent.mkdir(mode=0o700, exist_ok=True)
            path.rename(target)
        return arrivals

    facts = {
        "source": "search",
        "transaction_time": began,
        "server_rows": server_rows,
        "errors": told,
        "deleted_reported": False,
    }
    zone = find_landing(phi, spec)
    if zone is None:
        zone = seal_landing(
            phi,
            spec,
            bring,
            facts,
            sieve=sieve,
            findings=findings,
            policy=policy,
            progress=progress,
        )
    write_provenance(phi, zone, {a.name: f"{request.base}/{a.declared_type}" for a in arrivals})
    parts.landed(spec, options.screen.scope)
    sizes = {"files": len(arrivals), "bytes": sum(a.delivered.bytes for a in arrivals)}
    rows, took = sum(zone.rows().values()), round(1000 * (time.monotonic() - began_at))
    log.event("export_complete", {**sizes, "resources": rows, "attachments": 0, "duration": took})
    return zone


class _Lines:
    """The lines of a type's parts, each resource once; the server's remarks go to a file.

    `kept` are good lines, `passed_over` those that the server should have left out, `remarks`
    the OperationOutcomes.
    """

    def __init__(self, files: Sequence[Path], narrowing: Narrowing, remarks: Path) -> None:
        self._files = files
        self._narrowing = narrowing
        self._remarks = remarks
        self.kept = self.passed_over = self.remarks = 0

    def __iter__(self) -> Iterator[bytes]:
        seen: set[str] = set()
        for path in self._files:
            with path.open("rb") as lines:
                # In the order of their ids: searches in another order give equal files.
                for resource_id, offset in sorted(self._places(lines)):
                    lines.seek(offset)
                    line = lines.readline()
                    if not resource_id:
                        yield line
                    elif resource_id not in seen:
                        seen.add(resource_id)
                        yield from self._narrowed(line)

    def _places(self, lines: BinaryIO) -> Iterator[tuple[str, int]]:
        """(id, offset) of each line but remarks; the id of a bad line is ""."""
        offset = 0
        for line in lines:
            if OUTCOME in line and orjson.loads(line).get("resourceType") == OUTCOME_TYPE:
                self._remark(line)
            else:
                verdict = judge(line)
                yield verdict[1] if isinstance(verdict, tuple) else "", offset
            offset += len(line)

    def _narrowed(self, line: bytes) -> Iterator[bytes]:
        narrowed = self._narrowing.line_of(line.rstrip(b"\n"))
        if narrowed is None:
            self.passed_over += 1
        else:
            self.kept += 1
            yield narrowed + b"\n"

    def _remark(self, line: bytes) -> None:
        self.remarks += 1
        with self._remarks.open("ab") as remarks:
            remarks.write(line)


def _narrowing(request: ExportRequest, name: str, found: Sequence[Part]) -> Narrowing:
    """What the server may not have applied; a Medication is needed whenever it changed."""
    bounded, wider = name not in REFERENCED, any(part.wider for part in found)
    of_type = (text for text in request.type_filters if text.partition("?")[0] == name)
    return Narrowing(
        since=request.since if bounded else None,
        until=request.until if bounded else None,
        elements=request.elements,
        type_filters=tuple(of_type) if wider else (),
    )


def _packed(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Lines as gzip, without a time in its header: equal lines give equal bytes."""
    packer = zlib.compressobj(wbits=GZIP)
    for line in lines:
        if chunk := packer.compress(line):
            yield chunk
    yield packer.flush()
