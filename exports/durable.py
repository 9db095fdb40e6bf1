"""Small files that survive a crash: either the old content or the new one, never a part."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO, Any

import orjson


def write_durably(path: Path, content: bytes) -> None:
    """Replace `path` by `content`, on the disk when this returns; for its owner's eyes alone."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    with open_private(aside, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    sync_folder(path.parent)


def write_json_durably(path: Path, value: Any) -> None:
    """Replace `path` by a JSON value, on the disk when this returns."""
    write_durably(path, orjson.dumps(value, option=orjson.OPT_INDENT_2))


def open_private(path: Path, mode: str) -> IO[Any]:
    """Open a file to write to, which others than its owner can't read (0600)."""
    return open(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600))


def sync_folder(folder: Path) -> None:
    """Put a folder's entries (new and renamed files) on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
