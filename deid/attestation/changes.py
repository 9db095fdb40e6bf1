"""What is different between two attestations: policy, rules, code, codes, rows, columns, proofs."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from deid.attestation.content import figures


def changes(
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    codes_before: Collection[str],
    codes_after: Collection[str],
) -> dict[str, Any]:
    """What changed from one attestation's content and codes to another's.

    By section, a mapping of what changed to its `before` and `after`, null where there was or is
    none; `codes` lists those that came and went, each a word that is or was released. A section
    without a change is not there.
    """
    was, now = _compared(before), _compared(after)
    found = {section: _differences(was[section], now[section]) for section in now}
    old, new = set(codes_before), set(codes_after)
    if old != new:
        found["codes"] = {"added": sorted(new - old), "removed": sorted(old - new)}
    return {section: changed for section, changed in found.items() if changed}


def _compared(content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The parts of an attestation that are held against another's, each flat."""
    return {
        "policy": figures(content["policy"]),
        "inputs": figures({"export": content["export"], **content["lineage"]}),
        "rules": figures(content["rules"]),
        "code": figures(content["code"] or {}),
        "rows": figures(content["tables"]["rows"]),
        "columns": figures(content["tables"]["columns"]),
        "proofs": figures(
            {
                proof["name"]: {
                    "passed": proof["passed"],
                    "negative control": proof["negative_control"],
                    **proof["detail"],
                }
                for proof in content["proofs"]
            }
        ),
        "interpretations": {item["id"]: item["text"] for item in content["interpretations"]},
        "identifiers": {
            item["letter"]: [item["treatment"], item["proofs"]] for item in content["identifiers"]
        },
    }


def _differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: {"before": before.get(name), "after": after.get(name)}
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    }
