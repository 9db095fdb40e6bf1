"""Delivered files as they may be kept: good lines apart from bad ones and from what has to go.

Readers get clean copies, one per type, of what can't be read or kept as it came; of each bad line
there is a record of its place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

import msgspec
import orjson
from isal import igzip

from exports.landing.delivery import Delivered, file_chunks
from exports.landing.identities import IdHashes
from exports.landing.judging import Judged
from exports.landing.ndjson import BLANKS, judge, load, read_lines, unpack, whole_lines
from exports.landing.sieve import Dropped, Sieve, Sifting
from exports.progress import Progress

NO_RESOURCES: Final = "no-resources"
EXCLUDED: Final = "excluded.ndjson"
WITHHELD: Final = "withheld.ndjson"


class _Named(msgspec.Struct):
    id: str


_read_id: Final = msgspec.json.Decoder(_Named).decode


@dataclass(frozen=True)
class Separated:
    """What became of a delivered file's lines.

    `rows` and `ids` (distinct) are what is kept, by type; `bad` is by reason; `excluded` and
    `narrowed` are (type, reason or parameter) of rows left out. All of them together are the
    lines of the file, but for blank ones and headers. `changed`: the file as delivered holds
    what may not be kept.
    """

    rows: Mapping[str, int]
    ids: Mapping[str, int]
    bad: Mapping[str, int] = field(default_factory=dict)
    excluded: Mapping[tuple[str, str], int] = field(default_factory=dict)
    narrowed: Mapping[tuple[str, str], int] = field(default_factory=dict)
    changed: bool = False

    @property
    def types(self) -> list[str]:
        """Every type that came in the file, kept or not."""
        gone = {resource_type for resource_type, _ in (*self.excluded, *self.narrowed)}
        return sorted({*self.rows, *gone})

    @property
    def excluded_by_reason(self) -> dict[str, int]:
        """Rows that had to go, by reason."""
        return _added(self.excluded, 1)

    @property
    def narrowed_by_parameter(self) -> dict[str, int]:
        """Rows that were not asked for, by parameter."""
        return _added(self.narrowed, 1)

    def excluded_of(self, resource_type: str) -> int:
        """Rows of one type that had to go."""
        return _added(self.excluded, 0).get(resource_type, 0)

    def narrowed_of(self, resource_type: str) -> int:
        """Rows of one type that were not asked for."""
        return _added(self.narrowed, 0).get(resource_type, 0)


def _added(counts: Mapping[tuple[str, str], int], part: int) -> dict[str, int]:
    added: Counter[str] = Counter()
    for key, rows in counts.items():
        added[key[part]] += rows
    return dict(added)


def clean_name(name: str, resource_type: str) -> str:
    """The name of the clean copy of `name` that holds one type."""
    return f"{name}.{resource_type}.ndjson.gz"


def separate_all(
    folder: Path, brought: Sequence[tuple[str, Delivered]], sieve: Sieve, progress: Progress
) -> list[Separated]:
    """What becomes of each file in `folder/files`: one that may not be kept as it came goes.

    The patients who were left out are listed in `folder`, so that the next landing knows them; and
    so are resources left out for themselves, so that no older version stands in their place.
    """
    files = folder / "files"
    sifting = sieve.over([(files / name, delivered) for name, delivered in brought])
    if sifting.excluded:
        listed = ({"patient": who, "reason": why} for who, why in sifting.excluded.items())
        (folder / EXCLUDED).write_bytes(b"".join(orjson.dumps(one) + b"\n" for one in listed))
    quarantine, separated = folder / "quarantine.ndjson", []
    for done, (name, delivered) in enumerate(brought):
        progress(done, len(brought), "files sealed")
        parts = _separate(files / name, name, delivered, sifting, folder / "clean", quarantine)
        if parts.changed:
            (files / name).unlink()
        separated.append(parts)
    for log in (quarantine, folder / WITHHELD):
        if log.exists() and not log.stat().st_size:
            log.unlink()
    for path in sorted((folder / "errors").glob("*")):
        _strip_mentions(path, sifting)
    progress(len(brought), len(brought), "files sealed")
    return separated


def _separate(
    file: Path, name: str, delivered: Delivered, sifting: Sifting, clean: Path, quarantine: Path
) -> Separated:
    """Write what may be kept of `file` to `clean`, one copy per type, unless it can stay as it is.

    `quarantine` is NDJSON of {file, line (from 1), offset (bytes, unpacked), reason}: the place
    of each bad line in the file as delivered. A file without a single resource (a README, a
    manifest) is set aside as a whole, its lines counted under `no-resources`.
    """
    judged = delivered.judged
    if judged.readable and not sifting.changes(file, judged):
        return Separated(judged.rows, judged.ids)
    with ExitStack() as stack:
        log = stack.enter_context(quarantine.open("ab"))
        if not judged.rows:
            return _set_aside(file, name, sifting, log)
        withheld = stack.enter_context(quarantine.with_name(WITHHELD).open("ab"))
        return _Separation(name, sifting, clean, log, withheld, stack).run(file, judged)


def _strip_mentions(file: Path, sifting: Sifting) -> None:
    """Take the lines out of `file` that mention a patient who was left out.

    The file is replaced, not written: a download may be the same file under another name.
    """
    if not any(sifting.mentions(line) for _, _, line in read_lines(unpack(file_chunks(file)))):
        return
    aside = file.with_name(f".{file.name}")
    with ExitStack() as stack:
        packed = file.suffix == ".gz"
        copy = _new_copy(aside, stack) if packed else stack.enter_context(aside.open("wb"))
        for _, _, line in read_lines(unpack(file_chunks(file))):
            if not sifting.mentions(line):
                copy.write(line + b"\n")
    aside.replace(file)


def _set_aside(file: Path, name: str, sifting: Sifting, log: IO[bytes]) -> Separated:
    bad, tainted = 0, False
    for _, _, line in read_lines(unpack(file_chunks(file))):
        bad += judge(line) is not None
        tainted = tainted or sifting.taints(line)
    if bad:
        _record(log, name, 1, 0, NO_RESOURCES)
    return Separated({}, {}, {NO_RESOURCES: bad} if bad else {}, changed=tainted)


class _Separation:
    """One pass over a file that can't stay as it is."""

    def __init__(
        self,
        name: str,
        sifting: Sifting,
        clean: Path,
        log: IO[bytes],
        withheld: IO[bytes],
        stack: ExitStack,
    ) -> None:
        self._name, self._sifting, self._clean = name, sifting, clean
        self._log, self._withheld, self._stack = log, withheld, stack
        self._copies: dict[str, igzip.IGzipFile] = {}
        self._ids = IdHashes()
        self._rows: Counter[str] = Counter()
        self._bad: Counter[str] = Counter()
        self._excluded: Counter[tuple[str, str]] = Counter()
        self._narrowed: Counter[tuple[str, str]] = Counter()
        self._changed = False

    def run(self, file: Path, judged: Judged) -> Separated:
        if judged.readable:
            self._take_runs(file, judged)
        else:
            self._take_lines(file)
        return Separated(
            rows=dict(sorted(self._rows.items())),
            ids=self._ids.distinct(),
            bad=dict(sorted(self._bad.items())),
            excluded=dict(sorted(self._excluded.items())),
            narrowed=dict(sorted(self._narrowed.items())),
            changed=self._changed,
        )

    def _take_runs(self, file: Path, judged: Judged) -> None:
        """Of a file without bad lines: most of it goes through as it is."""
        resource_type = next(iter(judged.rows))
        for text, _ in whole_lines(unpack(file_chunks(file))):
            lines = [line for line in text.split(b"\n") if line.strip(BLANKS)]
            ids = [_id_of(line) for line in lines]
            if self._sifting.suspects(text, judged):
                for line, resource_id in zip(lines, ids, strict=True):
                    self._good(line, (resource_type, resource_id))
            elif lines:
                self._write(resource_type, ids, b"\n".join(lines))

    def _take_lines(self, file: Path) -> None:
        for number, offset, line in read_lines(unpack(file_chunks(file))):
            verdict = judge(line)
            if isinstance(verdict, tuple):
                self._good(line, verdict)
                continue
            self._changed |= self._sifting.taints(line)
            if verdict is not None:
                self._bad[verdict] += 1
                _record(self._log, self._name, number, offset, verdict)

    def _good(self, line: bytes, kind: tuple[str, str]) -> None:
        resource_type, resource_id = kind
        kept = self._sifting.keep(line, kind)
        self._changed |= kept is not line
        if isinstance(kept, Dropped):
            left_out = self._narrowed if kept.excluded is None else self._excluded
            left_out[resource_type, kept.excluded or kept.narrowed] += 1
            if kept.alone:
                entry = {"type": resource_type, "id": resource_id}
                self._withheld.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))
            return
        self._write(resource_type, [resource_id], kept)

    def _write(self, resource_type: str, ids: Sequence[str], lines: bytes) -> None:
        self._rows[resource_type] += len(ids)
        self._ids.add(resource_type, ids)
        if resource_type not in self._copies:
            path = self._clean / clean_name(self._name, resource_type)
            self._copies[resource_type] = _new_copy(path, self._stack)
        self._copies[resource_type].write(lines + b"\n")  # type: ignore[no-untyped-call]


def _id_of(line: bytes) -> str:
    try:
        return _read_id(line).id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return str(load(line)["id"])


def _new_copy(path: Path, stack: ExitStack) -> igzip.IGzipFile:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    raw = stack.enter_context(path.open("wb"))
    # No name and no time in the header: equal lines give equal bytes.
    return stack.enter_context(
        igzip.IGzipFile(  # type: ignore[no-untyped-call]
            filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=2
        )
    )


def _record(log: IO[bytes], name: str, number: int, offset: int, reason: str) -> None:
    entry = {"file": name, "line": number, "offset": offset, "reason": reason}
    log.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))
