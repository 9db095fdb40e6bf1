"""Which ids were seen, as 64-bit hashes: counted within a file, and compared across files.

A file's hashes are kept beside it: a line of JSON with the number of distinct ids of each type,
then, type by type in that order, the hashes in ascending order as little-endian 64-bit integers.
Among a hundred million ids, two share a hash with a probability of 3 in 10,000.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import orjson

from exports.durable import open_private

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIZE: Final = 8
LONGEST_ID: Final = 64
"""Characters of a FHIR id at most (R4, section 2.24.0.1); a digest stands for a longer one."""
BATCH: Final = 2**14
FACTORS: Final = (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53)
"""Of MurmurHash3's 64-bit finalizer, which its author put into the public domain."""
AT_ONCE: Final = 2**20
"""About how many hashes are in memory while files are compared."""
MAPPED: Final = 512
"""Fewer hashes than this are read: a process may map only so many files."""


class IdHashes:
    """The ids of one file, eight bytes each."""

    def __init__(self) -> None:
        self._waiting: defaultdict[str, list[str]] = defaultdict(list)
        self._found: defaultdict[str, bytearray] = defaultdict(bytearray)

    def add(self, resource_type: str, ids: Iterable[str]) -> None:
        """Take the ids of some rows of one type."""
        waiting = self._waiting[resource_type]
        waiting += ids
        if len(waiting) >= BATCH:
            self._hash(resource_type)

    def distinct(self) -> dict[str, int]:
        """How many different ids there are, by type."""
        return {name: len(hashes) for name, hashes in self._sorted()}

    def write(self, path: Path) -> str:
        """Keep the hashes at `path`; the result is the SHA-256 of that file."""
        found = list(self._sorted())
        digest = hashlib.sha256()
        with open_private(path, "wb") as file:
            for part in (_header(found), *(hashes.tobytes() for _, hashes in found)):
                file.write(part)
                digest.update(part)
        return digest.hexdigest()

    def _sorted(self) -> Iterator[tuple[str, NDArray[Any]]]:
        import numpy as np

        for name in list(self._waiting):
            self._hash(name)
        for name, hashes in sorted(self._found.items()):
            values = np.frombuffer(hashes, dtype="<u8")
            values.sort()
            yield name, values[_first_of_equals(values)]

    def _hash(self, resource_type: str) -> None:
        if waiting := self._waiting.pop(resource_type):
            self._found[resource_type] += hash_ids(waiting).tobytes()


def hash_ids(ids: Sequence[str]) -> NDArray[Any]:
    """64 bits of each id: its words mixed in one after the other, by MurmurHash3's finalizer."""
    import numpy as np

    joined = "".join(ids)
    if not joined.isascii() or "\0" in joined or len(max(ids, key=len)) > LONGEST_ID:
        ids = [_fhir_like(name) for name in ids]
    words = np.array(ids, dtype=f"S{LONGEST_ID}").view("<u8").reshape(len(ids), -1)
    mixed = np.zeros(len(ids), dtype="<u8")
    for column in words.T:
        mixed ^= column
        for factor in FACTORS:
            mixed ^= mixed >> 33
            mixed *= factor
        mixed ^= mixed >> 33
    return mixed


def _fhir_like(name: str) -> str:
    """An id as FHIR allows it stays; any other is stood for by a digest."""
    if name.isascii() and "\0" not in name and len(name) <= LONGEST_ID:
        return name
    return hashlib.sha256(name.encode()).hexdigest()


def repeated(paths: Iterable[Path]) -> dict[str, int]:
    """By type, the rows too many: an id that is in n of the files counts n - 1 times.

    `paths` are what `IdHashes.write` made, of files without ids in common where all is well. The
    hashes are compared range by range, so the memory stays at some 20 MB however many there are.
    """
    by_type: defaultdict[str, list[NDArray[Any]]] = defaultdict(list)
    for path in paths:
        for name, hashes in _read(path):
            by_type[name].append(hashes)
    found: Counter[str] = Counter()
    for name, files in sorted(by_type.items()):
        found[name] = sum(_surplus(part) for part in _ranges(files))
    return {name: surplus for name, surplus in found.items() if surplus}


def _ranges(files: Sequence[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """All hashes, in ranges that are small enough to sort."""
    import numpy as np

    parts = 1 + sum(map(len, files)) // AT_ONCE
    bounds = [(2**64 * part // parts) for part in range(1, parts)]
    cuts = [
        [0, *np.searchsorted(hashes, np.array(bounds, dtype="<u8")).tolist(), len(hashes)]
        for hashes in files
    ]
    for part in range(parts):
        yield np.concatenate(
            [hashes[cut[part] : cut[part + 1]] for hashes, cut in zip(files, cuts, strict=True)]
        )


def _surplus(hashes: NDArray[Any]) -> int:
    hashes.sort()
    return int(len(hashes) - _first_of_equals(hashes).sum())


def _first_of_equals(hashes: NDArray[Any]) -> NDArray[Any]:
    """Where a value of a sorted array stands for the first time."""
    import numpy as np

    first = np.ones(len(hashes), dtype=bool)
    first[1:] = hashes[1:] != hashes[:-1]
    return first


def _header(found: Sequence[tuple[str, NDArray[Any]]]) -> bytes:
    counts = {name: len(hashes) for name, hashes in found}
    return orjson.dumps(counts, option=orjson.OPT_APPEND_NEWLINE)


def _read(path: Path) -> Iterator[tuple[str, NDArray[Any]]]:
    """Each type's hashes; many are left on the disk until they are looked at."""
    import numpy as np

    with path.open("rb") as file:
        header = file.readline()
    offset = len(header)
    for name, count in orjson.loads(header).items():
        if count > MAPPED:
            yield name, np.memmap(path, dtype="<u8", mode="r", offset=offset, shape=(count,))
        else:
            yield name, np.fromfile(path, dtype="<u8", count=count, offset=offset)
        offset += SIZE * count
