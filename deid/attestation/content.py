"""What an attestation says: gathered from sealed tables, in which the run left its account.

Counts, hashes, reasons, and names of columns and elements only; nothing of a patient. Whatever a
run of an earlier version did not record is null or empty.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from deid.attestation.statements import Statement
from deid.interpretations import interpretations
from deid.policy import SAFE_HARBOR
from deid.research import RULES, ResearchTables
from deid.vocabulary import FILE as VOCABULARY
from deid.vocabulary import load_vocabulary
from exports.sealed import MANIFEST, Sealed, hash_file

HERE: Final = Path(__file__).parent
IDENTIFIERS: Final = HERE / "safe_harbor.json"


def content(tables: Sealed, said: Statement | None) -> dict[str, Any]:
    """The attestation of sealed tables, but for what changed since the last one."""
    facts, origin = tables.facts, tables.facts.get("origin", {})
    policy = facts.get("policy", SAFE_HARBOR.facts())
    files = released_files(tables)
    vocabulary = load_vocabulary(tables.path / VOCABULARY)
    proofs = [proof_facts(proof) for proof in facts["proofs"]]
    return {
        "policy": policy,
        "export": origin.get("export"),
        "lineage": {
            "landing": origin.get("landing"),
            **tables.inputs,
            "tables": tables.digest,
        },
        "rules": {
            part: {
                path.stem: files[path.relative_to(tables.path).as_posix()]
                for path in sorted((tables.path / RULES / part).glob("*.json"))
            }
            for part in ("views", "domains")
        },
        "vocabulary": {
            "sha256": files[VOCABULARY],
            "digest": vocabulary.digest,
            "codes": len(vocabulary.codes),
        },
        "code": origin.get("code"),
        "tables": {
            "folder": tables.path.name,
            "rows": dict(facts["tables"]),
            "columns": columns(ResearchTables(tables)),
            "files": files,
        },
        "counts": {
            "views": list(facts["counts"]),
            "files": origin.get("files", []),
            "paths": origin.get("paths", []),
        },
        "proofs": [{**proof, "file": proof_file(proof["name"])} for proof in proofs],
        "identifiers": identifiers(str(policy["name"]), [proof["name"] for proof in proofs]),
        "interpretations": [asdict(each) for each in interpretations(policy["name"])],
        "statement": None if said is None else asdict(said),
    }


def released_files(tables: Sealed) -> dict[str, str]:
    """The SHA-256 of every file of the tables' folder, as they were when they were sealed."""
    manifest = tables.path / MANIFEST
    sealed: dict[str, str] = json.loads(manifest.read_text())["files"]
    return {**sealed, MANIFEST: hash_file(manifest)}


def columns(tables: ResearchTables) -> dict[str, dict[str, str]]:
    """Each table's columns with their types."""
    schemas = {name: pq.read_schema(tables.path(name, 0)) for name in tables.names}
    return {
        name: {item.name: str(item.type) for item in schema} for name, schema in schemas.items()
    }


def proof_facts(proof: Mapping[str, Any]) -> dict[str, Any]:
    """A proof as its own file has it; `negative_control` is "found", "not found" or "none"."""
    detail = dict(proof["detail"])
    found = detail.get("negative_control_found")
    if found is None and "negative_controls_planted" in detail:
        planted = detail["negative_controls_planted"]
        found = any(figures(planted).values()) and planted == detail["negative_controls_found"]
    control = "none" if found is None else "found" if found else "not found"
    return {
        "name": proof["name"],
        "passed": proof["passed"],
        "negative_control": control,
        "detail": detail,
    }


def proof_file(name: str) -> str:
    """Where a proof's file stands in the attestation."""
    return f"proofs/{'-'.join(re.findall('[a-z0-9]+', name.casefold()))}.json"


def figures(detail: Any, name: str = "") -> dict[str, Any]:
    """A proof's detail as flat figures, by the dotted names that lead to them; no hits are 0."""
    if not isinstance(detail, Mapping):
        return {name: detail}
    if not detail and name:
        return {name: 0}
    found: dict[str, Any] = {}
    for key, value in detail.items():
        found |= figures(value, f"{name}.{key}" if name else str(key))
    return found


def identifiers(policy: str, proofs: Sequence[str]) -> list[dict[str, Any]]:
    """The 18 classes: what the rules do with each, and which proofs of this run look for it."""
    listed = json.loads(IDENTIFIERS.read_text())["identifiers"]
    strict = policy == SAFE_HARBOR.name
    return [
        {
            "letter": item["letter"],
            "class": item["class"],
            "treatment": item["treatment"] if strict else item.get("limited", item["treatment"]),
            "proofs": [name for name in proofs if name.startswith(tuple(item["proofs"]))],
        }
        for item in listed
    ]
