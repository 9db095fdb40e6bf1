"""The landing zone: NDJSON as it was delivered, immutable, every line accounted for.

Layout of the sealed folder `phi/landing/<key>/`: `files/` holds what came, byte for byte; `clean/`
a copy per type of each file that a strict reader would stumble over; `quarantine.ndjson` the
place of every line that is no resource. A bulk export's `errors/` and `deleted/` stand beside them.
Of a file with rows that must not be kept (`landing.sieve`) there are only the copies, and of
`errors/` only what speaks of nobody who was left out.

Of each file, rows + quarantined + excluded + narrowed are the lines that were delivered, but for
blank ones and headers.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import orjson

from exports.errors import FhirloomError
from exports.landing.deletions import read_deletions
from exports.landing.delivery import Delivered, file_chunks, take
from exports.landing.ndjson import DamagedGzip
from exports.landing.provenance import write_provenance
from exports.landing.quarantine import EXCLUDED, WITHHELD, Separated, clean_name, separate_all
from exports.landing.reconcile import DEFAULT_POLICY, Finding, Policy, refuse, told_by_lines
from exports.landing.screening import Exclusion
from exports.landing.sieve import Sieve
from exports.progress import Progress, silent
from exports.sealed import (
    CURRENT,
    MANIFEST,
    Sealed,
    Stage,
    find_sealed,
    hash_file,
    hash_json,
    open_sealed,
    sealing,
)

VERSION: Final = 3
IDENTITIES: Final = ".identities"
TEST_PATIENTS_OUT: Final = Sieve()
"""What is left out of a landing zone unless it is told otherwise."""


@dataclass(frozen=True)
class LandedFile:
    """The rows of one type in one delivered file.

    `rows` are good lines that were kept, `ids` distinct ids among them; `excluded` rows had to go
    and `narrowed` ones were not asked for. `bytes` and `sha256` are those of the file as
    delivered. A file of several types has one record for each; its bad lines are counted in
    `quarantined` of the first. `type` is "" where a file has no resource at all.
    """

    name: str
    type: str
    rows: int
    ids: int
    bytes: int
    sha256: str
    quarantined: int
    excluded: int = 0
    narrowed: int = 0


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

    @property
    def excluded(self) -> dict[str, int]:
        """Rows that must not be kept, by reason."""
        return dict(self.sealed.facts.get("excluded", {}))

    @property
    def narrowed(self) -> dict[str, int]:
        """Rows that were not asked for, by the parameter that the server did not apply."""
        return dict(self.sealed.facts.get("narrowed", {}))

    @property
    def findings(self) -> tuple[Finding, ...]:
        """Every disagreement between what was asked for, what was announced and what came."""
        return tuple(Finding(**found) for found in self.sealed.facts.get("findings", ()))

    @property
    def deleted_reported(self) -> bool:
        """Whether the server tells deletions at all: then none told means none happened."""
        return bool(self.sealed.facts.get("deleted_reported", False))

    @property
    def brings_all_patients(self) -> bool:
        """Whether the Patients of whoever is in it came with it, and not only what changed."""
        partial = self.sealed.facts.get("since") is not None
        return not partial and any(file.type == "Patient" for file in self.files)

    def deletions(self) -> Iterator[tuple[str, str]]:
        """The (type, id) of each resource that the server says was deleted."""
        files = sorted((self.sealed.path / "deleted").glob("*"))
        return (named for named in read_deletions(files) if named)

    def excluded_patients(self) -> dict[str, Exclusion]:
        """The patients that were left out, by logical id, with the reason."""
        log = self.sealed.path / EXCLUDED
        lines = log.read_bytes().splitlines() if log.is_file() else []
        return {entry["patient"]: entry["reason"] for entry in map(orjson.loads, lines)}

    def withheld(self) -> Iterator[tuple[str, str]]:
        """The (type, id) of resources left out by their own label, or that match no filter."""
        log = self.sealed.path / WITHHELD
        with log.open("rb") if log.is_file() else BytesIO() as lines:
            for entry in map(orjson.loads, lines):
                yield entry["type"], entry["id"]

    def standing(self) -> dict[str, dict[str, str]]:
        """By delivered file, those in which its rows are now: path in the zone, and SHA-256."""
        contents = orjson.loads((self.sealed.path / MANIFEST).read_bytes())["files"]
        found: dict[str, dict[str, str]] = {}
        for file in self.files:
            for path in (f"files/{file.name}", f"clean/{clean_name(file.name, file.type)}"):
                if path in contents:
                    found.setdefault(file.name, {})[path] = contents[path]
        return found

    def _readable(self, name: str, resource_type: str) -> Path:
        clean = self.sealed.path / "clean" / clean_name(name, resource_type)
        return clean if clean.exists() else self.sealed.path / "files" / name


@dataclass(frozen=True)
class Arrival:
    """A delivered file that stands in `files/` of the folder being sealed.

    `identities` are the hashes of its ids (`exports.landing.identities`), where they were kept.
    """

    name: str
    declared_type: str
    delivered: Delivered
    identities: Path | None = None


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


def landed_zones(phi: Path) -> list[LandingZone]:
    """All landing zones below `phi`, in the order of their names."""
    folders = sorted(path for path in (phi / "landing").glob("*") if not path.is_symlink())
    return [LandingZone(found) for path in folders if (found := open_sealed(path)) is not None]


def find_landing(phi: Path, spec: str) -> LandingZone | None:
    """The landing zone of that content, made the current one; None where it isn't there."""
    found = find_sealed(phi / "landing", landing_stage(spec))
    return None if found is None else LandingZone(found)


def seal_landing(
    phi: Path,
    spec: str,
    bring: Callable[[Path], Sequence[Arrival]],
    facts: Mapping[str, Any],
    *,
    sieve: Sieve = TEST_PATIENTS_OUT,
    findings: Sequence[Finding] = (),
    policy: Policy = DEFAULT_POLICY,
    progress: Progress = silent,
) -> LandingZone:
    """Seal a landing zone: `bring` puts the files into the folder's `files/`, this does the rest.

    `spec` has to cover `sieve.digest`. `facts` has `source` (bulk, folder, search or merged),
    `transaction_time`, `server_rows`, `errors`, and where a server can tell, `deleted_reported`.
    `findings` are what `landing.reconcile` found; what the lines alone tell is added to them.
    Raises `FhirloomError` (incomplete) where one is a failure by `policy`.
    """
    phi.mkdir(mode=0o700, parents=True, exist_ok=True)
    with sealing(phi / "landing", landing_stage(spec), mode=0o700) as draft:
        (draft.path / "files").mkdir(mode=0o700)
        arrivals = bring(draft.path)
        found = [*findings, *told_by_lines(arrivals, policy)]
        refuse(found, policy)
        shutil.rmtree(draft.path / IDENTITIES, ignore_errors=True)
        brought = [(arrival.name, arrival.delivered) for arrival in arrivals]
        separated = separate_all(draft.path, brought, sieve, progress)
        draft.facts.update(facts)
        draft.facts["files"] = [asdict(file) for file in _landed(arrivals, separated)]
        draft.facts["quarantined"] = _total(parts.bad for parts in separated)
        draft.facts["excluded"] = _total(parts.excluded_by_reason for parts in separated)
        draft.facts["narrowed"] = _total(parts.narrowed_by_parameter for parts in separated)
        draft.facts["findings"] = [asdict(finding) for finding in found]
    return LandingZone(draft.result)


def land_folder(
    source: Path,
    phi: Path,
    *,
    transaction_time: datetime | None = None,
    sieve: Sieve = TEST_PATIENTS_OUT,
    policy: Policy = DEFAULT_POLICY,
    progress: Progress = silent,
) -> LandingZone:
    """Land a folder of NDJSON: any file names, plain or gzip, nested or not, types mixed or not.

    Hidden files are passed over; `transaction_time` is when the data was extracted, if known.
    Raises `FhirloomError`: bad-input for a folder without resources, and for a gzip file that is
    cut short or corrupt (part of a file is never taken for the whole); incomplete where `policy`
    says so.
    """
    paths = _ndjson_candidates(source)
    hashes = {path.relative_to(source).as_posix(): hash_file(path) for path in paths}
    time = None if transaction_time is None else transaction_time.isoformat()
    spec = hash_json({"folder": hashes, "transaction_time": time, "sieve": sieve.digest})
    if (found := find_landing(phi, spec)) is not None:
        refuse(found.findings, policy)
        write_provenance(phi, found, {})
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
    zone = seal_landing(phi, spec, bring, facts, sieve=sieve, policy=policy, progress=progress)
    write_provenance(phi, zone, {})
    return zone


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
    taken, identities = files / f"{name}.part", files.parent / IDENTITIES / name
    for place_for in (taken, identities):
        place_for.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        delivered = take(file_chunks(path), taken, identities=identities)
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
    return Arrival(landed, "", delivered, identities)


def _landed(arrivals: Sequence[Arrival], separated: Sequence[Separated]) -> list[LandedFile]:
    return [
        LandedFile(
            name=arrival.name,
            type=name,
            rows=parts.rows.get(name, 0),
            ids=parts.ids.get(name, 0),
            bytes=arrival.delivered.bytes,
            sha256=arrival.delivered.sha256,
            quarantined=sum(parts.bad.values()) if position == 0 else 0,
            excluded=parts.excluded_of(name),
            narrowed=parts.narrowed_of(name),
        )
        for arrival, parts in zip(arrivals, separated, strict=True)
        for position, name in enumerate(parts.types or [arrival.declared_type])
    ]


def _total(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for some in counts:
        total.update(some)
    return dict(sorted(total.items()))


def _nothing_in(source: Path) -> FhirloomError:
    return FhirloomError(
        "bad-input",
        "There is no FHIR resource in the folder",
        where=str(source),
        fix="Name a folder of NDJSON files, one resource a line, plain or gzip.",
    )
