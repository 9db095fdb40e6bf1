"""What a search has brought so far, on the disk: a stopped search asks for the rest alone.

`phi/export-job/<request>-search/` holds the plan (`plan.json`: the patients, and when it began),
and for each type and batch of patients an NDJSON file with its record. A record is written once
its file is on the disk. After the landing, `landed.json` alone is left.
"""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import orjson

from exports.bulk.job import FOLDER
from exports.durable import open_private, sync_folder, write_json_durably
from exports.request import ExportRequest

PLAN: Final = "plan.json"
LANDED: Final = "landed.json"


@dataclass(frozen=True)
class Plan:
    """Whose resources are read, in a fixed order, and the server's time before the first of them.

    `export_id` names the log; `members` is how many a group has by its own count, where that is
    another number.
    """

    patients: tuple[str, ...]
    began: datetime
    export_id: str
    members: int | None = None


@dataclass(frozen=True)
class Part:
    """One batch of one type.

    `total` is the server's count (None: it counts nothing), `matches` the distinct resources that
    came, `asked` how many were asked for by id (0 for a search by patient). `lists` tells whether
    the server has shown to understand several patients in one search; None: not yet tried. `wider`:
    it would not take what narrows the type.
    """

    matches: int
    total: int | None
    unasked: int
    searches: int
    asked: int
    lists: bool | None
    wider: bool = False


class Parts:
    """The parts of one request's search below one `phi` folder."""

    def __init__(self, phi: Path, request: ExportRequest) -> None:
        self.folder = phi / FOLDER / f"{request.digest[:16]}-search"
        self._fresh = itertools.count()

    def begin_anew(self) -> None:
        """Forget what there is."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def sweep(self) -> None:
        """Take away what a stopped run left half-written."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self.folder.rglob("*.part"):
            path.unlink()

    def scratch(self) -> Path:
        """A name for a new file that nobody else has, nor had."""
        return self.folder / f"{os.getpid()}-{next(self._fresh)}.part"

    def plan(self) -> Plan | None:
        """The plan of a search that was stopped."""
        kept = self._read(PLAN)
        if kept is None:
            return None
        began = datetime.fromisoformat(kept["began"])
        return Plan(tuple(kept["patients"]), began, kept["export_id"], kept["members"])

    def keep_plan(self, plan: Plan) -> None:
        """Put the plan on the disk."""
        kept = {**asdict(plan), "began": plan.began.isoformat()}
        write_json_durably(self.folder / PLAN, kept)

    def part(self, resource_type: str, number: int) -> Part | None:
        """What is recorded of that batch, or None where it is yet to be read."""
        kept = self._read(f"{resource_type}/{number:06d}.json")
        return None if kept is None else Part(**kept)

    def keep(self, resource_type: str, number: int, pieces: Sequence[Path], part: Part) -> None:
        """Make `pieces` (which are gone after it) the file of that batch, and record it."""
        target = self.path(resource_type, number)
        target.parent.mkdir(mode=0o700, exist_ok=True)
        whole = self.scratch()
        with open_private(whole, "wb") as file:
            for piece in pieces:
                with piece.open("rb") as source:
                    shutil.copyfileobj(source, file)
            file.flush()
            os.fsync(file.fileno())
        whole.replace(target)
        sync_folder(target.parent)
        write_json_durably(target.with_suffix(".json"), asdict(part))
        for piece in pieces:
            piece.unlink()

    def path(self, resource_type: str, number: int) -> Path:
        """The file of a batch."""
        return self.folder / resource_type / f"{number:06d}.ndjson"

    def files(self, resource_type: str) -> list[Path]:
        """The files of a type's batches, in their order."""
        records = sorted((self.folder / resource_type).glob("*.json"))
        return [record.with_suffix(".ndjson") for record in records]

    def records(self, resource_type: str) -> list[Part]:
        """What is recorded of a type's batches."""
        return [
            Part(**orjson.loads(path.with_suffix(".json").read_bytes()))
            for path in self.files(resource_type)
        ]

    @property
    def has_landed(self) -> bool:
        """Whether nothing is left to read."""
        return (self.folder / LANDED).is_file()

    def landing(self, screen: Mapping[str, Any]) -> str:
        """The hash that names the landing zone of a search that has ended; "" before.

        Also "" where `screen`, who must not be in it, is another than it was.
        """
        kept = self._read(LANDED)
        return "" if kept is None or kept["screen"] != screen else str(kept["landing"])

    def landed(self, landing: str, screen: Mapping[str, Any]) -> None:
        """Record that everything is sealed; the parts are needed no longer."""
        write_json_durably(self.folder / LANDED, {"landing": landing, "screen": screen})
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != LANDED:
                path.unlink()

    def _read(self, name: str) -> dict[str, Any] | None:
        path = self.folder / name
        if not path.is_file():
            return None
        kept: dict[str, Any] = orjson.loads(path.read_bytes())
        return kept
