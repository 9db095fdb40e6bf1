"""Declarative files: what is shipped holds together, and what is wrong is named."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml

from exports.errors import FhirloomError
from features import valuesets
from features.rows import columns_needed
from features.score import load_score, parse_score
from features.spec import load_spec, parse_spec, read_spec
from features.task import load_task, parse_task

QUANTITIES = Path(__file__).parents[2] / "deid" / "domains" / "quantities.json"

FEATURE: dict[str, Any] = {
    "name": "sodium_last",
    "view": "observation",
    "codes": "sodium",
    "value": "value",
    "aggregate": "last",
    "window": "48h",
    "unit": "mmol/L",
    "description": "Latest sodium",
}


def spec_with(**changes: Any) -> dict[str, Any]:
    feature = {key: v for key, v in (FEATURE | changes).items() if v is not None}
    return {"name": "mine", "description": "Mine", "features": [feature]}


@pytest.mark.parametrize("name", valuesets.names())
def test_value_sets_hold_codes_that_can_exist(name: str) -> None:
    codes = valuesets.load(name)
    assert codes.exact or codes.prefixes
    for code in codes.exact:
        system, _, value = code.partition(":")
        assert system in {"loinc", "rxnorm", "icd10cm"}
        if system == "loinc":
            assert luhn(value.replace("-", "")), f"{code} has a wrong check digit"


def luhn(digits: str) -> bool:
    doubled = [int(d) * (1 + place % 2) for place, d in enumerate(reversed(digits))]
    return sum(d - 9 * (d > 9) for d in doubled) % 10 == 0


def test_value_sets_match_by_code_and_by_prefix() -> None:
    codes = valuesets.load("charlson_heart_failure")
    assert "icd10cm:I50.9" in codes
    assert "icd10cm:I50" in codes
    assert "icd10cm:I51.0" not in codes
    assert "icd10pcs:I50" not in codes
    assert "RARE" not in codes


def test_declared_codes_are_whole_or_prefixes() -> None:
    assert {"loinc:2160-0", "icd10cm:I50*"} <= valuesets.declared()


def test_shipped_units_are_those_of_the_tables() -> None:
    units = {code: entry["unit"] for code, entry in json.loads(QUANTITIES.read_text()).items()}
    read = [f for f in load_spec("readmission").features if f.value == "value"]
    assert read
    for feature in read:
        assert feature.codes is not None
        per = "/d" if feature.aggregate == "slope" else ""
        assert {units[code] + per for code in feature.codes.exact} == {feature.unit}, feature.name


def test_race_ethnicity_and_what_the_future_changes_are_not_read() -> None:
    columns = columns_needed(load_spec("readmission"), [load_score("lace")])
    read = {column for names in columns.values() for column in names}
    assert not read & {"race", "ethnicity", "death", "observed_until", "clinical_status", "status"}


def test_declarations_survive_json() -> None:
    spec, task = load_spec("readmission"), load_task("readmission_30d")
    again = json.loads(json.dumps([spec.declaration(), task.declaration()]))
    assert parse_spec("again", again[0]) == spec
    assert parse_task("again", again[1]) == task
    assert parse_spec("again", again[0]).hash == spec.hash


def test_the_hash_covers_meaning_and_no_layout(tmp_path: Path) -> None:
    where = {"class": ["IMP", "ACUTE"], "priority": ["EL"]}
    admissions = spec_with(view="admission", codes=None, value=None, aggregate="count", where=where)
    flipped = deepcopy(admissions)
    flipped["features"][0]["where"] = {"priority": ["EL"], "class": ["ACUTE", "IMP"]}
    file = tmp_path / "flipped.yaml"
    file.write_text(yaml.safe_dump(flipped, default_flow_style=True))
    spec = parse_spec("here", admissions)
    assert read_spec(file).hash == spec.hash
    flipped["features"][0]["window"] = "49h"
    assert parse_spec("here", flipped).hash != spec.hash


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"view": "claims"}, "no view 'claims'"),
        ({"codes": "sodjum"}, "no value set 'sodjum'"),
        ({"aggregate": "median"}, "Unknown aggregate"),
        ({"value": None}, "needs a number"),
        ({"value": "unit"}, "needs a number"),
        ({"value": {"value": ["1"]}}, "no category"),
        ({"aggregate": "count"}, "is about rows"),
        ({"window": "2w"}, "must be a duration"),
        ({"window": "0h"}, "must be a duration"),
        ({"unit": None}, "'unit' must be text"),
        ({"windows": "48h"}, "Unknown field 'windows'"),
        ({"name": "Sodium last"}, "column name"),
        ({"name": "label"}, "has a column of this name"),
        ({"where": {"unit": [True]}}, "'unit' must be a list of texts"),
        ({"where": {"code": ["loinc:2951-2"]}}, "no category"),
        ({"view": "admission"}, "has no codes"),
        ({"aggregate": "time_since", "value": None}, "in hours or days"),
        (
            {"view": "condition", "where": {"clinical_status": ["active"]}, "value": None},
            "'clinical_status' is no category",
        ),
        (
            {"view": "patient", "codes": None, "value": None, "where": {"race": ["white"]}},
            "'race' is no category",
        ),
        (
            {"view": "patient", "codes": None, "value": None, "aggregate": "count"},
            "rows have no time",
        ),
    ],
)
def test_a_wrong_feature_is_refused_by_name(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(FhirloomError) as caught:
        parse_spec("mine.yaml", spec_with(**changes))
    assert caught.value.code == "bad-input"
    assert complaint in caught.value.what
    assert caught.value.where.startswith("mine.yaml, feature ")
    assert changes.get("name") or "feature sodium_last" in caught.value.where


def test_a_feature_that_stands_twice_is_refused() -> None:
    twice = spec_with()
    twice["features"] *= 2
    with pytest.raises(FhirloomError, match="'sodium_last' stands twice"):
        parse_spec("mine.yaml", twice)


@pytest.mark.parametrize("text", ["- a list\n", "a: [\n", "\x00"])
def test_a_file_that_is_no_mapping_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text(text)
    with pytest.raises(FhirloomError) as caught:
        read_spec(tmp_path / "broken.yaml")
    assert caught.value.where == "broken.yaml"


def test_a_score_over_a_feature_it_lacks_is_refused() -> None:
    lace = load_score("lace").declaration()
    lace["parts"][0]["sum"] = [{"height": 1}]
    with pytest.raises(FhirloomError) as caught:
        parse_score("lace.yaml", lace)
    assert caught.value.where == "lace.yaml, part length of stay"


def test_thresholds_must_rise() -> None:
    lace = load_score("lace").declaration()
    lace["parts"][0]["points"] = [[2, 1], [1, 2]]
    with pytest.raises(FhirloomError, match="must rise"):
        parse_score("lace.yaml", lace)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"inpatient": {"classes": ["IMP"]}}, "Unknown field 'classes'"),
        ({"horizon": "a month"}, "must be a duration"),
        ({"scores": ["apache"]}, "can't be read"),
        ({"planned": "EL"}, "must be a list of texts"),
    ],
)
def test_a_wrong_task_is_refused(changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(FhirloomError, match=complaint):
        parse_task("mine.yaml", load_task("readmission_30d").declaration() | changes)
