"""The search of the lines may suspect too many, but never too few: the plain walk is the judge."""

from __future__ import annotations

import base64
import json
import re
from typing import Any, Final

import numpy as np
import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from deid.proofs import readable, suspects
from deid.proofs.identifiers import SHORTEST_NUMBER, _list, digits, of_resource
from deid.proofs.numbers import LONGEST_NUMBER, NumberSet
from deid.proofs.phrases import Phrases, phrases_of
from deid.proofs.suspects import Suspects
from exports.landing.ndjson import load
from exports.sandbox.population import Hospital, patient_record

PIECES: Final = (
    *("Smith", "smith", "SMITH", "Li", "Wu", "Jo", "Hamanová", "Hamanova\u0301", "Straße"),
    *("STRASSE", "İpek", "ﬁnch", "Ｓmith", "Smi\u00adth", "Jose\u0301", "Zoë", "\u0142ódz"),
    *("2024-01-31", "01/31/2024", "31 Jan 2024", "20240131", "2024-01-31T10:00:00Z"),
    *("413", "555", "0147", "812345", "000812345", "81-23-45", "٨١٢٣٤٥", "８１２", "½", "²"),
    *(" ", "  ", ", ", "-", "_", "/", ".", ":", "'", '"', "\\", "\n", "\t", "(", ")", "\u00a0"),
    *("Patient/", "https://ehr.example.org:8443/fhir/R4/Patient/", "/_history/3", "urn:uuid:"),
    *("n", "u0041", "é", "\u0001", "\u200b", "😀", "local", "data", "extension"),
)
texts = st.lists(st.sampled_from(PIECES), min_size=1, max_size=5).map("".join)
values = st.one_of(
    texts,
    st.sampled_from([812345, 812345.5, -812345, 10**17, True, None]),
    st.lists(st.one_of(texts, st.sampled_from([812345, 413555])), max_size=3),
)
leaves = st.one_of(
    st.builds(lambda v: {"id": v}, texts),
    st.builds(lambda v: {"name": [{"family": v, "text": v}]}, values),
    st.builds(lambda v: {"performer": [{"display": v, "reference": v}]}, values),
    st.builds(lambda v: {"encounter": {"reference": v}}, texts),
    st.builds(lambda v: {"identifier": [{"value": v}]}, values),
    st.builds(lambda v: {"code": {"coding": [{"code": v, "display": v}], "text": v}}, texts),
    st.builds(lambda v: {"extension": [{"url": "u", "valueCoding": {"code": v}}]}, texts),
    st.builds(lambda v: {"modifierExtension": [{"url": "u", "valueDate": v}]}, texts),
    st.builds(lambda v: {"ehrInternal": {"seen": v, "code": v, "date": v}}, values),
    st.builds(lambda v: {"birthDate": v, "recordedDate": v, "start": v}, texts),
    st.builds(lambda v: {"note": [{"text": v}], "alias": v}, values),
    st.builds(
        lambda v, end: {"attachment": {"data": base64.b64encode(v.encode()).decode() + end}},
        texts,
        st.sampled_from(["", "\n", "é", "="]),
    ),
    st.builds(lambda v: {"attachment": {"data": v}}, values),
)


@st.composite
def resources(draw: st.DrawFn) -> dict[str, Any]:
    resource = {"resourceType": "Patient", "id": draw(st.sampled_from(["p1", "812345"]))}
    for leaf in draw(st.lists(leaves, min_size=1, max_size=3)):
        resource |= leaf
    return resource


def told(line: bytes, phrases: Phrases, released: set[int]) -> bool:
    """What a walk through every leaf finds."""
    for identifier in of_resource(load(line)):
        number = digits(identifier.value)
        own = identifier.patient_id and identifier.letter != "C"
        if phrases.told(identifier) or (
            own and SHORTEST_NUMBER <= len(number) <= LONGEST_NUMBER and int(number) in released
        ):
            return True
    return False


def search(strings: list[str], released: set[int]) -> tuple[Phrases, Suspects]:
    phrases = phrases_of(dict.fromkeys(strings, "there"))
    numbers = NumberSet([np.array(sorted(released), np.int64)], len(released))
    return phrases, Suspects(phrases, numbers, [])


@settings(max_examples=400, deadline=None)
@given(
    st.lists(resources(), min_size=1, max_size=4),
    st.lists(texts, max_size=2),
    st.sets(st.sampled_from([812345, 4135550147, 413555, 20240131, 8123, 10**17]), max_size=2),
    st.booleans(),
)
@example([{"resourceType": "Patient", "id": "31 Jan 2024"}], ["31 2024"], set(), True)
@example([{"resourceType": "Patient", "id": "data", "name": []}], ["data"], set(), True)
@example([{"resourceType": "Patient", "id": "\\\\n", "alias": ["Li\nWu"]}], ["wu li"], set(), True)
def test_no_line_is_passed_over_that_a_walk_would_stop_at(
    given_resources: list[dict[str, Any]], strings: list[str], released: set[int], escaped: bool
) -> None:
    phrases, searched = search(strings, released)
    spaced = (", ", ": ") if escaped else (",", ":")
    lines = [
        json.dumps(resource, ensure_ascii=escaped, separators=spaced).encode()
        for resource in given_resources
    ]
    lines = [line for line in lines if _is_json(line)]
    found = set(searched.among(b"\n".join(lines))) if lines else set()
    assert {at for at, line in enumerate(lines) if told(line, phrases, released)} <= found


def _is_json(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def test_every_identifier_of_the_sandbox_is_found_when_it_is_released() -> None:
    hospital = Hospital(seed=5, patients=3)
    for index in range(hospital.patients):
        record = patient_record(hospital, index)
        lines = [orjson.dumps(resource) for resource in record.resources]
        every = {item.value for line in lines for item in of_resource(load(line))}
        phrases, searched = search(sorted(every), set())
        expected = {at for at, line in enumerate(lines) if told(line, phrases, set())}
        assert expected == set(searched.among(b"\n".join(lines)))
        alone, nothing = search(["no such thing"], {10**17 + 1})
        assert not any(told(line, alone, set()) for line in lines)
        assert nothing.among(b"\n".join(lines)) == []


BROKEN: Final = {
    "case": (suspects, "_LOWER", bytes(range(256)), {"family": "SMITH"}, "smith"),
    "escapes": (readable, "ESCAPES", re.compile(b"never"), {"family": "Li\nWu"}, "li wu"),
    "other scripts": (readable, "_folded", lambda block: block, {"family": "ＳＭＩＴＨ"}, "smith"),
    "what stands between": (suspects, "_BETWEEN", b"", {"family": "Li Wu"}, "li wu"),
    "attachments": (
        suspects,
        "_ATTACHED",
        b"nothing",
        {"data": base64.b64encode(b"seen by Smith").decode()},
        "smith",
    ),
    "the ends of references": (
        suspects,
        "_PARTS",
        suspects._PARTS.replace(b"/", b"0"),
        {"reference": "https://ehr.example.org:8443/Patient/812345"},
        812345,
    ),
}


@pytest.mark.parametrize("part", BROKEN)
def test_the_judge_sees_when_a_part_of_the_search_is_broken(
    part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, name, instead, leaf, released = BROKEN[part]
    line = json.dumps({"resourceType": "Patient", "id": "p", "contact": [{"name": leaf}, leaf]})
    strings = [released] if isinstance(released, str) else []
    numbers = {released} if isinstance(released, int) else set()
    phrases, searched = search(strings, numbers)
    assert told(line.encode(), phrases, numbers)
    assert searched.among(line.encode()) == [0]
    monkeypatch.setattr(module, name, instead)
    _, broken = search(strings, numbers)
    assert broken.among(line.encode()) == []


def test_leaves_that_the_search_spares_are_on_no_list_of_identifiers() -> None:
    listed = {path[0] for path in _list().leaves} | set(_list().free_text)
    assert not listed & set(suspects.SPARED)
    assert set(suspects.SPARED) <= _list().coded
    assert not any(name.endswith(("Date", "DateTime")) for name in listed)


def test_a_set_of_numbers_knows_its_own_and_few_others() -> None:
    own = np.arange(10**6, 2 * 10**6, 97)
    numbers = NumberSet([own], len(own))
    assert numbers.has(own).all()
    assert numbers.has(own + 1).mean() < 0.02
    line = b'"0000000000000000001000097"\n"12"\n"1000098"'
    assert numbers.lines(line) == {0}


def test_a_sites_own_codes_are_not_walked_wherever_they_are_coded() -> None:
    """They are released, and stand in every line: only where they are no code do they count."""
    _, searched = search(["50912"], {220045})
    coded: dict[str, Any] = {
        "code": {"coding": [{"system": "urn:site", "code": "50912"}]},
        "recordedDate": "220045",
    }
    lines = [
        {"resourceType": "Observation", "id": "o1", **coded},
        {"resourceType": "Observation", "id": "o2", **coded, "identifier": [{"value": "50912"}]},
        {"resourceType": "Observation", "id": "o3", "extension": [{"url": "u", **coded["code"]}]},
        {"resourceType": "Observation", "id": "o-22-00-45", **coded},
    ]
    assert searched.among(b"\n".join(map(orjson.dumps, lines))) == [1, 2, 3]
