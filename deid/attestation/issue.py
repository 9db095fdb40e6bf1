"""Issuing an attestation: a sealed folder beside the tables that it is about.

    attestation.json    what is attested, and the SHA-256 of every other file; canonical (RFC 8785)
    attestation.sig     the Ed25519 signature over the bytes of attestation.json (RFC 8032), raw
    public-key.pem      the key that verifies it; whose it is, nothing in the folder can prove
    attestation.html    the same for a person, to read and to print
    proofs/*.json       each proof: name, passed, negative_control, detail
    vocabulary.json     the codes that may appear, so that two attestations can be compared
    manifest.json       as in every sealed folder

Equal tables, statement, key and previous attestation give equal bytes: Ed25519 draws nothing, and
no clock is read. `openssl pkeyutl -verify -pubin -inkey public-key.pem -rawin -in attestation.json
-sigfile attestation.sig` checks the signature without fhirloom.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from deid.attestation import content as contents
from deid.attestation.canonical import canonical
from deid.attestation.changes import changes
from deid.attestation.keys import key_id, public_pem, signing_key
from deid.attestation.page import PAGE, TEMPLATES, page
from deid.attestation.statements import statement
from deid.interpretations import LIST as INTERPRETATIONS
from deid.policy import SAFE_HARBOR
from deid.vocabulary import FILE as VOCABULARY
from deid.vocabulary import load_vocabulary
from exports.errors import FhirloomError
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

VERSION: Final = 1
FORMAT: Final = "fhirloom attestation 1"
ALGORITHM: Final = "Ed25519"
ATTESTATION: Final = "attestation.json"
SIGNATURE: Final = "attestation.sig"
PUBLIC_KEY: Final = "public-key.pem"
FOLDER: Final = "attestation"


@dataclass(frozen=True)
class Attestation:
    """A sealed attestation of research tables."""

    sealed: Sealed

    @property
    def page(self) -> Path:
        """The page for a person."""
        return self.sealed.path / PAGE

    @property
    def place(self) -> str:
        """The page's path below `research/`, or below `phi/limited`."""
        return f"{FOLDER}/{self.sealed.path.name}/{PAGE}"

    @property
    def content(self) -> Mapping[str, Any]:
        """What is attested."""
        return _content(self.sealed)

    @property
    def stated(self) -> bool | None:
        """Whether the operator has stated to have no actual knowledge; None where none is asked."""
        return stated(self.content)


def issue(tables: Sealed, phi: Path) -> Attestation:
    """The attestation of sealed tables, in `attestation/` beside their own folder.

    An attestation of other tables that stood there is the previous one. Raises `FhirloomError`:
    bad-input for a key that can't be used, proof-failed for tables whose manifest is not the one
    that was sealed.
    """
    tables = _whole(tables.path)
    root = tables.path.parent.parent / FOLDER
    key, said = signing_key(phi), statement(phi, tables.digest)
    identity = key_id(key.public_key())
    previous = _previous(root, tables)
    stage = Stage(
        FOLDER,
        VERSION,
        {
            "tables": tables.digest,
            "statement": "" if said is None else hash_json(vars(said)),
            "key": identity,
            "previous": "" if previous is None else previous.digest,
        },
        _spec(),
    )
    if found := find_sealed(root, stage):
        return Attestation(found)
    told = contents.content(tables, said)
    told["previous"] = None if previous is None else previous.digest
    told["changed"] = (
        None
        if previous is None
        else changes(
            _content(previous),
            told,
            load_vocabulary(previous.path / VOCABULARY).codes,
            load_vocabulary(tables.path / VOCABULARY).codes,
        )
    )
    with sealing(root, stage, mode=tables.path.stat().st_mode & 0o777) as draft:
        _write_parts(draft.path, tables, told)
        (draft.path / PUBLIC_KEY).write_bytes(public_pem(key.public_key()))
        (draft.path / PAGE).write_text(page(told, identity), encoding="utf-8")
        attested = canonical(
            {
                "format": FORMAT,
                "algorithm": ALGORITHM,
                "key": identity,
                "inputs": dict(stage.inputs),
                "content": told,
                "files": hashes(draft.path),
            }
        )
        (draft.path / ATTESTATION).write_bytes(attested)
        (draft.path / SIGNATURE).write_bytes(key.sign(attested))
    return Attestation(draft.result)


def attestation_of(tables: Sealed) -> Attestation | None:
    """The current attestation, if it is about these tables."""
    current = open_sealed(tables.path.parent.parent / FOLDER / CURRENT)
    if current is None or current.inputs["tables"] != tables.digest:
        return None
    return Attestation(current)


def hashes(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below a folder, by its path there."""
    return {
        path.relative_to(folder).as_posix(): hash_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _write_parts(folder: Path, tables: Sealed, told: Mapping[str, Any]) -> None:
    (folder / "proofs").mkdir()
    for proof in tables.facts["proofs"]:
        path = folder / contents.proof_file(proof["name"])
        facts = contents.proof_facts(proof)
        path.write_text(json.dumps(facts, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    shutil.copyfile(tables.path / VOCABULARY, folder / VOCABULARY)


def _previous(root: Path, tables: Sealed) -> Sealed | None:
    """The last attestation that was about other tables."""
    current = open_sealed(root / CURRENT)
    if current is None or current.inputs["tables"] != tables.digest:
        return current
    before = current.inputs["previous"]
    folders = (path for path in sorted(root.iterdir()) if path.is_dir() and not path.is_symlink())
    sealed = (open_sealed(path) for path in folders)
    return next((each for each in sealed if each is not None and each.digest == before), None)


def _content(sealed: Sealed) -> Mapping[str, Any]:
    read: Mapping[str, Any] = json.loads((sealed.path / ATTESTATION).read_bytes())["content"]
    return read


def stated(told: Mapping[str, Any]) -> bool | None:
    """Whether an attestation's content has the statement that Safe Harbor asks for."""
    if told["policy"]["name"] != SAFE_HARBOR.name:
        return None
    return told["statement"] is not None


def _spec() -> str:
    """What an attestation is made by, beside its inputs."""
    parts = [contents.IDENTIFIERS, INTERPRETATIONS, *sorted(TEMPLATES.iterdir())]
    return hash_json({path.name: hash_file(path) for path in parts})


def _whole(folder: Path) -> Sealed:
    """Sealed tables as their manifest has them, so that nothing is signed that was not proven."""
    tables = open_sealed(folder)
    if tables is not None:
        read = json.loads((folder / MANIFEST).read_text())
        if tables.digest == hash_json({part: read[part] for part in ("key", "files", "facts")}):
            return tables
    raise FhirloomError(
        "proof-failed",
        "The tables' manifest is not the one that was sealed",
        where=f"{folder.name}/{MANIFEST}",
        fix="Remove this folder of tables, and run `fhirloom deid` again.",
    )
