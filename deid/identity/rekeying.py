"""Another key for the crosswalk: every table is encrypted anew, and says what it said.

The new folder stands in for the old one in one step, digest and all, so that nothing that was made
from it has to be made again. Copies that were taken before still open with the old key. Cut short
anywhere, the same call goes on from there.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from deid.identity.custody import TABLES, Crosswalk, forget_former, open_crosswalk
from deid.identity.keys import load_key, put_in_force
from deid.identity.vault import is_encrypted, read_encrypted, write_encrypted
from deid.policy import LIMITED_DATA_SET, SAFE_HARBOR
from exports.errors import FhirloomError
from exports.sealed import CURRENT, MANIFEST, point_current, sync_tree


def use_key(phi: Path, reference: str) -> None:
    """Take a key that is given by reference for what is to come, and keep the reference.

    Raises `FhirloomError` (bad-input) where a crosswalk is there already, under another key.
    """
    key = load_key(reference)
    for root in _roots(phi):
        if _is_encrypted(root):
            _check(root, key)
    put_in_force(phi, reference)


def rekey(phi: Path, reference: str, *, old: str | None = None) -> int:
    """Encrypt every crosswalk with another key, given by reference; how many there were to do.

    `old` is the reference of the present key, where that has moved.

    Raises `FhirloomError` (bad-input) where one of the keys leads nowhere, or does not open it.
    """
    new, done = load_key(reference), 0
    present_key = load_key(old) if old else None
    for root in _roots(phi):
        if not (root / CURRENT).exists() or (_is_encrypted(root) and _opens(root, new)):
            continue
        present = open_crosswalk(root, present_key)
        if present is not None:
            _rewrite(root, present, new)
            done += 1
    put_in_force(phi, reference)
    for root in _roots(phi):
        if root.exists():
            forget_former(root)
    return done


def _rewrite(root: Path, present: Crosswalk, key: bytes) -> None:
    place = root / f"{present.sealed.key[:16]}-{os.urandom(4).hex()}"
    building = place.with_name(f".building-{place.name}")
    building.mkdir(mode=0o700)
    for name in TABLES:
        path = building / f"{name}.parquet"
        write_encrypted(present.read(name), path, key)
        path.chmod(0o600)
    shutil.copy2(present.sealed.path / MANIFEST, building / MANIFEST)
    sync_tree(building)
    building.rename(place)
    point_current(root, place.name)


def _roots(phi: Path) -> list[Path]:
    return [phi / policy.crosswalk for policy in (SAFE_HARBOR, LIMITED_DATA_SET)]


def _is_encrypted(root: Path) -> bool:
    path = root / CURRENT / "patients.parquet"
    return path.exists() and is_encrypted(path)


def _check(root: Path, key: bytes) -> None:
    read_encrypted((root / CURRENT).resolve() / "removed.parquet", key)


def _opens(root: Path, key: bytes) -> bool:
    try:
        _check(root, key)
    except FhirloomError:
        return False
    return True
