"""Bad lines apart from good ones: clean copies for the readers, a record of each line left out."""

from __future__ import annotations

import gzip
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Final

import orjson

from exports.delivery import Delivered, file_chunks
from exports.ndjson import judge, read_lines, unpack

NO_RESOURCES: Final = "no-resources"


def bad_counts(delivered: Delivered) -> dict[str, int]:
    """The lines left out of one file, by reason.

    A file without a single resource (a README, a manifest) is set aside as a whole, its lines
    counted under `no-resources`.
    """
    judged = delivered.judged
    if judged.bad and not judged.rows:
        return {NO_RESOURCES: judged.lines}
    return dict(judged.bad)


def clean_name(name: str, resource_type: str) -> str:
    """The name of the clean copy of `name` that holds one type."""
    return f"{name}.{resource_type}.ndjson.gz"


def separate(file: Path, name: str, delivered: Delivered, clean: Path, quarantine: Path) -> None:
    """Write `file`'s good lines to `clean`, one copy per type, and append its bad ones' places.

    `quarantine` is NDJSON of {file, line (from 1), offset (bytes, unpacked), reason}: where to
    find the line in the file as delivered, which is kept.
    """
    with quarantine.open("ab") as log:
        if delivered.judged.rows:
            _split(file, name, clean, log)
        else:
            _record(log, name, 1, 0, NO_RESOURCES)


def _split(file: Path, name: str, clean: Path, log: IO[bytes]) -> None:
    copies: dict[str, gzip.GzipFile] = {}
    with ExitStack() as stack:
        for number, offset, line in read_lines(unpack(file_chunks(file))):
            verdict = judge(line)
            if isinstance(verdict, str):
                _record(log, name, number, offset, verdict)
            elif verdict is not None:
                resource_type = verdict[0]
                if resource_type not in copies:
                    copies[resource_type] = _new_copy(
                        clean / clean_name(name, resource_type), stack
                    )
                copies[resource_type].write(line + b"\n")


def _new_copy(path: Path, stack: ExitStack) -> gzip.GzipFile:
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = stack.enter_context(path.open("wb"))
    # No name and no time in the header: equal lines give equal bytes.
    return stack.enter_context(
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0, compresslevel=6)
    )


def _record(log: IO[bytes], name: str, number: int, offset: int, reason: str) -> None:
    entry = {"file": name, "line": number, "offset": offset, "reason": reason}
    log.write(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE))
