"""A ward of twelve patients, with what narrows an export in it: codes, dates, owners, updates."""

from __future__ import annotations

import gzip
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import orjson

Resource = dict[str, Any]
Record = tuple[str, str, bytes]
PATIENTS = 12
TYPES = ("Encounter", "Observation", "Patient", "Practitioner")
LOINC = "http://loinc.org"


def _of_patient(number: int) -> Iterable[Resource]:
    patient, day = f"p-{number}", f"{number + 1:02d}"
    owner = {"reference": f"Patient/{patient}"}
    updated = {"lastUpdated": f"2025-{number + 1:02d}-01T00:00:00Z"}
    yield {
        "resourceType": "Patient",
        "id": patient,
        "meta": updated,
        "gender": "female" if number % 2 else "male",
        "birthDate": f"19{50 + number}-06-01",
    }
    for visit in range(3):
        yield {
            "resourceType": "Encounter",
            "id": f"e-{number}-{visit}",
            "meta": updated,
            "status": "finished",
            "class": {"code": "IMP" if visit == 0 else "AMB"},
            "subject": owner,
            "period": {
                "start": f"2024-0{visit + 1}-{day}T08:00:00Z",
                "end": f"2024-0{visit + 1}-{day}T09:00:00Z",
            },
        }
    for reading in range(10):
        lab = reading % 2 == 0
        yield {
            "resourceType": "Observation",
            "id": f"o-{number}-{reading}",
            "meta": updated,
            "status": "final",
            "category": [{"coding": [{"code": "laboratory" if lab else "vital-signs"}]}],
            "code": {"coding": [{"system": LOINC, "code": "2160-0" if lab else "8867-4"}]},
            "subject": owner,
            "encounter": {"reference": f"Encounter/e-{number}-0"},
            "effectiveDateTime": f"2024-01-{day}T0{reading}:00:00Z",
            "valueQuantity": {"value": reading},
        }


def write_ward(folder: Path) -> list[Resource]:
    """Write it as gzip NDJSON, observations in two files; its resources come back."""
    folder.mkdir()
    resources = [resource for number in range(PATIENTS) for resource in _of_patient(number)]
    # A type that ends the list of files and has a single row.
    resources.append({"resourceType": "Practitioner", "id": "pr-1", "active": True})
    files: defaultdict[str, list[bytes]] = defaultdict(list)
    for resource in resources:
        half = 1 + (resource["resourceType"] == "Observation" and int(resource["id"][2]) % 2)
        files[f"{resource['resourceType']}.000{half}.ndjson.gz"].append(orjson.dumps(resource))
    for name, rows in files.items():
        (folder / name).write_bytes(gzip.compress(b"\n".join(rows) + b"\n", mtime=0))
    return resources


def records(resources: Iterable[Resource]) -> set[Record]:
    """Resources as a set of (type, id, content), whatever the order of their members."""
    return {
        (
            resource["resourceType"],
            resource["id"],
            orjson.dumps(resource, option=orjson.OPT_SORT_KEYS),
        )
        for resource in resources
    }
