"""Patients who are merged and parted again: one timeline, and nothing that was released moves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from itertools import product
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deid.deidentify import Deidentified
from deid.engine import bind, connect
from deid.extract import extract
from deid.identity.crosswalk import extend
from deid.identity.custody import ENCOUNTERS, PATIENTS, open_crosswalk
from deid.identity.persons import REMOVED, REPLACED, bind_persons, followed
from deid.identity.revision import RETIRED
from deid.identity.vault import is_encrypted
from deid.rules import load_rules
from exports.landing.zone import land_folder
from exports.sealed import MANIFEST, Sealed
from tests.deid.resources import (
    Deidentify,
    Resource,
    condition,
    encounter,
    observation,
    outcome,
    patient,
    rows,
    write_ndjson,
)

DAY = 86_400
FIRST = encounter("e1", "2020-03-01T10:00:00", "2020-03-04T12:00:00")
SECOND = encounter("e2", "2020-05-01T10:00:00", "2020-05-02T10:00:00", who="p2")


@pytest.fixture(autouse=True)
def unproven(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told here is who is who; proofs have tests of their own, and take their time."""
    monkeypatch.setattr("deid.deidentify.prove", lambda evidence, **more: [])


def link(kind: str, other: str) -> Resource:
    return {"other": {"reference": f"Patient/{other}"}, "type": kind}


def survivor(key: str, *replaced: str, **more: Any) -> Resource:
    return patient(key, link=[link("replaces", other) for other in replaced], **more)


def replaced(key: str, by: str, **more: Any) -> Resource:
    return patient(key, active=False, link=[link("replaced-by", by)], **more)


def walk(work: Path, name: str = "patients") -> list[dict[str, Any]]:
    present = open_crosswalk(work / "work" / "phi" / "crosswalk")
    assert present is not None
    read: list[dict[str, Any]] = present.read(name).to_pylist()
    return read


def surrogates(work: Path) -> dict[str, int]:
    return {row["patient_id"]: row["surrogate"] for row in walk(work)}


def by_encounter(done: Deidentified, work: Path) -> dict[str, tuple[int, int, int]]:
    """Of each encounter: its surrogate, its patient's, and its start."""
    names = {row["surrogate"]: row["encounter_id"] for row in walk(work, "encounters")}
    return {
        names[row["encounter"]]: (row["encounter"], row["patient"], row["time"])
        for row in rows(done, "admission")
    }


def test_merged_records_are_one_person_from_the_earliest_record_on(
    run: Deidentify, tmp_path: Path
) -> None:
    early = observation("o1", "2019-12-31T10:00:00", who="p2")
    told = condition("c1", who="p2", encounter={"reference": "Encounter/e1"})
    old = replaced("p2", "p1", birthDate="1990-01-01")
    done = run([survivor("p1", "p2"), old, FIRST, early, told])
    [person] = rows(done, "patient")
    assert person["anchor_year"] == 2019
    assert outcome(done, "patient") == {"kept": 1, REPLACED: 1}
    [stay], [seen] = rows(done, "admission"), rows(done, "observation")
    assert person["patient"] == stay["patient"] == seen["patient"]
    assert (seen["time"], stay["time"], stay["age"]) == (0, 61 * DAY, 69)
    assert set(surrogates(tmp_path).values()) == {person["patient"]}
    assert set(surrogates(tmp_path)) == {"p1", "p2"}
    # A diagnosis under the one id, of a stay under the other, is known when the stay ends.
    assert rows(done, "condition")[0]["known_at"] == rows(done, "discharge")[0]["known_at"]


def test_chains_end_at_the_last_and_strangers_survive_nobody(
    run: Deidentify, tmp_path: Path
) -> None:
    third = encounter("e3", "2020-06-01T10:00:00", "2020-06-02T10:00:00", who="p3")
    fourth = encounter("e4", "2020-07-01T10:00:00", "2020-07-02T10:00:00", who="p4")
    done = run(
        [
            *(patient("p1"), replaced("p2", "p1"), replaced("p3", "p2")),
            *(replaced("p4", "elsewhere"), FIRST, SECOND, third, fourth),
        ]
    )
    people = surrogates(tmp_path)
    assert people["p1"] == people["p2"] == people["p3"] != people["p4"]
    assert len(rows(done, "patient")) == len({row["patient"] for row in rows(done, "admission")})
    assert [row["patient_id"] for row in walk(tmp_path, "links")] == ["p2", "p3"]


def test_records_of_one_who_was_not_delivered_are_one_person(
    run: Deidentify, tmp_path: Path
) -> None:
    third = encounter("e3", "2020-06-01T10:00:00", "2020-06-02T10:00:00", who="p3")
    pair = [replaced("p2", "p1"), replaced("p3", "p2")]
    done = run([*pair, SECOND, third])
    assert len(rows(done, "patient")) == 1
    assert len(set(surrogates(tmp_path).values())) == 1
    before = by_encounter(done, tmp_path)
    # Whoever survives takes the released timeline over.
    arrived = run([patient("p1"), *pair, FIRST, SECOND, third], name="arrived")
    after = by_encounter(arrived, tmp_path)
    assert {key: after[key] for key in before} == before
    assert len(rows(arrived, "patient")) == 1


def test_a_merge_after_the_release_moves_nothing_of_the_survivor_and_can_be_undone(
    run: Deidentify, tmp_path: Path
) -> None:
    apart = run([patient("p1"), patient("p2"), FIRST, SECOND])
    before = by_encounter(apart, tmp_path)
    issued = walk(tmp_path, "issued")
    merged = run([survivor("p1", "p2"), patient("p2", active=False), FIRST, SECOND], name="merged")
    after = by_encounter(merged, tmp_path)
    assert after["e1"] == before["e1"]
    # The stay of the replaced id is now one of the survivor's, told from the survivor's zero.
    assert after["e2"] == (before["e2"][0], before["e1"][1], 61 * DAY)
    # A server may also write the survivor into what the replaced one had.
    moved = {**SECOND, "subject": {"reference": "Patient/p1"}}
    moved_too = run([survivor("p1", "p2"), patient("p2", active=False), FIRST, moved], name="moved")
    assert by_encounter(moved_too, tmp_path) == after
    parted = run([patient("p1"), patient("p2"), FIRST, SECOND], name="parted")
    assert by_encounter(parted, tmp_path) == before
    assert walk(tmp_path, "issued") == issued


def test_a_survivor_without_a_timeline_takes_over_the_one_that_was_released(
    run: Deidentify, tmp_path: Path
) -> None:
    alone = run([patient("p2"), SECOND])
    before = by_encounter(alone, tmp_path)
    merged = run([survivor("p1", "p2"), patient("p2", active=False), FIRST, SECOND], name="merged")
    after = by_encounter(merged, tmp_path)
    assert after["e2"] == before["e2"]
    assert after["e1"][1:] == (before["e2"][1], -61 * DAY)
    parted = by_encounter(
        run([patient("p1"), patient("p2"), FIRST, SECOND], name="parted"), tmp_path
    )
    assert parted["e2"] == before["e2"]
    assert parted["e1"][1:] == (surrogates(tmp_path)["p1"], 0)
    assert len({patient for _, patient, _ in parted.values()}) == 2


def test_the_replaced_birth_date_serves_where_the_survivor_has_none(
    run: Deidentify, tmp_path: Path
) -> None:
    undated = {key: value for key, value in survivor("p1", "p2").items() if key != "birthDate"}
    done = run([undated, replaced("p2", "p1", birthDate="1930-04-03"), FIRST, SECOND])
    assert sorted(row["age"] for row in rows(done, "admission")) == [89, 90]
    assert len(walk(tmp_path)) == 4


def test_a_crosswalk_from_before_links_keeps_what_it_issued(
    run: Deidentify, tmp_path: Path
) -> None:
    before = by_encounter(run([patient("p1"), patient("p2"), FIRST, SECOND]), tmp_path)
    present = open_crosswalk(tmp_path / "work" / "phi" / "crosswalk")
    assert present is not None
    # Two tables, in clear, and no word of any order.
    kept = {name: present.read(name) for name in ("patients", "encounters")}
    folder = present.sealed.path
    for file in folder.glob("*.parquet"):
        file.unlink()
    for name, table in kept.items():
        pq.write_table(table, folder / f"{name}.parquet")
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["inputs"]["orders"]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    again = run([patient("p1"), patient("p2"), FIRST, SECOND])
    assert by_encounter(again, tmp_path) == before
    assert len(walk(tmp_path, "issued")) == 2
    assert not folder.exists()
    assert all(map(is_encrypted, (tmp_path / "work" / "phi" / "crosswalk").rglob("*.parquet")))


IDS = ("p1", "p2", "p3", "p4")
APART = dict(zip(IDS, IDS, strict=True))


@pytest.fixture(scope="module")
def extracted(tmp_path_factory: pytest.TempPathFactory) -> Sealed:
    folder = tmp_path_factory.mktemp("links")
    resources = [patient(key, birthDate="1931-01-01") for key in IDS]
    for number, key in enumerate(IDS):
        for year in (2020, 2022):
            start, end = f"{year}-0{number + 1}-02T00:00:00", f"{year}-0{number + 1}-03T00:00:00"
            resources.append(encounter(f"e{number}-{year}", start, end, who=key))
    landing = land_folder(write_ndjson(folder / "source", resources), folder / "phi")
    return extract(landing, folder / "phi", load_rules())


def step(
    extracted: Sealed, before: Mapping[str, pa.Table], told: Mapping[str, str]
) -> dict[str, pa.Table]:
    rules = load_rules()
    with connect() as connection:
        links = followed(connection, extracted, told)
        bind_persons(connection, extracted, rules, links, REMOVED.empty_table())
        present = {
            "retired": RETIRED.empty_table(),
            "served": before.get("patients", PATIENTS.empty_table()),
            "issued": before.get("issued", PATIENTS.empty_table()),
            "issued_encounters": before.get("encounters", ENCOUNTERS.empty_table()),
        }
        bind(connection, present)
        return extend(connection, rules, datetime(2024, 7, 1))


@settings(max_examples=12, deadline=None)
@example([APART, APART | {"p2": "p1"}, APART | {"p1": "p2"}]).via("a survivor replaced in turn")
@given(st.lists(st.fixed_dictionaries(dict.fromkeys(IDS, st.sampled_from(IDS))), max_size=4))
def test_however_patients_are_merged_and_parted(
    extracted: Sealed, history: list[dict[str, str]]
) -> None:
    """What was issued stays; one timeline a person; nobody's changes while it may stay."""
    tables: dict[str, pa.Table] = {}
    for wanted in [*history, {}]:
        # Whoever survives is replaced by nobody: chains come resolved.
        told = {a: b for a, b in wanted.items() if wanted[b] == b != a}
        before, tables = tables, step(extracted, tables, told)
        person = {each: told.get(each, each) for each in IDS}
        old, new, owned = in_force(before), in_force(tables), in_force(tables, "issued")
        assert in_force(before, "issued").items() <= owned.items()
        assert not before or encounters(before) <= encounters(tables)
        for one, other in product(new, new):
            alike = (person[one[0]], one[1]) == (person[other[0]], other[1])
            assert (new[one] == new[other]) is alike
        eligible = {(person[owner], age, row) for (owner, age), row in owned.items()}
        for each, age in product(set(person.values()), (False, True)):
            was, own = old.get((each, age)), owned.get((each, age))
            expected = was if (each, age, was) in eligible else own
            assert expected is None or new[each, age] == expected


def encounters(tables: Mapping[str, pa.Table]) -> set[tuple[Any, ...]]:
    return {tuple(row.values()) for row in tables["encounters"].to_pylist()}


def in_force(tables: Mapping[str, pa.Table], name: str = "patients") -> dict[Any, tuple[Any, ...]]:
    """By (patient, whether from 90 on): surrogate, zero and year, which never change."""
    found = tables[name].to_pylist() if tables else []
    return {
        (row["patient_id"], row["old"]): (row["surrogate"], row["zero"], row["anchor_year"])
        for row in found
    }
