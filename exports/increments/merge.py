"""Delivered zones as one: an index over them, by which each resource stands once, at its newest.

Delivered zones are immutable and stay as they are. The merged zone is sealed beside them, with
`index/<Type>.parquet` telling of each standing row in which zone, file and line it was delivered.
A file all of whose rows stand is the delivered one, under a second name; of a file of which some
rows stand there is a copy of these.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import datetime
from pathlib import Path
from typing import Final

import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from exports.increments.merge_index import files_of
from exports.increments.standing import Delivery, Standing
from exports.increments.versions import good_lines
from exports.landing.provenance import write_provenance
from exports.landing.quarantine import clean_name
from exports.landing.zone import LandedFile, LandingZone
from exports.progress import Progress, silent
from exports.sealed import Stage, find_sealed, hash_json, sealing

VERSION: Final = 3


def merge(
    phi: Path,
    deliveries: Sequence[Delivery],
    *,
    types: Collection[str] = (),
    as_of: datetime | None = None,
    progress: Progress = silent,
) -> LandingZone:
    """Merge deliveries, oldest first, into one sealed landing zone, and make it the current one.

    `types` are those to keep (none named: all); `as_of` is the moment up to which the whole is
    known, by default the newest of the zones' own. The same deliveries give the same zone; of a
    zone that comes twice the last place counts. What stands is told in `increments.standing`.
    """
    parts = _each_once(deliveries)
    times = [time for part in parts if (time := part.zone.transaction_time) is not None]
    known = as_of or max(times, default=None)
    terms = {
        "whole": [None if part.whole is None else sorted(part.whole) for part in parts],
        "left": [sorted(part.left) for part in parts],
        "types": sorted(types),
        "as_of": None if known is None else known.isoformat(),
    }
    inputs = {f"{position:04d}": part.zone.sealed.digest for position, part in enumerate(parts)}
    stage = Stage("landing", VERSION, inputs, hash_json(terms))
    if found := find_sealed(phi / "landing", stage):
        return _recorded(phi, LandingZone(found))
    with sealing(phi / "landing", stage, mode=0o700) as draft:
        (draft.path / "index").mkdir(mode=0o700)
        files: list[LandedFile] = []
        counted: Counter[str] = Counter()
        with Standing(phi, parts, draft.path / "spill", progress=progress) as standing:
            kept = [name for name in standing.types if not types or name in types]
            for done, resource_type in enumerate(kept):
                progress(done, len(kept), "types merged")
                index = draft.path / "index" / f"{resource_type}.parquet"
                counted.update(standing.write(resource_type, index))
                for position, part in enumerate(parts):
                    files += _lay(draft.path, standing, resource_type, position, part.zone)
            progress(len(kept), len(kept), "types merged")
        shutil.rmtree(draft.path / "spill", ignore_errors=True)
        draft.facts |= {
            "source": "merged",
            "transaction_time": terms["as_of"],
            "server_rows": None,
            "errors": sum(part.zone.server_errors for part in parts),
            "deleted_reported": any(part.zone.deleted_reported for part in parts),
            "files": [asdict(file) for file in files],
            "quarantined": _total(part.zone.quarantined for part in parts),
            "excluded": _total(part.zone.excluded for part in parts),
            "narrowed": _total(part.zone.narrowed for part in parts),
            "findings": [asdict(found) for part in parts for found in part.zone.findings],
            "zones": [part.zone.sealed.path.name for part in parts],
            "merged": dict(sorted(counted.items())),
        }
    return _recorded(phi, LandingZone(draft.result))


def _each_once(deliveries: Sequence[Delivery]) -> list[Delivery]:
    """The deliveries, a repeated one in its last place; who had left by any of them has left."""
    last = {part.zone.sealed.digest: place for place, part in enumerate(deliveries)}
    parts: list[Delivery] = []
    for place, part in enumerate(deliveries):
        if last[part.zone.sealed.digest] == place:
            parts.append(part)
        elif parts:
            parts[-1] = replace(parts[-1], left=parts[-1].left | part.left)
    return parts


def _recorded(phi: Path, zone: LandingZone) -> LandingZone:
    """The zone, once there is a record of where its files come from."""
    zones = zone.sealed.facts["zones"]
    places = {file.name: file.name.split("/", 1) for file in zone.files}
    origins = {name: f"{zones[int(position)]}/{lies}" for name, (position, lies) in places.items()}
    write_provenance(phi, zone, origins)
    return zone


def _total(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for some in counts:
        total.update(some)
    return dict(sorted(total.items()))


def _lay(
    folder: Path, standing: Standing, resource_type: str, position: int, zone: LandingZone
) -> Iterator[LandedFile]:
    """Bring what stands of one type in one zone into the merged zone's folder."""
    for file, path in files_of(zone, resource_type):
        lies = path.relative_to(zone.sealed.path).as_posix()
        rows = standing.rows_in(zone, lies)
        if not rows:
            continue
        name = f"{position:04d}/{lies}"
        if rows == file.rows:
            _second_name(path, folder / "files" / name)
        else:
            lines = standing.lines_in(zone, lies)
            _copy(path, lines, folder / "clean" / clean_name(name, resource_type))
        yield replace(file, name=name, rows=rows, ids=rows, quarantined=0, excluded=0, narrowed=0)


def _second_name(path: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        os.link(path, target)
    except OSError:
        shutil.copyfile(path, target)


def _copy(path: Path, lines: NDArray[np.int64], target: Path) -> None:
    """The lines of those numbers (ascending)."""
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    wanted = iter(lines)
    following = next(wanted, None)
    # A gzip header of zlib's own has no name and no time: equal lines give equal bytes.
    packer = isal_zlib.compressobj(level=2, wbits=31)
    with target.open("wb") as copy:
        for number, _, line in good_lines(path):
            if number == following:
                copy.write(packer.compress(line + b"\n"))
                following = next(wanted, None)
        copy.write(packer.flush())
