"""The two policies: what each writes of the same records, where it stands, what is said of it."""

from __future__ import annotations

import json
import shutil
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

import deid.extract
from deid.geography import zip_sql
from deid.identity.custody import open_crosswalk
from deid.interpretations import LIST, interpretations
from deid.policy import (
    LIMITED_DATA_SET,
    SAFE_HARBOR,
    Policy,
    check_place,
    choose_policy,
    load_policy,
)
from deid.proofs import canary, metamorphic
from deid.proofs.proof import Verdict
from deid.research import RULES, open_tables
from deid.rules import Rules, load_rules
from exports.errors import FhirloomError
from exports.sealed import Stage, sealing
from tests.deid.resources import Deidentify, encounter, observation, patient, rows

Address = dict[str, Any]
HOME: Address = {"use": "home", "state": "MA", "postalCode": "02138-1234", "country": "US"}
STAY = encounter("e1", "2020-03-01T10:00:00-05:00", "2020-03-04T12:00:00-05:00")
PLACES: dict[str, list[Address]] = {
    "told": [{"use": "work", "postalCode": "10001"}, HOME],
    "former": [{**HOME, "postalCode": "10001", "period": {"end": "2010-01-01"}}, HOME],
    "untold": [{**HOME, "postalCode": "03901"}],
    "unnamed": [{**HOME, "postalCode": "99999"}],
    "abroad": [{**HOME, "country": "DE"}],
    "malformed": [{**HOME, "postalCode": "0213"}],
    "old": [{**HOME, "use": "old"}],
    "without": [{"state": "MA"}],
}
ZIP3 = {"told": "021", "former": "021", "untold": "000", "unnamed": "000"}


@pytest.fixture
def population(tmp_path: Path) -> Path:
    file = tmp_path / "population.csv"
    file.write_text("zcta,population\n02138,15000\n02139,5001\n03901,20000\n10001,30000\n")
    return file


def people() -> list[dict[str, Any]]:
    found = []
    for name, addresses in PLACES.items():
        found.append(patient(name, address=addresses))
        found.append(encounter(f"e-{name}", "2020-03-01T10:00:00", "2020-03-02", who=name))
    return found


@pytest.fixture(autouse=True)
def without_rehearsals(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proofs that de-identify made-up patients have tests of their own, and take seconds."""
    for proof in (canary, metamorphic):
        passed = Verdict(proof.__name__, True, {})
        monkeypatch.setattr(proof, "verdict", lambda _, passed=passed, **__: passed)


def few_rules(policy: Policy) -> Rules:
    """The views that these records are for: a table takes a while, and there are many."""
    return load_rules(policy=policy).only({"observation"})


def seconds(written: str) -> int:
    return int((datetime.fromisoformat(written) - datetime(1970, 1, 1)).total_seconds())


def test_without_a_population_file_there_is_no_zip_and_no_birth_date(run: Deidentify) -> None:
    done = run(people(), rules=few_rules(SAFE_HARBOR))
    for table in done.tables.names:
        columns = done.tables.read(table, 0).column_names
        assert not {"zip", "zip3", "birth_date"} & {*columns}
    person = load_rules().view("patient")
    assert not any("postalCode" in column.path for column in person.view.columns), "read in vain"
    assert done.tables.policy == SAFE_HARBOR.facts()


def by_name(done: Any, column: str, phi: Path) -> dict[str, Any]:
    walk = open_crosswalk(phi / ("crosswalk" if column == "zip3" else "limited-crosswalk"))
    assert walk is not None
    named = {row["surrogate"]: row["patient_id"] for row in walk.read("patients").to_pylist()}
    return {named[row["patient"]]: row[column] for row in rows(done, "patient")}


def test_by_opt_in_the_current_home_tells_three_digits_or_000(
    run: Deidentify, population: Path, tmp_path: Path
) -> None:
    policy = choose_policy(population=population)
    done = run(people(), rules=few_rules(policy))
    told = by_name(done, "zip3", tmp_path / "work" / "phi")
    assert told == {name: ZIP3.get(name) for name in PLACES}
    assert done.tables.policy["zip3_areas"] == 2
    assert done.tables.sealed.inputs["zip3-population"] == policy.population
    proofs = {proof.name: proof.detail for proof in done.proofs}
    assert proofs["closed domain"]["values_checked"]["ZIP3"] == len(ZIP3)
    assert "zip3" in proofs["k-anonymity, reported only"]["over"]
    assert load_policy(done.tables.sealed.path / RULES) == policy
    # Another file makes other tables.
    population.write_text(population.read_text() + "03902,1\n")
    other = choose_policy(population=population)
    assert other.zip3 == ("021", "039", "100")
    assert few_rules(other).hash != few_rules(policy).hash


def test_three_digits_that_may_not_be_told_break_the_proof(
    run: Deidentify, population: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deid.extract, "zip3_sql", lambda raw, told: f"left({zip_sql(raw)}, 3)")
    with pytest.raises(FhirloomError, match=r"patient\.zip3") as refused:
        run(people(), rules=few_rules(choose_policy(population=population)))
    assert refused.value.code == "proof-failed"


def test_a_limited_data_set_has_dates_ages_and_zip_as_they_are(
    run: Deidentify, tmp_path: Path
) -> None:
    old = patient("p9", birthDate="1927-06-15", deceasedDateTime="2024-06-30T08:00:00-04:00")
    resources = [
        *people(),
        patient(address=[HOME]),
        STAY,
        observation("o1", "2020-03-02T08:00:00-05:00", issued="2020-03-02T09:30:00-05:00"),
        old,
        encounter("e8", "2016-05-01T10:00:00", "2016-05-04T10:00:00", who="p9"),
        # After the 90th birthday, and in the very year of the export.
        encounter("e9", "2024-05-01T10:00:00", "2024-05-04T10:00:00", who="p9"),
    ]
    done = run(resources, rules=few_rules(LIMITED_DATA_SET))
    [row] = rows(done, "observation")
    assert row["time"] == seconds("2020-03-02T08:00:00")
    assert row["known_at"] == seconds("2020-03-02T09:30:00")
    aged = [row for row in rows(done, "admission") if row["age"] and row["age"] > 80]
    assert [(row["time"], row["age"]) for row in aged] == [
        (seconds("2016-05-01T10:00:00"), 88),
        (seconds("2024-05-01T10:00:00"), 96),
    ]
    assert len({row["patient"] for row in aged}) == 1, "one timeline"
    persons = {row["patient"]: row for row in rows(done, "patient")}
    person = persons[aged[0]["patient"]]
    assert person["birth_date"] == date(1927, 6, 15)
    assert person["death"] == seconds("2024-06-30T08:00:00")
    assert persons[row["patient"]]["birth_date"] == date(1950, 6, 15)
    assert {(each["anchor_year"], each["observed_until"]) for each in persons.values()} == {
        (1970, seconds("2024-07-02T00:00:00"))
    }
    zips = by_name(done, "zip", tmp_path / "work" / "phi")
    assert (zips["p1"], zips["untold"], zips["abroad"], zips["malformed"]) == (
        *("02138", "03901"),
        *(None, None),
    )
    names = [proof.name for proof in done.proofs]
    assert "closed domain" in names
    assert "leak scan" in names
    assert "date window" not in names
    released = tmp_path / "work" / "phi" / "limited"
    assert done.tables.sealed.path.is_relative_to(released)
    assert done.tables.policy == LIMITED_DATA_SET.facts()
    assert not (tmp_path / "work" / "research").exists()
    assert open_tables(released).sealed == open_tables(released).sealed


def test_a_name_in_a_limited_data_set_is_found_all_the_same(
    run: Deidentify, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dates and ZIP codes may stay where they are declared: a street is neither."""
    monkeypatch.setattr(deid.extract, "zip_sql", lambda raw: "'12 Elm Street'")
    street = patient("p1", address=[{**HOME, "line": ["12 Elm Street"]}])
    with pytest.raises(FhirloomError, match=r"patient\.zip"):
        run([street, STAY], rules=few_rules(LIMITED_DATA_SET))


def test_the_policies_have_no_surrogate_in_common(run: Deidentify) -> None:
    records = [patient(), STAY]
    one, other = (run(records, rules=few_rules(each)) for each in (SAFE_HARBOR, LIMITED_DATA_SET))
    for table, column in (("patient", "patient"), ("admission", "encounter")):
        [here], [there] = rows(one, table), rows(other, table)
        assert here[column] != there[column]


@pytest.mark.parametrize(
    ("policy", "root", "told"),
    [
        (LIMITED_DATA_SET, "elsewhere/research", "data use agreement needed"),
        (LIMITED_DATA_SET, "elsewhere/limited", "data use agreement needed"),
        (SAFE_HARBOR, "elsewhere/phi/limited", "de-identified by Safe Harbor"),
    ],
)
def test_tables_do_not_open_where_their_policy_does_not_let_them_stand(
    tmp_path: Path, policy: Policy, root: str, told: str
) -> None:
    released = policy.released(tmp_path)
    with sealing(released / "tables", Stage("tables", 1, {})) as draft:
        draft.facts["policy"] = policy.facts()
    assert open_tables(released).policy == policy.facts()
    shutil.copytree(released, tmp_path / root, symlinks=True)
    with pytest.raises(FhirloomError, match=told):
        open_tables(tmp_path / root)


def test_tables_that_do_not_say_their_policy_do_not_open(tmp_path: Path) -> None:
    with pytest.raises(FhirloomError, match="nobody knows which policy"):
        check_place({}, tmp_path / "research")


def test_a_population_file_and_a_limited_data_set_do_not_go_together(population: Path) -> None:
    with pytest.raises(FhirloomError, match="no population file cuts them"):
        choose_policy("limited-data-set", population)
    assert choose_policy("limited-data-set") == LIMITED_DATA_SET


@pytest.mark.parametrize("policy", [SAFE_HARBOR, LIMITED_DATA_SET, Policy(zip3=("021",))])
def test_a_policy_is_read_back_as_it_was_saved(tmp_path: Path, policy: Policy) -> None:
    policy.save(tmp_path)
    assert load_policy(tmp_path) == policy
    assert json.loads((tmp_path / "policy.json").read_text())["label"] == policy.label


def test_every_reading_of_the_rule_cites_what_it_reads() -> None:
    listed = json.loads(LIST.read_text())["interpretations"]
    strict, limited = interpretations("safe-harbor"), interpretations("limited-data-set")
    assert {each.id for each in (*strict, *limited)} == {item["id"] for item in listed}
    assert len({item["id"] for item in listed}) == len(listed)
    for each in (*strict, *limited):
        assert "45 CFR 16" in each.cites
        assert each.text.endswith(".")
    assert {"offsets", "time-of-day", "ages", "zip3"} <= {each.id for each in strict}
    assert "limited-agreement" not in {each.id for each in strict}
