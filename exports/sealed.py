"""Sealed folders: a stage's output is complete when it is present, and named by what made it.

A stage builds aside, writes a manifest, syncs, and renames into place. The folder's name comes
from its `key`: the stage, its code version, its spec and the digests of its inputs. The `digest`
adds the content of every file, so the chain of digests is the lineage. Neither covers wall times.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from exports.durable import sync_folder
from exports.errors import FhirloomError
from exports.turns import in_turn

MANIFEST: Final = "manifest.json"
CURRENT: Final = "current"


@dataclass(frozen=True)
class Stage:
    """What determines a stage's output: the same `Stage` over the same bytes gives equal output.

    `inputs` maps a name to the digest of a sealed folder (or file); `spec` is the hash of every
    declarative file and setting that the stage reads; `version` is raised when its code changes
    what it writes.
    """

    name: str
    version: int
    inputs: Mapping[str, str]
    spec: str = ""

    @property
    def key(self) -> str:
        """The hash that names the folder, known before any work is done."""
        return hash_json(
            {
                "stage": self.name,
                "version": self.version,
                "inputs": dict(self.inputs),
                "spec": self.spec,
            }
        )


@dataclass(frozen=True)
class Sealed:
    """A complete folder, its manifest read."""

    path: Path
    key: str
    digest: str
    inputs: Mapping[str, str]
    facts: Mapping[str, Any]
    fresh: bool = False


def hash_json(value: Any) -> str:
    """SHA-256 of a JSON value in canonical form (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def hash_file(path: Path) -> str:
    """SHA-256 of a file's bytes, as hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_sealed(path: Path) -> Sealed | None:
    """The sealed folder at `path` (a `current` link is followed), or None where there is none.

    Raises `FhirloomError` (bad-input) for a manifest that was damaged since.
    """
    manifest = path / MANIFEST
    if not manifest.is_file():
        return None
    try:
        read = json.loads(manifest.read_text())
        return Sealed(path.resolve(), read["key"], read["digest"], read["inputs"], read["facts"])
    except (ValueError, KeyError, TypeError):
        raise FhirloomError(
            "bad-input",
            "The manifest of a sealed folder is damaged",
            where=f"{path.parent.name}/{path.resolve().name}",
            fix="Put the folder back from a backup; or remove it, where the same command can make "
            "it again.",
        ) from None


def find_sealed(root: Path, stage: Stage) -> Sealed | None:
    """The folder under `root` that this very stage has sealed before, made current again."""
    found = open_sealed(root / stage.key[:16])
    if found is not None:
        point_current(root, found.path.name)
    return found


def is_whole(sealed: Sealed) -> bool:
    """Whether every file of a sealed folder is there, as its manifest tells.

    Not for a folder whose files are encrypted: these are hashed as what they say.
    """
    files = json.loads((sealed.path / MANIFEST).read_text())["files"]
    return all(
        (sealed.path / name).is_file() and hash_file(sealed.path / name) == told
        for name, told in files.items()
    )


class Draft:
    """A folder under construction; `facts` end up in the manifest.

    `facts` are part of the digest: counts and settings, never times, paths or values of patients.
    `contents` holds, by name, the hash of what an encrypted file says: it stands in the digest for
    that of the file's bytes, which are others under each key.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.facts: dict[str, Any] = {}
        self.contents: dict[str, str] = {}
        self.sealed: Sealed | None = None

    @property
    def result(self) -> Sealed:
        """The sealed folder; only to be asked for after the `with` block."""
        if self.sealed is None:
            raise RuntimeError("the folder is not sealed yet")
        return self.sealed


@contextmanager
def sealing(root: Path, stage: Stage, *, mode: int = 0o755) -> Iterator[Draft]:
    """Build `root/<key>` aside, and rename it into place when the block ends without an error.

    Files get the folder's `mode` without what makes them programs (0700 gives 0600). One process
    at a time seals in `root`, the others wait; what was sealed meanwhile under the same key stands.
    A folder that was left half-built by a killed process is removed first.
    """
    root.mkdir(mode=mode, parents=True, exist_ok=True)
    target, building = root / stage.key[:16], root / f".building-{stage.key[:16]}"
    with in_turn(root / ".lock"):
        shutil.rmtree(building, ignore_errors=True)
        building.mkdir(mode=mode)
        draft = Draft(building)
        try:
            yield draft
            present = open_sealed(target)
            draft.sealed = present or _seal(draft, stage, target, mode)
        finally:
            shutil.rmtree(building, ignore_errors=True)
        point_current(root, target.name)
        sync_folder(root)


def _seal(draft: Draft, stage: Stage, target: Path, mode: int) -> Sealed:
    names = [
        str(file.relative_to(draft.path))
        for file in sorted(draft.path.rglob("*"))
        if file.is_file()
    ]
    files = {name: draft.contents.get(name) or hash_file(draft.path / name) for name in names}
    content = {"key": stage.key, "files": files, "facts": draft.facts}
    digest = hash_json(content)
    manifest = {
        **content,
        "digest": digest,
        "stage": stage.name,
        "version": stage.version,
        "inputs": dict(stage.inputs),
        "spec": stage.spec,
    }
    (draft.path / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True))
    for path in draft.path.rglob("*"):
        path.chmod(mode if path.is_dir() else mode & 0o666)
    sync_tree(draft.path)
    shutil.rmtree(target, ignore_errors=True)
    draft.path.rename(target)
    return Sealed(target.resolve(), stage.key, digest, dict(stage.inputs), draft.facts, fresh=True)


def point_current(root: Path, name: str) -> None:
    """Make the folder of that name below `root` the current one, in one step."""
    link = root / f".{CURRENT}-{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(name)
    link.replace(root / CURRENT)


def sync_tree(folder: Path) -> None:
    """Put all that lies below a folder on the disk."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
        elif path.is_dir():
            sync_folder(path)
    sync_folder(folder)
