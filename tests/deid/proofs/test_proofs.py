"""The proofs: each is shown to hold, and shown to fail when what it proves is broken."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from deid.deidentify import Deidentified
from deid.proofs.identifiers import SHORTEST, digits, normal, of_resource
from deid.proofs.second_opinion import TIMED_OUT, opinions
from deid.rules import load_rules, research_view
from deid.sql_on_fhir.view import parse_view
from exports.errors import FhirloomError
from exports.sandbox.population import Hospital, patient_record
from tests.deid.resources import Deidentify, encounter, observation, patient

STAY = encounter("e1", "2020-03-01T10:00:00-05:00", "2020-03-04T12:00:00-05:00")
NAMED = patient(
    name=[{"family": "Hamanová", "given": ["Åsa", "Marie-Louise"]}],
    identifier=[{"system": "urn:mrn", "value": "00812345"}],
    address=[{"city": "Springfield", "state": "MA", "postalCode": "01103"}],
)

PROOFS = {
    "canary",
    "closed domain",
    "leak scan",
    "second opinion",
    "date window",
    "metamorphic",
    "k-anonymity, reported only",
}


def passed(done: Deidentified) -> set[str]:
    return {proof.name for proof in done.proofs if proof.passed}


def test_a_clean_run_passes_every_proof_and_finds_its_negative_control(run: Deidentify) -> None:
    done = run([NAMED, STAY])
    assert passed(done) == PROOFS
    leaks = next(proof.detail for proof in done.proofs if proof.name == "leak scan")
    assert leaks["negative_control_found"]
    assert leaks["string_hits"] == {}


def test_a_leaky_view_releases_nothing_and_the_message_names_no_value(
    run: Deidentify, tmp_path: Path
) -> None:
    rules = load_rules()
    view = rules.view("patient").view.source
    leaky = {
        **view,
        "select": [
            *view["select"],
            {
                "column": [
                    {
                        "name": "nickname",
                        "path": "name.family.first()",
                        "tag": [{"name": "fhirloom/domain", "value": "enum: nickname"}],
                    }
                ]
            },
        ],
    }
    enums = {**rules.enums, "nickname": {"Hamanová": "the late HAMANOVÁ"}}
    others = tuple(item for item in rules.views if item.name != "patient")
    broken = replace(rules, enums=enums, views=(*others, research_view(parse_view(leaky), enums)))
    with pytest.raises(FhirloomError) as refused:
        run([NAMED, STAY], rules=broken)
    assert refused.value.code == "proof-failed"
    assert "patient.nickname (class A)" in str(refused.value)
    assert "hamanov" not in str(refused.value).casefold()
    work = tmp_path / "work"
    assert not list((work / "research").rglob("*.parquet"))
    assert "Hamanová" in (work / "phi" / "logs" / f"{refused.value.ref}.log").read_text()


def test_a_sites_own_code_that_is_a_name_is_caught_however_many_share_it(run: Deidentify) -> None:
    crowd = [patient(f"p{n}", name=[{"family": "Quillfeather"}]) for n in range(11)]
    stays = [
        encounter(f"e{n}", "2020-03-01T10:00:00", "2020-03-02T10:00:00", who=f"p{n}")
        for n in range(11)
    ]
    named = [{"system": "https://ehr.example.org/panels", "code": "QUILLFEATHER"}]
    seen = [
        observation(f"o{n}", "2020-03-01T11:00:00", who=f"p{n}", code={"coding": named})
        for n in range(11)
    ]
    with pytest.raises(FhirloomError, match=r"observation\.code"):
        run([*crowd, *stays, *seen])


def test_identifiers_are_found_wherever_they_stand() -> None:
    resource = observation("o-17", "2020-03-02T08:00:00-05:00") | {
        "subject": {"reference": "https://ehr.example.org/fhir/Patient/p1", "display": "Åsa H."},
        "extension": [{"url": "https://ehr.example.org/note", "valueString": "ask Jana Nováková"}],
        "contained": [{"resourceType": "Patient", "id": "inner", "name": [{"family": "Inner"}]}],
    }
    found = {(item.letter, item.value) for item in of_resource(resource)}
    assert found >= {
        ("R", "o-17"),
        ("A", "Åsa H."),
        ("R", "ask Jana Nováková"),
        ("R", "Nováková"),
        ("A", "Inner"),
        ("C", "2020-03-02"),
    }
    assert {item.patient_id for item in of_resource(resource)} == {"p1", ""}
    assert not any("loinc" in value for _, value in found)


def test_the_second_opinion_knows_common_identifiers_and_spares_domains() -> None:
    suspects = ["call 413-555-0147", "jana@example.org", "078-05-1120", "10.1.2.3", "03/04/2020"]
    assert set(opinions(suspects)) == set(suspects)
    rules = load_rules()
    units = [item["unit"] for item in rules.quantities.values()]
    labels = [label for labels in rules.enums.values() for label in labels.values()]
    assert opinions([*units, *labels]) == {}


def test_a_pattern_that_times_out_is_no_clean_opinion(monkeypatch: pytest.MonkeyPatch) -> None:
    harmless = "mm[Hg] " * 1000
    assert opinions([harmless]) == {}
    monkeypatch.setattr("presidio_analyzer.pattern_recognizer.REGEX_TIMEOUT_SECONDS", 1e-9)
    assert opinions([harmless]) == {harmless: {TIMED_OUT}}


@pytest.mark.parametrize(
    ("column", "why"),
    [
        ({"name": "x", "path": "gender"}, "not a closed one"),
        (
            {
                "name": "x",
                "path": "gender",
                "tag": [{"name": "fhirloom/domain", "value": "free text"}],
            },
            "not a closed one",
        ),
        (
            {
                "name": "x",
                "path": "gender",
                "tag": [{"name": "fhirloom/domain", "value": "enum: nicknames"}],
            },
            "does not exist",
        ),
    ],
)
def test_a_view_with_an_open_column_is_refused(column: dict[str, object], why: str) -> None:
    rules = load_rules()
    source = dict(rules.view("patient").view.source)
    source["select"] = [*source["select"], {"column": [column]}]
    with pytest.raises(FhirloomError, match=why):
        research_view(parse_view(source), rules.enums)


def test_a_view_that_drops_rows_uncounted_is_refused() -> None:
    rules = load_rules()
    source = dict(rules.view("condition").view.source)
    with pytest.raises(FhirloomError, match="uncounted"):
        research_view(parse_view({**source, "where": [{"path": "code.exists()"}]}), rules.enums)


@pytest.mark.parametrize(
    ("leaf", "value"),
    [
        ({"identifier": [{"value": 812345}]}, "812345"),
        ({"groupIdentifier": {"value": "G-4711"}}, "G-4711"),
        ({"extension": [{"url": "u", "valueContactPoint": {"value": "413-555-0147"}}]}, "413-5"),
        ({"extension": [{"url": "u", "extension": [{"valueUri": "urn:mrn:99"}]}]}, "urn:mrn"),
        ({"note": [{"text": "spoke with Jana"}]}, "Jana"),
        ({"content": [{"attachment": {"data": "c2VlbiBieSBKYW5h"}}]}, "Jana"),
        ({"subject": {"reference": "Patient/p-77/_history/3"}}, "p-77"),
        ({"subscriberId": "W1038"}, "W1038"),
        ({"serialNumber": "SN-1"}, "SN-1"),
        ({"udiCarrier": [{"carrierHRF": "(01)0084"}]}, "(01)0084"),
        ({"accessionIdentifier": {"value": "ACC-9"}}, "ACC-9"),
        ({"photo": [{"data": "c2VlbiBieSBKYW5h"}]}, "c2VlbiBieSBKYW5h"),
        ({"presentedForm": [{"data": "c2VlbiBieSBKYW5h"}]}, "Jana"),
        ({"conclusion": "as Jana said"}, "Jana"),
        ({"qualification": [{"identifier": [{"value": "L-12345"}]}]}, "L-12345"),
        ({"link": [{"other": {"reference": "Patient/p-78"}}]}, "p-78"),
        ({"modifierExtension": [{"url": "u", "valueCode": "c-812"}]}, "c-812"),
        ({"ehrInternal": {"guarantor": {"account": "A-5090"}}}, "A-5090"),
        ({"note": [{"text": "call +1 413 555 0147 now"}]}, "+1 413 555 0147"),
        ({"note": [{"text": "plates 6TC 110"}]}, "6TC 110"),
        ({"note": [{"text": "on Sunday, April 11th, 2021"}]}, "April 11th, 2021"),
        ({"note": [{"text": "on 11 Apr 2021"}]}, "11 Apr 2021"),
    ],
)
def test_leaves_that_a_path_list_forgets(leaf: dict[str, object], value: str) -> None:
    found = of_resource({"resourceType": "Basic", "id": "b1", **leaf})
    assert any(item.value.startswith(value) for item in found)


def test_every_identifier_that_the_sandbox_plants_is_on_the_list() -> None:
    """All but names of under four letters; dates are compared as days, texts by their words."""
    hospital = Hospital(seed=5, patients=12)
    missed = []
    for index in range(hospital.patients):
        record = patient_record(hospital, index)
        found = [item for resource in record.resources for item in of_resource(resource)]
        forms = {normal(item.value) for item in found} | {digits(item.value) for item in found}
        for planted in record.truth.identifiers:
            forms_of_it = {normal(planted.value), normal(planted.value[:10]), digits(planted.value)}
            short = len(planted.value) < SHORTEST
            if not short and not forms & forms_of_it:
                missed.append((planted.letter, planted.location))
    assert missed == []


def test_a_person_may_be_called_as_a_closed_list_says(run: Deidentify) -> None:
    named = patient(name=[{"family": "Long", "given": ["White", "Female"]}], gender="female")
    stay = encounter("e1", "2020-03-01T10:00:00", "2020-03-02T10:00:00")
    stay["hospitalization"] = {"dischargeDisposition": {"coding": [{"code": "long"}]}}
    assert passed(run([named, stay])) == PROOFS
