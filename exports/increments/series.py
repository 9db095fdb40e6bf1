"""The series of exports that continue one another: what was asked when, and where it lies.

`phi/series/<digest16>.json` belongs to one server, level, group and client. It is written when all
that a step delivered is sealed and merged; a step that was stopped before is done again, from
what is on the disk. Beside it lie `<digest16>/<step>/`, a folder for what the step delivers, and
`<digest16>.drift.json`, how far the series was found to have strayed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import orjson

from exports.durable import write_durably, write_json_durably
from exports.errors import FhirloomError
from exports.increments.standing import Delivery
from exports.landing.zone import LandingZone
from exports.request import ExportRequest
from exports.sealed import hash_json, open_sealed
from exports.turns import alone

FOLDER: Final = "series"


@dataclass(frozen=True)
class Part:
    """One sealed delivery.

    `zone` is its folder below `phi`, `whole` the types of which it delivers all (None: all types),
    `left` the patients who had left; `deletions`: its manifest tells of deletions.
    """

    zone: str
    digest: str
    transaction_time: str
    since: str | None
    whole: tuple[str, ...] | None
    deletions: bool
    left: tuple[str, ...] = ()

    @property
    def time(self) -> datetime:
        """`transaction_time` as a moment."""
        return datetime.fromisoformat(self.transaction_time)


@dataclass(frozen=True)
class Step:
    """One run of an export: its parts, oldest first.

    `asked` is what the request asked for, `as_of` the time up to which all of it is known and
    where the next step goes on, `landing` the zone that it ended with.
    """

    parts: tuple[Part, ...]
    asked: Mapping[str, Any]
    as_of: str
    landing: str

    @property
    def time(self) -> datetime:
        """`as_of` as a moment."""
        return datetime.fromisoformat(self.as_of)


class Series:
    """The steps of the series that a request belongs to, below one `phi` folder."""

    def __init__(self, phi: Path, request: ExportRequest) -> None:
        belongs = {
            "server": request.base,
            "level": request.level,
            "group_id": request.group_id,
            "principal": request.access.principal,
        }
        self._phi = phi
        self._belongs = belongs
        self._name = hash_json(belongs)[:16]
        self._path = phi / FOLDER / f"{self._name}.json"

    def alone(self) -> AbstractContextManager[None]:
        """Keep other processes from this series. Raises `FhirloomError` (bad-input)."""
        refusal = FhirloomError(
            "bad-input",
            "The same series of exports is already being continued",
            where=FOLDER,
            fix="Wait for it to end, or stop it; it can be continued.",
        )
        return alone(self._path.with_suffix(".lock"), refusal)

    @property
    def begun(self) -> bool:
        """Whether there is a record of the series, be it without a step."""
        return self._path.is_file()

    def steps(self) -> list[Step]:
        """The steps so far, oldest first."""
        if not self.begun:
            return []
        return [_step(read) for read in orjson.loads(self._path.read_bytes())["steps"]]

    def record(self, steps: Iterable[Step]) -> None:
        """Write the steps down; none begins a series."""
        write_json_durably(self._path, {**self._belongs, "steps": [asdict(step) for step in steps]})

    def folder(self, number: int) -> Path:
        """Where the step of that number keeps what it delivers."""
        return self._path.with_suffix("") / f"{number:04d}"

    def part(
        self,
        zone: LandingZone,
        *,
        since: str | None,
        whole: tuple[str, ...] | None,
        left: tuple[str, ...] = (),
    ) -> Part:
        """A sealed zone as a part of a step. Raises `FhirloomError` if it has no time."""
        time = zone.transaction_time
        if time is None:
            raise FhirloomError(
                "bad-input",
                "An export without a time can't be gone on with",
                where="phi/landing",
                fix="Export from the server itself.",
            )
        # Folders of `phi` may lie elsewhere, by a link.
        place = os.path.relpath(zone.sealed.path, self._phi.resolve())
        return Part(
            place, zone.sealed.digest, time.isoformat(), since, whole, zone.deleted_reported, left
        )

    def deliveries(self, parts: Iterable[Part]) -> list[Delivery] | None:
        """What to merge: the parts from the last complete one on; None where a zone is gone."""
        standing: list[Part] = []
        for part in parts:
            standing = [part] if part.whole is None else [*standing, part]
        opened = [(part, open_sealed(self._phi / part.zone)) for part in standing]
        deliveries = [
            Delivery(
                LandingZone(sealed),
                None if part.whole is None else frozenset(part.whole),
                frozenset(part.left),
            )
            for part, sealed in opened
            if sealed is not None and sealed.digest == part.digest
        ]
        return deliveries if len(deliveries) == len(standing) else None

    def keep_members(self, number: int, members: Iterable[str]) -> None:
        """Keep the ids of the patients whom the step of that number knows."""
        write_durably(self._members(number), "\n".join(sorted(members)).encode())

    def members(self, number: int) -> frozenset[str]:
        """The ids of the patients whom the step of that number knew."""
        return frozenset(self._members(number).read_text().split())

    def _members(self, number: int) -> Path:
        return self.folder(number) / "members.txt"

    @property
    def drifts(self) -> dict[str, Any]:
        """How far the series had strayed, by the step that measured it."""
        path = self._drift_path
        read: dict[str, Any] = orjson.loads(path.read_bytes()) if path.is_file() else {}
        return read

    def keep_drift(self, number: int, measured: Mapping[str, Any]) -> None:
        """Keep what the step of that number measured."""
        write_json_durably(self._drift_path, {**self.drifts, f"{number:04d}": dict(measured)})

    @property
    def _drift_path(self) -> Path:
        return self._path.with_suffix(".drift.json")


def _step(read: Mapping[str, Any]) -> Step:
    parts = tuple(
        Part(
            **{
                **part,
                "whole": None if part["whole"] is None else tuple(part["whole"]),
                "left": tuple(part["left"]),
            }
        )
        for part in read["parts"]
    )
    return Step(**{**read, "parts": parts})
