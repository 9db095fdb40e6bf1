"""Where a run takes its patients from, and what it predicts; kept in `phi/`, because the name of a
server or of a group may tell something.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from exports.access import Access
from exports.errors import FhirloomError
from exports.request import ExportRequest
from exports.sealed import Sealed

SETTINGS: Final = "settings.json"
LANDED: Final = "landed.json"


@dataclass(frozen=True)
class Settings:
    """The source of the patients and what that source needs; the task and the features.

    `key` is the path of a private key (PEM or JWK) for SMART Backend Services; `fresh` asks the
    server for a new export though the last one is here; `exported_at` is an ISO instant with zone
    and says when a folder's NDJSON was exported; `task` and `features` are the names of shipped
    declarations, or paths of YAML files.
    """

    source: Literal["sandbox", "server", "folder"]
    patients: int = 2000
    seed: int = 7
    server: str = ""
    group: str = ""
    client_id: str = ""
    key: str = ""
    fresh: bool = False
    ndjson: str = ""
    exported_at: str = ""
    task: str = "readmission_30d"
    features: str = "readmission"

    @property
    def exported(self) -> datetime | None:
        """`exported_at` as an instant; raises `FhirloomError` (bad-input)."""
        if not self.exported_at:
            return None
        try:
            read = datetime.fromisoformat(self.exported_at)
        except ValueError:
            read = None
        if read is None or read.tzinfo is None:
            raise FhirloomError(
                "bad-input",
                "That is no instant with a zone",
                where="--exported-at",
                fix="Write it like 2026-01-31T02:00:00+00:00.",
            )
        return read


def check(settings: Settings) -> None:
    """Refuse settings that can't work before anything is started; `FhirloomError` (bad-input)."""
    for path, option, fits in (
        (settings.ndjson, "--ndjson", Path.is_dir),
        (settings.key, "--key", Path.is_file),
    ):
        if path and not fits(Path(path)):
            raise FhirloomError(
                "bad-input",
                "There is nothing to read at the path given",
                where=option,
                fix="Check the path.",
            )
    if settings.source == "server":
        request_of(settings)
    _ = settings.exported


def request_of(settings: Settings) -> ExportRequest:
    """The export that the settings ask a real server for; `FhirloomError` (bad-input)."""
    return ExportRequest(
        server=settings.server,
        level="group" if settings.group else "patient",
        group_id=settings.group,
        access=Access(settings.client_id, Path(settings.key) if settings.key else None),
    )


def save_settings(settings: Settings, phi: Path) -> None:
    """Keep the settings in `phi/`: Prefect, which runs the flow, is told the work folder alone."""
    _write(phi / SETTINGS, asdict(settings))


def load_settings(phi: Path) -> Settings:
    """What `save_settings` kept; raises `FhirloomError` (bad-input) where there is nothing."""
    kept = _read(phi / SETTINGS)
    if kept is None:
        raise FhirloomError(
            "bad-input",
            "The work folder does not say where its patients come from",
            where=str(phi / SETTINGS),
            fix="Run `fhirloom run` or `fhirloom export` on this work folder first.",
        )
    return Settings(**kept)


def record_landed(settings: Settings, landing: Sealed, phi: Path) -> None:
    """Remember which settings gave this very landing zone."""
    _write(phi / LANDED, {"settings": asdict(settings), "landing": landing.digest})


def landed_by(landing: Sealed, phi: Path) -> Settings | None:
    """The settings that gave this very landing zone, where they are known."""
    kept = _read(phi / LANDED)
    known = kept is not None and kept["landing"] == landing.digest
    return Settings(**kept["settings"]) if kept is not None and known else None


def _write(path: Path, content: dict[str, Any]) -> None:
    aside = path.with_name(f".{path.name}-{os.getpid()}")
    aside.write_text(json.dumps(content, indent=1))
    aside.chmod(0o600)
    aside.replace(path)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return content
