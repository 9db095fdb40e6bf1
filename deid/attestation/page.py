"""The attestation as one self-contained HTML page: no script, nothing from a network, printable."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import jinja2

from deid.attestation.canonical import canonical
from deid.policy import SAFE_HARBOR

PAGE: Final = "attestation.html"
TEMPLATES: Final = Path(__file__).parent / "templates"
MOST_FILES: Final = 250
"""Landed files that the page lists; the signed file has them all."""
SECTIONS: Final = {
    "policy": "Policy",
    "inputs": "Inputs",
    "rules": "Rules",
    "code": "Code",
    "rows": "Rows of the tables",
    "columns": "Columns",
    "proofs": "Figures of the proofs",
    "interpretations": "Interpretations",
    "identifiers": "Treatment of the 18 identifiers",
}


def page(told: Mapping[str, Any], key: str) -> str:
    """The page of an attestation's content; `key` is the id of the key that signs it."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": _count, "readable": _readable, "figures": _figures}
    views = told["counts"]["views"]
    return environment.get_template(f"{PAGE}.j2").render(
        told=told,
        key=key,
        digest=content_digest(told),
        safe_harbor=told["policy"]["name"] == SAFE_HARBOR.name,
        rows=sum(told["tables"]["rows"].values()),
        controls=Counter(proof["negative_control"] for proof in told["proofs"]),
        passed=sum(proof["passed"] for proof in told["proofs"]),
        reasons=_reasons(views),
        balanced=all(_adds_up(view) for view in views),
        paths={
            kind: list(rows)
            for kind, rows in groupby(told["counts"]["paths"], key=lambda row: row["type"])
        },
        sections=SECTIONS,
        most_files=MOST_FILES,
    )


def content_digest(told: Mapping[str, Any]) -> str:
    """What the page shows, so that a printed one can be held against the signed file."""
    return hashlib.sha256(canonical(told)).hexdigest()


def _reasons(views: list[Mapping[str, Any]]) -> list[tuple[str, int]]:
    reasons: Counter[str] = Counter()
    for view in views:
        reasons.update(view["dropped"])
        reasons.update(view["quarantined"])
    return reasons.most_common()


def _adds_up(view: Mapping[str, Any]) -> bool:
    left = sum(view["dropped"].values()) + sum(view["quarantined"].values())
    return bool(view["rows"] == view["kept"] + left)


def _count(value: Any) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case Mapping() if not value:
            return "0"
        case Mapping():
            return ", ".join(f"{_readable(name)} {_count(inner)}" for name, inner in value.items())
        case list():
            return ", ".join(map(_count, value)) or "none"
    return str(value)


def _figures(proof: Mapping[str, Any]) -> list[str]:
    """A proof's figures but for its control's; tables of them stay in the proof's own file."""
    told = []
    for name, value in proof["detail"].items():
        if name.startswith("negative_control"):
            continue
        if isinstance(value, Mapping) and any(isinstance(each, Mapping) for each in value.values()):
            told.append(f"{_readable(name)}: {len(value)} lines in {proof['file']}")
        else:
            told.append(f"{_readable(name)} {_count(value)}")
    return told


def _readable(name: str) -> str:
    return name.replace("_", " ").replace(".", ": ")
