"""The files of one narrowed export: filtered from the server's own, row by row.

Source: FHIR Bulk Data Access 3.0.0, "Bulk Data Output File Organization" for blocks by patient;
2.0.0, "Complete Status" for deletions, which are lines of transaction Bundles.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Final

import orjson

from exports.landing.delivery import file_chunks
from exports.landing.ndjson import BLANKS, read_lines, unpack
from exports.progress import Progress
from exports.sandbox.cohort import patient_of
from exports.sandbox.elements import Resource
from exports.sandbox.order import ExportOrder
from exports.sandbox.outcomes import operation_outcome
from exports.sandbox.prepared import PreparedFiles
from exports.sandbox.rotating import ExportedFile, RotatingFiles
from exports.sandbox.selection import Selection
from exports.sandbox.source import Deletion, SourceFile

BUCKETS: Final = 16
DELETIONS_A_BUNDLE: Final = 100
Line = tuple[Resource, bytes]


@dataclass(frozen=True)
class JobFiles:
    """Makes the files of one order from the server's prepared ones."""

    order: ExportOrder
    prepared: PreparedFiles
    deletions: Sequence[Deletion]
    rows_per_file: int

    def __call__(self, folder: Path, progress: Progress) -> list[SourceFile]:
        """Write the files into `folder`, telling how far it is."""
        selected = self._selected(progress)
        if self.order.organize_by:
            output = self._by_patient(folder, selected)
        else:
            output = self._by_type(folder, selected)
        return [*output, *self._deleted(folder), *self._outcomes(folder)]

    def _selected(self, progress: Progress) -> Iterator[Line]:
        selection = Selection(self.order)
        files = [file for file in self.prepared.wait() if self.order.wants(file.type)]
        for done, file in enumerate(files, start=1):
            for line in _lines(self.prepared.path(file.name)):
                resource = selection.of(orjson.loads(line))
                if resource is not None:
                    yield resource, orjson.dumps(resource) if selection.rewrites else line
            progress(done, len(files), "files")

    def _by_type(self, folder: Path, selected: Iterable[Line]) -> list[SourceFile]:
        with RotatingFiles(folder, self.rows_per_file) as files:
            for resource, line in selected:
                files.add_line(resource["resourceType"], line)
        return [SourceFile(file.name, file.type, file.rows) for file in files.written.files]

    def _by_patient(self, folder: Path, selected: Iterable[Line]) -> list[SourceFile]:
        """One block a patient. What belongs to nobody stands in the first block of all."""
        spool = folder / "spool"
        spool.mkdir()
        with ExitStack() as stack:
            opened = [
                stack.enter_context((spool / f"{number}").open("wb")) for number in range(BUCKETS)
            ]
            for resource, line in selected:
                patient = patient_of(resource)
                bucket = sha256(patient.encode()).digest()[0] % BUCKETS if patient else 0
                opened[bucket].write(line + b"\n")
        with RotatingFiles(folder, self.rows_per_file) as files:
            for number in range(BUCKETS):
                for line in _blocks((spool / f"{number}").read_bytes().splitlines()):
                    files.add_line("Patients", line)
        shutil.rmtree(spool)
        return [SourceFile(file.name, "", file.rows) for file in files.written.files]

    def _deleted(self, folder: Path) -> list[SourceFile]:
        since, until = self.order.since_time, self.order.until_time
        if since is None:
            return []
        gone = iter(
            each
            for each in self.deletions
            if since < each.at
            and (until is None or each.at <= until)
            and self.order.wants(each.type)
        )
        bundles = []
        while batch := list(islice(gone, DELETIONS_A_BUNDLE)):
            entries = [
                {"request": {"method": "DELETE", "url": f"{each.type}/{each.id}"}} for each in batch
            ]
            bundles.append({"resourceType": "Bundle", "type": "transaction", "entry": entries})
        written = _write_all(folder, "Deleted", bundles)
        return [SourceFile(file.name, "Bundle", file.rows, "deleted") for file in written]

    def _outcomes(self, folder: Path) -> list[SourceFile]:
        passed_over = [
            operation_outcome("information", "not-supported", f"The parameter {name} was ignored.")
            for name in self.order.ignored
        ]
        written = _write_all(folder, "Outcome", passed_over)
        kind = "OperationOutcome"
        return [
            SourceFile(file.name, kind, file.rows, "outcome", {"information": file.rows})
            for file in written
        ]


def _lines(path: Path) -> Iterator[bytes]:
    for _, _, line in read_lines(unpack(file_chunks(path))):
        if line.strip(BLANKS):
            yield line


def _blocks(lines: Iterable[bytes]) -> Iterator[bytes]:
    patients: dict[str, list[bytes]] = {}
    for line in lines:
        resource = orjson.loads(line)
        own = patients.setdefault(patient_of(resource), [])
        if resource["resourceType"] == "Patient":
            own.insert(0, line)
        else:
            own.append(line)
    nobodys = patients.pop("", [])
    for patient, own in patients.items():
        reference = {"name": "header", "valueReference": {"reference": f"Patient/{patient}"}}
        yield orjson.dumps({"resourceType": "Parameters", "parameter": [reference]})
        yield from own
        yield from nobodys
        nobodys = []
    yield from nobodys


def _write_all(folder: Path, name: str, resources: Sequence[Resource]) -> Iterable[ExportedFile]:
    if not resources:
        return ()
    with RotatingFiles(folder, len(resources)) as files:
        for resource in resources:
            files.add_line(name, orjson.dumps(resource))
    return files.written.files
