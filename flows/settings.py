"""Where a run takes its patients from, and what it predicts; kept in `phi/`, because the name of a
server or of a group may tell something.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from exports.errors import FhirloomError
from exports.sealed import Sealed
from flows.server import FILES, ServerSettings, instant

if TYPE_CHECKING:
    from deid.policy import Policy, PolicyName

SETTINGS: Final = "settings.json"
LANDED: Final = "landed.json"


@dataclass(frozen=True)
class Settings:
    """The source of the patients and what that source needs; the task and the features.

    `exported_at` is an ISO instant with zone and says when a folder's NDJSON was exported.
    `keep_test_patients`, `leave_out` (a file of patients) and `labels` say who and what is landed
    (`landing.screening`). `task` and `features` are the names of shipped declarations, or paths of
    YAML files. `policy` is by which rule the tables are made, and `zip3_population` the file by
    which Safe Harbor tells a ZIP's three digits (`deid.policy`); without one there is no ZIP.
    `notes` says whether free text is written too, for review, and `notes_model` names the
    configuration of a model that searches it.
    """

    patients: int = 2000
    seed: int = 7
    server: ServerSettings | None = None
    ndjson: str = ""
    exported_at: str = ""
    keep_test_patients: bool = False
    leave_out: str = ""
    labels: tuple[str, ...] = ()
    task: str = "readmission_30d"
    features: str = "readmission"
    policy: PolicyName = "safe-harbor"
    zip3_population: str = ""
    notes: bool = False
    notes_model: str = ""

    @property
    def source(self) -> Literal["server", "folder", "sandbox"]:
        """Where patients come from: the sandbox EHR where nothing else is named."""
        return "server" if self.server else "folder" if self.ndjson else "sandbox"

    @property
    def exported(self) -> datetime | None:
        """`exported_at` as an instant; raises `FhirloomError` (bad-input)."""
        return instant(self.exported_at, "--exported-at")

    @property
    def privacy(self) -> Policy:
        """`policy`, its population file read; raises `FhirloomError` (bad-input)."""
        from deid.policy import choose_policy

        return choose_policy(
            self.policy, Path(self.zip3_population) if self.zip3_population else None
        )


def check(settings: Settings) -> None:
    """Refuse settings that can't work before anything is started; `FhirloomError` (bad-input)."""
    named = {
        "ndjson": settings.ndjson,
        "leave_out": settings.leave_out,
        "zip3_population": settings.zip3_population,
        "notes_model": settings.notes_model,
    }
    if settings.server is not None:
        named |= {name: getattr(settings.server, name) for name in FILES}
    for name, path in named.items():
        if path and not (Path(path).is_dir() if name == "ndjson" else Path(path).is_file()):
            raise FhirloomError(
                "bad-input",
                "There is nothing to read at the path given",
                where="--" + name.replace("_", "-"),
                fix="Check the path.",
            )
    if settings.server is not None:
        _ = settings.server.request
    _ = settings.exported
    if settings.privacy.dated and settings.notes:
        raise FhirloomError(
            "bad-input",
            "Notes are de-identified for research/ alone, beside tables made by Safe Harbor",
            where="--notes",
            fix="Leave it out; or leave out --limited-data-set.",
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
    return _settings(kept)


def kept_settings(phi: Path) -> Settings:
    """What `save_settings` kept, or the defaults where records were landed in another way."""
    kept = _read(phi / SETTINGS)
    return Settings() if kept is None else _settings(kept)


def record_landed(settings: Settings, landing: Sealed, phi: Path) -> None:
    """Remember which settings gave this very landing zone."""
    _write(phi / LANDED, {"settings": asdict(settings), "landing": landing.digest})


def landed_by(landing: Sealed, phi: Path) -> Settings | None:
    """The settings that gave this very landing zone, where they are known."""
    kept = _read(phi / LANDED)
    known = kept is not None and kept["landing"] == landing.digest
    return _settings(kept["settings"]) if kept is not None and known else None


def _settings(kept: Mapping[str, Any]) -> Settings:
    try:
        server = kept["server"]
        restored = {**_tuples(kept), "server": server and ServerSettings(**_tuples(server))}
        return Settings(**restored)
    except (KeyError, TypeError, AttributeError):
        raise _unreadable() from None


def _tuples(kept: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: tuple(value) if isinstance(value, list) else value for name, value in kept.items()
    }


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
    except ValueError:
        raise _unreadable() from None
    if not isinstance(content, dict):
        raise _unreadable()
    return content


def _unreadable() -> FhirloomError:
    return FhirloomError(
        "bad-input",
        "What the work folder keeps of its settings can't be read",
        where=f"phi/{SETTINGS} or phi/{LANDED}",
        fix="Remove both files, and run `fhirloom export` with the same options again.",
    )
