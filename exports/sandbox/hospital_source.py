"""The synthetic hospital as an export source, its truth told beside the FHIR data."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from exports.progress import Progress
from exports.sandbox.population import Hospital, write_export
from exports.sandbox.snapshots import as_it_was
from exports.sandbox.source import Deletion, SourceFile
from exports.sealed import hash_file, hash_json

ROWS_PER_FILE: Final = 50_000
TRUTH: Final = "truth"


@dataclass(frozen=True)
class HospitalSource:
    """A hospital, and the folder that its truth is told to (never served).

    `at` is an earlier moment to show it at: a later one then differs from it by what was updated
    in between, and by nothing else.
    """

    hospital: Hospital
    truth: Path
    at: datetime | None = None

    @property
    def key(self) -> str:
        """The hospital's own parameters and the simulator's code: they determine every byte."""
        seen_at = "" if self.at is None else f"-at-{self.at.astimezone(UTC):%Y%m%dT%H%M%S}"
        return f"{self.site}{seen_at}"

    @property
    def site(self) -> str:
        """The hospital, whenever it is looked at."""
        made = self.hospital
        parameters = f"seed-{made.seed}-patients-{made.patients}-as-of-{made.as_of:%Y%m%dT%H%M}"
        return f"{parameters}-{_simulator()[:8]}"

    @property
    def transaction_time(self) -> datetime:
        """The moment the hospital is exported as of."""
        return self.hospital.as_of if self.at is None else self.at

    def prepare(self, folder: Path, progress: Progress) -> list[SourceFile]:
        """Simulate the hospital into `folder`."""
        at = self.at
        written = write_export(
            self.hospital,
            folder,
            folder / TRUTH,
            rows_per_file=ROWS_PER_FILE,
            progress=progress,
            view=(lambda record: record) if at is None else (lambda each: as_it_was(each, at)),
        )
        return [SourceFile(file.name, file.type, file.rows) for file in written.files]

    def publish(self, folder: Path) -> None:
        """Copy the truth to where the sandbox's owner wants it."""
        self.truth.mkdir(parents=True, exist_ok=True)
        shutil.copytree(folder / TRUTH, self.truth, dirs_exist_ok=True)

    def deletions(self) -> list[Deletion]:
        """This hospital deletes nothing: what was wrong stays, marked entered-in-error."""
        return []


def _simulator() -> str:
    package = Path(__file__).parent
    parts = [*package.glob("*.py"), *(package / "data").rglob("*")]
    return hash_json({path.name: hash_file(path) for path in parts if path.is_file()})
