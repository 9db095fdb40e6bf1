"""The landing zone: NDJSON as it was delivered, immutable, every line accounted for.

Layout of the sealed folder `phi/landing/<key>/`: `files/` holds what came, byte for byte; `clean/`
a copy per type of each file that a strict reader would stumble over; `quarantine.ndjson` the
place of every line left out. A bulk export's `errors/` and `deleted/` stand beside them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from exports.delivery import Delivered, file_chunks, take
from exports.errors import FhirloomError
from exports.ndjson import DamagedGzip
from exports.progress import Progress, silent
from exports.quarantine import bad_counts, clean_name, separate
from exports.sealed import (
    CURRENT,
    Sealed,
    Stage,
    find_sealed,
    hash_file,
    hash_json,
    open_sealed,
    sealing,
)

VERSION: Final = 1


@dataclass(frozen=True)
class LandedFile:
    """The rows of one type in one delivered file.

    `rows` are good lines, `ids` distinct ids among them; `bytes` and `sha256` are those of the
    file as delivered. A file of several types has one record for each; its bad lines are counted
    in `quarantined` of the first. `type` is "" where a file has no resource at all.
    """

    name: str
    type: str
    rows: int
    ids: int
    bytes: int
    sha256: str
    quarantined: int


@dataclass(frozen=True)
class LandingZone:
    """A sealed delivery of NDJSON."""

    sealed: Sealed

    @property
    def files(self) -> tuple[LandedFile, ...]:
        """What was delivered, in the order of delivery."""
        return tuple(LandedFile(**file) for file in self.sealed.facts["files"])

    @property
    def transaction_time(self) -> datetime | None:
        """The server's time of the snapshot; None for a folder that came with none."""
        time = self.sealed.facts["transaction_time"]
        return None if time is None else datetime.fromisoformat(time)

    @property
    def server_rows(self) -> Mapping[str, int] | None:
        """Rows by type as the server counted them; None where nobody did."""
        counted: Mapping[str, int] | None = self.sealed.facts["server_rows"]
        return counted

    def paths(self, resource_type: str) -> list[Path]:
        """NDJSON files (plain or .gz) whose every line is a valid object of that type."""
        return [
            self._readable(file.name, resource_type)
            for file in self.files
            if file.type == resource_type and file.rows
        ]

    def rows(self) -> dict[str, int]:
        """Good rows by type."""
        counted: Counter[str] = Counter()
        for file in self.files:
            counted[file.type] += file.rows
        return {name: rows for name, rows in sorted(counted.items()) if rows}

    @property
    def server_errors(self) -> int:
        """OperationOutcomes in `errors/`: what the server says it could not export."""
        return int(self.sealed.facts["errors"])

    @property
    def quarantined(self) -> dict[str, int]:
        """Lines left out, by reason."""
        return dict(self.sealed.facts["quarantined"])

    def _readable(self, name: str, resource_type: str) -> Path:
        clean = self.sealed.path / "clean" / clean_name(name, resource_type)
        return clean if clean.exists() else self.sealed.path / "files" / name


@dataclass(frozen=True)
class Arrival:
    """A delivered file that stands in `files/` of the folder being sealed."""

    name: str
    declared_type: str
    delivered: Delivered


def landing_stage(spec: str) -> Stage:
    """The stage of the landing zone whose content `spec` (a hash) names."""
    return Stage("landing", VERSION, {}, spec)


def open_landing(phi: Path) -> LandingZone:
    """The current landing zone below `phi`. Raises `FhirloomError` (bad-input) if none."""
    sealed = open_sealed(phi / "landing" / CURRENT)
    if sealed is None:
        raise FhirloomError(
            "bad-input",
            "Nothing has been landed yet",
            where=str(phi / "landing"),
            fix="Run `fhirloom export` on this work folder first.",
        )
    return LandingZone(sealed)


def find_landing(phi: Path, spec: str) -> LandingZone | None:
    """The landing zone of that content, made the current one; None where it isn't there."""
    found = find_sealed(phi / "landing", landing_stage(spec))
    return None if found is None else LandingZone(found)


def seal_landing(
    phi: Path,
    spec: str,
    bring: Callable[[Path], Sequence[Arrival]],
    facts: Mapping[str, Any],
) -> LandingZone:
    """Seal a landing zone: `bring` puts the files into the folder's `files/`, this does the rest.

    `facts` has `source`, `transaction_time`, `server_rows` and `errors`.
    """
    phi.mkdir(mode=0o700, parents=True, exist_ok=True)
    with sealing(phi / "landing", landing_stage(spec), mode=0o700) as draft:
        (draft.path / "files").mkdir(mode=0o700)
        arrivals = bring(draft.path)
        quarantined: Counter[str] = Counter()
        for arrival in arrivals:
            quarantined.update(bad_counts(arrival.delivered))
            if not arrival.delivered.judged.readable:
                separate(
                    draft.path / "files" / arrival.name,
                    arrival.name,
                    arrival.delivered,
                    draft.path / "clean",
                    draft.path / "quarantine.ndjson",
                )
        draft.facts.update(facts)
        draft.facts["files"] = [asdict(file) for file in _landed(arrivals)]
        draft.facts["quarantined"] = dict(sorted(quarantined.items()))
    return LandingZone(draft.result)


def land_folder(
    source: Path,
    phi: Path,
    *,
    transaction_time: datetime | None = None,
    progress: Progress = silent,
) -> LandingZone:
    """Land a folder of NDJSON: any file names, plain or gzip, nested or not, types mixed or not.

    Hidden files are passed over; `transaction_time` is when the data was extracted, if known.
    Raises `FhirloomError` (bad-input) for a folder without resources, and for a gzip file that is
    cut short or corrupt: part of a file is never taken for the whole.
    """
    paths = _ndjson_candidates(source)
    hashes = {path.relative_to(source).as_posix(): hash_file(path) for path in paths}
    time = None if transaction_time is None else transaction_time.isoformat()
    spec = hash_json({"folder": hashes, "transaction_time": time})
    if (found := find_landing(phi, spec)) is not None:
        return found

    def bring(folder: Path) -> list[Arrival]:
        arrivals: list[Arrival] = []
        for done, path in enumerate(paths, start=1):
            name = path.relative_to(source).as_posix()
            place = f"file {done} of {len(paths)}, in the order of their names"
            arrivals.append(_bring_file(path, name, folder / "files", hashes[name], place))
            progress(done, len(paths), "files")
        if not any(arrival.delivered.judged.rows for arrival in arrivals):
            raise _nothing_in(source)
        return arrivals

    facts = {"source": "folder", "transaction_time": time, "server_rows": None, "errors": 0}
    return seal_landing(phi, spec, bring, facts)


def _ndjson_candidates(source: Path) -> list[Path]:
    paths = sorted(
        path
        for path in source.rglob("*")
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(source).parts)
    )
    if not paths:
        raise _nothing_in(source)
    return paths


def _bring_file(path: Path, name: str, files: Path, expected: str, place: str) -> Arrival:
    # Errors tell the place: a file may be named after a patient.
    taken = files / f"{name}.part"
    taken.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        delivered = take(file_chunks(path), taken)
    except DamagedGzip as damage:
        raise FhirloomError(
            "bad-input",
            f"A file can't be unpacked: {damage}",
            where=place,
            fix="Get the file again, or take it out of the folder.",
        ) from None
    if delivered.sha256 != expected:
        raise FhirloomError(
            "bad-input",
            "A file changed while it was being read",
            where=place,
            fix="Run again once nothing writes to the folder.",
        )
    landed = name if name.endswith(delivered.suffix) else name + delivered.suffix
    while (files / landed).exists():
        landed = f"{landed.removesuffix(delivered.suffix)}-again{delivered.suffix}"
    taken.rename(files / landed)
    return Arrival(landed, "", delivered)


def _landed(arrivals: Iterable[Arrival]) -> list[LandedFile]:
    landed: list[LandedFile] = []
    for arrival in arrivals:
        delivered, bad = arrival.delivered, sum(arrival.delivered.judged.bad.values())
        for position, name in enumerate(delivered.judged.rows or [arrival.declared_type]):
            landed.append(
                LandedFile(
                    name=arrival.name,
                    type=name,
                    rows=delivered.judged.rows.get(name, 0),
                    ids=delivered.judged.ids.get(name, 0),
                    bytes=delivered.bytes,
                    sha256=delivered.sha256,
                    quarantined=bad if position == 0 else 0,
                )
            )
    return landed


def _nothing_in(source: Path) -> FhirloomError:
    return FhirloomError(
        "bad-input",
        "There is no FHIR resource in the folder",
        where=str(source),
        fix="Name a folder of NDJSON files, one resource a line, plain or gzip.",
    )
