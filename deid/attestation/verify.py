"""Checking an attestation: everything that it says is computed again from what lies there.

Nothing of `phi/` is needed, so that a copy of `research/` can be checked on another machine.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from deid.attestation.canonical import canonical, read
from deid.attestation.content import proof_facts
from deid.attestation.issue import (
    ALGORITHM,
    ATTESTATION,
    FOLDER,
    FORMAT,
    PUBLIC_KEY,
    SIGNATURE,
    stated,
)
from deid.attestation.keys import key_id, public_key
from deid.attestation.page import content_digest
from exports.errors import FhirloomError
from exports.sealed import CURRENT, MANIFEST, Stage, hash_file, hash_json

UNSIGNED: Final = frozenset({ATTESTATION, SIGNATURE, MANIFEST})
"""Files of the folder that the attestation cannot hold the hash of: what signs it, and seals it."""
SEALED: Final = ("key", "files", "facts")
"""What a manifest's digest is over."""
LACKING: Final = (KeyError, TypeError, AttributeError, ValueError)
"""What a file that is well signed, but no attestation, leads to."""


@dataclass(frozen=True)
class Checked:
    """What became of the check; `mismatches` names whatever is not as it was attested.

    `known` says whether the signature is that of a key that came from elsewhere; `stated` is None
    where the policy asks for no statement.
    """

    folder: Path
    tables: Path
    key: str
    known: bool
    stated: bool | None
    digest: str
    files: int
    rows: int
    mismatches: tuple[str, ...]


def verify(folder: Path, *, key: Path | None = None, tables: Path | None = None) -> Checked:
    """Check the attestation in `folder`, or below it, and the tables that it is about.

    `key` is a public key in PEM of whoever is to have signed; `tables` says where the tables are,
    when they are not in `tables/` beside `attestation/`. Raises `FhirloomError` (bad-input) where
    there is no attestation, no tables, or no such key.
    """
    place = _attestation_folder(folder)
    signer = None if key is None else public_key(key)
    written = (place / ATTESTATION).read_bytes()
    attested, wrong = _read(written)
    if attested is None:
        return Checked(place, place, "", signer is not None, None, "", 0, 0, tuple(wrong))
    try:
        return _checked(place, written, attested, signer, tables)
    except LACKING:
        wrong = [f"{ATTESTATION}: lacks what an attestation has"]
        return Checked(place, place, "", signer is not None, None, "", 0, 0, tuple(wrong))


def _checked(
    place: Path,
    written: bytes,
    attested: Mapping[str, Any],
    signer: Ed25519PublicKey | None,
    tables: Path | None,
) -> Checked:
    told = attested["content"]
    released = _tables_folder(place, told, tables)
    return Checked(
        folder=place,
        tables=released,
        key=attested["key"],
        known=signer is not None,
        stated=stated(told),
        digest=content_digest(told),
        files=len(attested["files"]) + len(told["tables"]["files"]),
        rows=sum(told["tables"]["rows"].values()),
        mismatches=(
            *_signature(place, written, attested, signer),
            *_held(place, attested["files"], UNSIGNED),
            *_proofs(place, told),
            *_sealed_as(place, attested),
            *_held(released, told["tables"]["files"], frozenset(), "tables/"),
            *_tables(released, told),
        ),
    )


def read_attestation(folder: Path) -> tuple[Path, Mapping[str, Any]]:
    """Where an attestation lies, and its content; it is not checked.

    Raises `FhirloomError` (bad-input) where there is none that can be read.
    """
    place = _attestation_folder(folder)
    attested, _ = _read((place / ATTESTATION).read_bytes())
    if attested is None:
        raise _nothing(folder, "That is no attestation of this version")
    return place, attested["content"]


def _attestation_folder(folder: Path) -> Path:
    """The folder itself, or the current one below it."""
    for below in (".", CURRENT, f"{FOLDER}/{CURRENT}", f"research/{FOLDER}/{CURRENT}"):
        if (folder / below / ATTESTATION).is_file():
            return (folder / below).resolve()
    raise _nothing(folder, "There is no attestation")


def _nothing(folder: Path, what: str) -> FhirloomError:
    return FhirloomError(
        "bad-input",
        what,
        where=str(folder),
        fix="Give the folder that holds attestation.json, or research/.",
    )


def _tables_folder(place: Path, told: Mapping[str, Any], given: Path | None) -> Path:
    found = given or place.parent.parent / "tables" / str(told["tables"]["folder"])
    if (found / CURRENT / MANIFEST).is_file():
        found = found / CURRENT
    if not found.is_dir():
        raise FhirloomError(
            "bad-input",
            "The attested tables are not there",
            where=str(found),
            fix="Say where they are with --tables DIR.",
        )
    return found.resolve()


def _read(written: bytes) -> tuple[dict[str, Any] | None, list[str]]:
    """The signed JSON, where it has the form of one and each meaning has its one spelling."""
    try:
        attested = read(written)
        whole = attested["format"] == FORMAT and attested["algorithm"] == ALGORITHM
        if whole and canonical(attested) == written:
            return attested, []
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    return None, [f"{ATTESTATION}: not an attestation in canonical form"]


def _signature(
    place: Path, written: bytes, attested: Mapping[str, Any], signer: Ed25519PublicKey | None
) -> Iterator[str]:
    try:
        own = public_key(place / PUBLIC_KEY)
        signature = (place / SIGNATURE).read_bytes()
    except (FhirloomError, OSError):
        yield f"{SIGNATURE}, {PUBLIC_KEY}: one of them is missing or unreadable"
        return
    if attested["key"] != key_id(own):
        yield f"{PUBLIC_KEY}: not the key that the attestation names"
    if signer is not None and key_id(signer) != key_id(own):
        yield f"{SIGNATURE}: signed by the key {key_id(own)}, and not by the one that was given"
    try:
        (signer or own).verify(signature, written)
    except InvalidSignature:
        yield f"{SIGNATURE}: not the signature of {ATTESTATION} by the key {key_id(signer or own)}"


def _held(
    folder: Path, hashes: Mapping[str, str], besides: frozenset[str], said: str = ""
) -> Iterator[str]:
    """Files that are missing, changed, or stand there unattested; a link is never what it names."""
    present = {
        path.relative_to(folder).as_posix(): path
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or not path.is_dir()
    }
    for name, digest in hashes.items():
        if name not in present:
            yield f"{said}{name}: missing"
        elif present[name].is_symlink() or not present[name].is_file():
            yield f"{said}{name}: no file of its own"
        elif hash_file(present[name]) != digest:
            yield f"{said}{name}: changed"
    for name in sorted(present.keys() - hashes.keys() - besides):
        yield f"{said}{name}: a file that was not attested"


def _proofs(place: Path, told: Mapping[str, Any]) -> Iterator[str]:
    """Each proof holds, found its control, and its file says what the attestation says of it."""
    for proof in told["proofs"]:
        if not proof["passed"] or proof["negative_control"] == "not found":
            yield f"{proof['file']}: {proof['name']} does not hold"
        try:
            found = json.loads((place / proof["file"]).read_bytes())
            same = {**found, "file": proof["file"]} == proof and proof_facts(found) == found
        except (OSError, ValueError, TypeError, KeyError):
            same = False
        if not same:
            yield f"{proof['file']}: does not say what the attestation says of {proof['name']}"


def _sealed_as(place: Path, attested: Mapping[str, Any]) -> Iterator[str]:
    """The manifest, which is not signed, says of the folder what can be computed."""
    try:
        found = json.loads((place / MANIFEST).read_bytes())
        stage = Stage(found["stage"], found["version"], found["inputs"], found["spec"])
        names = [*attested["files"], ATTESTATION, SIGNATURE]
        good = (
            found["inputs"] == attested["inputs"]
            and found["key"] == stage.key
            and found["facts"] == {}
            and found["files"] == {name: hash_file(place / name) for name in names}
            and found["digest"]
            == hash_json({name: found[name] for name in ("key", "files", "facts")})
        )
    except (OSError, ValueError, TypeError, KeyError):
        good = False
    if not good:
        yield f"{MANIFEST}: not the manifest of this attestation"


def _tables(released: Path, told: Mapping[str, Any]) -> Iterator[str]:
    """The tables' digest, rows and columns."""
    try:
        digest = json.loads((released / MANIFEST).read_bytes())["digest"]
    except (OSError, ValueError, TypeError, KeyError):
        digest = ""
    if digest != told["lineage"]["tables"]:
        yield "tables: not the tables that were attested"
    for table, rows in told["tables"]["rows"].items():
        columns = told["tables"]["columns"][table]
        try:
            files = [pq.ParquetFile(path) for path in sorted((released / table).glob("*.parquet"))]
            found = sum(file.metadata.num_rows for file in files)
            shaped = all(_columns(file.schema_arrow) == columns for file in files)
        except (OSError, pa.ArrowException):
            yield f"tables/{table}: cannot be read"
            continue
        if found != rows:
            yield f"tables/{table}: {found:,} rows, and {rows:,} were attested"
        if not shaped:
            yield f"tables/{table}: other columns than were attested"


def _columns(schema: pa.Schema) -> dict[str, str]:
    return {item.name: str(item.type) for item in schema}
