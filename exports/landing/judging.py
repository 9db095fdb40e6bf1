"""A file's lines judged at the speed of the wire, with the same verdicts as `landing.ndjson.judge`.

Most lines are good, so each is first read by a decoder that checks all of its JSON and builds
nothing but type, id and labels. A line that this decoder refuses goes to the slow judge, which
knows why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec

from exports.landing.identities import IdHashes
from exports.landing.ndjson import LONGEST_LINE, is_header, read_resource, unmark, whole_lines
from exports.resource_types import RESOURCE_TYPES


class _Label(msgspec.Struct):
    """A label's content doesn't matter here."""


class _Meta(msgspec.Struct):
    security: list[_Label] | None = None
    tag: list[_Label] | None = None


_Resource: Final = msgspec.defstruct(
    "_Resource",
    [
        ("resourceType", Literal[tuple(sorted(RESOURCE_TYPES))]),
        ("id", Annotated[str, msgspec.Meta(min_length=1)]),
        ("meta", _Meta | None, None),
    ],
)
_DECODER: Final[msgspec.json.Decoder[Any]] = msgspec.json.Decoder(_Resource)
BROKEN: Final = frozenset({"not-json", "not-utf8"})
"""Reasons that a line has which ends in its middle."""
_REFUSALS: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True)
class Judged:
    """What the lines of one file are.

    `rows` and `ids` (distinct) count the good lines by resource type, `bad` the others by reason;
    blank lines are in neither. `marked`: the file begins with a byte order mark. `labelled` are
    the good lines with a security label or a tag; `headers` the lines that only say whose
    resources follow, which are neither good nor bad. `cut`: the last line has no line feed and
    can't be read, so the file ends in its middle.
    """

    rows: Mapping[str, int]
    ids: Mapping[str, int]
    bad: Mapping[str, int]
    marked: bool
    labelled: int = 0
    headers: int = 0
    cut: bool = False

    @property
    def lines(self) -> int:
        """All lines that aren't blank."""
        return sum(self.rows.values()) + sum(self.bad.values()) + self.headers

    @property
    def readable(self) -> bool:
        """Whether a strict reader can take the file as it is: one type, and resources only."""
        return len(self.rows) <= 1 and not (self.bad or self.headers or self.marked)


def judge_all(blocks: Iterable[bytes], hashes: IdHashes | None = None) -> Judged:
    """Judge every line of an unpacked file, keeping the counts, and in `hashes` the ids."""
    tally = _Tally(hashes or IdHashes())
    marked, rest = unmark(blocks)
    end = _End(rest)
    for text, _ in whole_lines(end):
        tally.take(text)
    return tally.judged(marked, end.is_open)


class _End:
    """Passes blocks on, and tells whether the last one ended within a line."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks = blocks
        self.is_open = False

    def __iter__(self) -> Iterator[bytes]:
        for block in self._blocks:
            self.is_open = not block.endswith(b"\n") if block else self.is_open
            yield block


class _Tally:
    def __init__(self, hashes: IdHashes) -> None:
        self._hashes = hashes
        self._rows: Counter[str] = Counter()
        self._bad: Counter[str] = Counter()
        self._labelled = 0
        self._headers = 0
        self._broken = False

    def take(self, text: bytes) -> None:
        """Judge some whole lines."""
        lines = text.split(b"\n")
        self._broken = False
        if not _is_plain(text):
            self._take_slowly(lines)
            return
        try:
            self._count(list(map(_DECODER.decode, lines)))
        except _REFUSALS:
            self._take_apart(lines)

    def judged(self, marked: bool, is_open: bool) -> Judged:
        """What all the lines were; `is_open`: the last one has no line feed."""
        return Judged(
            rows=dict(sorted(self._rows.items())),
            ids=self._hashes.distinct(),
            bad=dict(sorted(self._bad.items())),
            marked=marked,
            labelled=self._labelled,
            headers=self._headers,
            cut=is_open and self._broken,
        )

    def _count(self, resources: Sequence[Any]) -> None:
        types = {resource.resourceType for resource in resources}
        for resource_type in types:
            of_type = [row for row in resources if row.resourceType == resource_type]
            self._rows[resource_type] += len(of_type)
            self._hashes.add(resource_type, [row.id for row in of_type])
        metas = [row.meta for row in resources if row.meta is not None]
        self._labelled += len([meta for meta in metas if meta.security or meta.tag])

    def _take_apart(self, lines: Iterable[bytes]) -> None:
        good, others = [], []
        for line in lines:
            try:
                good.append(_DECODER.decode(line))
            except _REFUSALS:
                others.append(line)
        self._count(good)
        self._take_slowly(others)

    def _take_slowly(self, lines: Iterable[bytes]) -> None:
        for line in lines:
            resource = read_resource(line)
            if isinstance(resource, str):
                self._bad[resource] += 1
                self._broken = resource in BROKEN
            elif resource is not None and is_header(resource):
                self._headers += 1
            elif resource is not None:
                self._rows[resource["resourceType"]] += 1
                self._hashes.add(resource["resourceType"], [resource["id"]])
                self._labelled += _has_label(resource.get("meta"))


def _is_plain(text: bytes) -> bool:
    """Whether the fast decoder sees all that the slow judge would refuse in these lines."""
    if len(text) > LONGEST_LINE:
        return False
    try:
        # The fast decoder passes over the bytes of strings that it doesn't build.
        return text.isascii() or bool(text.decode())
    except UnicodeDecodeError:
        return False


def _has_label(meta: Any) -> bool:
    return isinstance(meta, dict) and bool(meta.get("security") or meta.get("tag"))
