"""Resources written by hand, and how to look at what became of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from deid.deidentify import Deidentified

Resource = dict[str, Any]
Deidentify = Callable[..., Deidentified]


def patient(key: str = "p1", **more: Any) -> Resource:
    return {"resourceType": "Patient", "id": key, "birthDate": "1950-06-15", **more}


def encounter(key: str, start: str, end: str = "", who: str = "p1", **more: Any) -> Resource:
    period = {"start": start} | ({"end": end} if end else {})
    return {
        "resourceType": "Encounter",
        "id": key,
        "status": "finished",
        "class": {"code": "IMP"},
        "subject": {"reference": f"Patient/{who}"},
        "period": period,
        **more,
    }


def observation(key: str, when: str, who: str = "p1", **more: Any) -> Resource:
    return {
        "resourceType": "Observation",
        "id": key,
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "2160-0"}]},
        "subject": {"reference": f"Patient/{who}"},
        "effectiveDateTime": when,
        "valueQuantity": {"value": 1.2, "code": "mg/dL"},
        **more,
    }


def condition(key: str, code: str = "I50.9", who: str = "p1", **more: Any) -> Resource:
    return {
        "resourceType": "Condition",
        "id": key,
        "code": {"coding": [{"system": "http://hl7.org/fhir/sid/icd-10-cm", "code": code}]},
        "subject": {"reference": f"Patient/{who}"},
        **more,
    }


def write_ndjson(folder: Path, resources: Sequence[Resource]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(resource, ensure_ascii=False) for resource in resources]
    (folder / "export.ndjson").write_text("\n".join(lines) + "\n")
    return folder


def rows(done: Deidentified, table: str) -> list[dict[str, Any]]:
    buckets = [done.tables.read(table, bucket) for bucket in range(done.tables.buckets)]
    found: list[dict[str, Any]] = pa.concat_tables(buckets).to_pylist()
    return sorted(found, key=lambda row: (row["patient"], row.get("known_at") or 0))


def outcome(done: Deidentified, view: str) -> dict[str, int]:
    counts = next(item for item in done.counts if item.view == view)
    return {"kept": counts.kept, **counts.dropped, **counts.quarantined}
