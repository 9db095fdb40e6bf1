"""The same resource bytes give the same row: live against batch, to the bit."""

from __future__ import annotations

import gzip
from collections import defaultdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from deid.deidentify import deidentify
from deid.identity.custody import open_crosswalk
from deid.policy import LIMITED_DATA_SET, SAFE_HARBOR, Policy
from deid.research import RULES
from deid.rules import load_rules
from exports.errors import FhirloomError
from exports.landing.zone import LandingZone, land_folder
from exports.sandbox.population import Hospital, write_export
from features.build import build
from features.online import OnlineFeatures, prefetched
from features.prefetch import prefetch_templates
from features.spec import load_spec
from features.task import load_task
from features.valuesets import declared

SPEC = load_spec("readmission")


def by_patient(landing: LandingZone) -> dict[str, list[dict[str, Any]]]:
    found: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for kind in landing.rows():
        for path in landing.paths(kind):
            for line in gzip.decompress(path.read_bytes()).splitlines():
                resource = orjson.loads(line)
                subject = resource.get("subject", {}).get("reference", f"Patient/{resource['id']}")
                found[subject.rsplit("/", 1)[-1]].append(resource)
    return found


def is_drug(resource: dict[str, Any]) -> bool:
    return bool(resource["resourceType"] == "Medication")


@pytest.mark.parametrize(
    ("policy", "patients", "rows"),
    [(SAFE_HARBOR, 120, 200), (LIMITED_DATA_SET, 40, 60)],
    ids=["safe-harbor", "limited-data-set"],
)
def test_hundreds_of_live_rows_equal_the_batch_to_the_bit(
    tmp_path: Path, policy: Policy, patients: int, rows: int
) -> None:
    hospital = Hospital(seed=11, patients=patients)
    write_export(hospital, tmp_path / "export", tmp_path / "truth", rows_per_file=5000)
    landing = land_folder(tmp_path / "export", tmp_path / "phi", transaction_time=hospital.as_of)
    done = deidentify(landing, tmp_path, declared=declared(), rules=load_rules(policy=policy))
    matrix = build(done.tables, policy.released(tmp_path), load_task("readmission_30d"), SPEC)
    batch = matrix.read()
    expected = np.column_stack([batch[name].to_numpy() for name in SPEC.names])
    walk = open_crosswalk(tmp_path / "phi" / policy.crosswalk)
    assert walk is not None
    timelines = {row["surrogate"]: row for row in walk.read("patients").to_pylist()}
    resources = by_patient(landing)
    merged = walk.read("links").to_pylist()
    assert merged
    for link in merged:
        # What a search finds by the survivor's id is theirs, under whichever id it was filed.
        former = [r for r in resources.pop(link["patient_id"]) if r["resourceType"] != "Patient"]
        resources[link["survivor"]] += former
    # An order is sent with the Medication that it refers to (`_include`).
    drugs = [each for found in resources.values() for each in found if is_drug(each)]
    survivors = {link["patient_id"]: link["survivor"] for link in merged}
    rules = load_rules(done.tables.sealed.path / RULES)
    online = OnlineFeatures(rules, done.vocabulary, SPEC)
    assert len(batch) > rows
    for position, event in enumerate(batch.select(["patient", "time"]).to_pylist()):
        timeline = timelines[event["patient"]]
        patient = survivors.get(timeline["patient_id"], timeline["patient_id"])
        entries = [{"resource": item} for item in (*resources[patient], *drugs)]
        # A server sends each resource once, in its newest version.
        newest = {
            (item["resource"]["resourceType"], item["resource"]["id"]): item
            for item in sorted(entries, key=lambda item: item["resource"]["meta"]["lastUpdated"])
        }
        bundle = {"resourceType": "Bundle", "entry": list(newest.values())}
        row = online.row(bundle, timeline["zero"] + timedelta(seconds=event["time"])).features[0]
        assert row.tobytes() == expected[position].tobytes(), SPEC.names


def test_a_request_is_a_prefetch_map_or_a_bundle_and_nothing_else() -> None:
    patient = {"resourceType": "Patient", "id": "p1"}
    stay = {"resourceType": "Encounter", "id": "e1"}
    bundle = {"resourceType": "Bundle", "entry": [{"resource": stay}]}
    request = {"hook": "encounter-discharge", "prefetch": {"patient": patient, "stays": bundle}}
    assert list(prefetched(request)) == [patient, stay]
    assert list(prefetched(bundle)) == [stay]
    with pytest.raises(FhirloomError, match="Neither a Bundle nor"):
        list(prefetched(patient))


@pytest.mark.parametrize(
    ("resources", "what"),
    [
        ([], "0 Patient resources"),
        ([{"resourceType": "Patient", "id": "a"}, {"resourceType": "Patient", "id": "b"}], "2 Pa"),
        ([{"resourceType": "Patient", "id": "a"}], "no dated record"),
    ],
)
def test_a_request_without_one_dated_patient_is_refused(
    tmp_path: Path, resources: list[dict[str, Any]], what: str
) -> None:
    from datetime import datetime

    from deid.vocabulary import Vocabulary

    online = OnlineFeatures(load_rules(), Vocabulary(tmp_path, frozenset()), SPEC)
    bundle = {"resourceType": "Bundle", "entry": [{"resource": item} for item in resources]}
    with pytest.raises(FhirloomError, match=what):
        online.row(bundle, datetime(2024, 5, 1))


def test_the_prefetch_asks_for_what_the_features_read_and_no_more() -> None:
    templates = prefetch_templates(SPEC, load_rules())
    assert templates["patient"] == "Patient/{{context.patientId}}"
    assert templates["encounter"] == "Encounter?patient={{context.patientId}}"
    assert "http://loinc.org|2160-0" in templates["observation"]
    assert "documentreference" not in templates
