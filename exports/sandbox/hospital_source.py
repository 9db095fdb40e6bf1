"""The synthetic hospital as an export source, its truth told beside the FHIR data."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from exports.progress import Progress
from exports.sandbox.population import Hospital, write_export
from exports.sandbox.source import SourceFile
from exports.sealed import hash_file, hash_json

ROWS_PER_FILE: Final = 50_000
TRUTH: Final = "truth"


@dataclass(frozen=True)
class HospitalSource:
    """A hospital, and the folder that its truth is told to (never served)."""

    hospital: Hospital
    truth: Path

    @property
    def key(self) -> str:
        """The hospital's own parameters and the simulator's code: they determine every byte."""
        made = self.hospital
        parameters = f"seed-{made.seed}-patients-{made.patients}-as-of-{made.as_of:%Y%m%dT%H%M}"
        return f"{parameters}-{_simulator()[:8]}"

    @property
    def transaction_time(self) -> datetime:
        """The moment the hospital is exported as of."""
        return self.hospital.as_of

    def prepare(self, folder: Path, progress: Progress) -> list[SourceFile]:
        """Simulate the hospital into `folder`."""
        written = write_export(
            self.hospital,
            folder,
            folder / TRUTH,
            rows_per_file=ROWS_PER_FILE,
            progress=progress,
        )
        return [SourceFile(file.name, file.type, file.rows) for file in written.files]

    def publish(self, folder: Path) -> None:
        """Copy the truth to where the sandbox's owner wants it."""
        self.truth.mkdir(parents=True, exist_ok=True)
        shutil.copytree(folder / TRUTH, self.truth, dirs_exist_ok=True)


def _simulator() -> str:
    package = Path(__file__).parent
    parts = [*package.glob("*.py"), *(package / "data").rglob("*")]
    return hash_json({path.name: hash_file(path) for path in parts if path.is_file()})
