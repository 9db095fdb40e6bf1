"""The record of a series: whose it is, what it holds, and what the next step has to ask for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from exports.access import Access
from exports.errors import FhirloomError
from exports.increments.series import Series, Step
from exports.increments.terms import Plan, of_types, plan, terms_of
from exports.landing.screening import Screen
from exports.landing.zone import LandingZone
from exports.request import ExportRequest
from tests.exports.increments.test_merge import Deliveries, patient

REQUEST = ExportRequest("https://ehr.example/fhir")


def step(series: Series, *zones: LandingZone, **told: Any) -> Step:
    parts = tuple(series.part(zone, **{"since": None, "whole": (), **told}) for zone in zones)
    return Step(parts, terms_of(REQUEST, Screen()), parts[0].transaction_time, "merged")


def test_what_is_recorded_is_read_again(tmp_path: Path) -> None:
    deliver, series = Deliveries(tmp_path), Series(tmp_path, REQUEST)
    assert (series.begun, series.steps(), series.drifts) == (False, [], {})
    series.record([])
    assert (series.begun, series.steps()) == (True, [])
    first = step(series, deliver([patient("a")]), whole=None)
    second = step(series, deliver([]), deliver([]), whole=("Patient",), left=("ö", "b"))
    series.record([first, second])
    again = Series(tmp_path, REQUEST)
    assert again.steps() == [first, second]
    assert again.steps()[0].time == first.parts[0].time
    series.keep_members(1, {"b", "a"})
    assert again.members(1) == {"a", "b"}
    series.keep_drift(1, {"types": {}})
    series.keep_drift(3, {"types": {"Patient": {}}})
    assert again.drifts == {"0001": {"types": {}}, "0003": {"types": {"Patient": {}}}}


def test_a_series_belongs_to_server_level_group_and_client_whatever_else_is_asked(
    tmp_path: Path,
) -> None:
    Series(tmp_path, REQUEST).record([])
    same = [
        replace(REQUEST, types=("Patient",)),
        replace(REQUEST, server="https://ehr.example/fhir/"),
    ]
    others = [
        replace(REQUEST, server="https://ehr.example/other"),
        replace(REQUEST, level="patient"),
        replace(REQUEST, level="group", group_id="g"),
        replace(REQUEST, access=Access(user="me", password_file=Path("secret"))),
    ]
    assert [Series(tmp_path, request).begun for request in same] == [True] * 2
    assert [Series(tmp_path, request).begun for request in others] == [False] * 4


def test_deliveries_count_from_the_last_complete_one_and_none_may_be_gone(tmp_path: Path) -> None:
    deliver, series = Deliveries(tmp_path), Series(tmp_path, REQUEST)
    old, base, changes = deliver([patient("a")]), deliver([]), deliver([])
    parts = [
        series.part(old, since=None, whole=None),
        series.part(base, since=None, whole=None),
        series.part(changes, since="2026-02-02T00:00:00+00:00", whole=("Patient",), left=("a",)),
    ]
    found = series.deliveries(parts)
    assert found is not None
    assert [part.zone.sealed.digest for part in found] == [
        base.sealed.digest,
        changes.sealed.digest,
    ]
    assert [(part.whole, part.left) for part in found] == [
        (None, frozenset()),
        (frozenset({"Patient"}), frozenset({"a"})),
    ]
    (old.sealed.path / "manifest.json").unlink()
    assert series.deliveries(parts) is not None
    (changes.sealed.path / "manifest.json").unlink()
    assert series.deliveries(parts) is None
    assert series.deliveries([replace(parts[1], digest="another")]) is None


def test_two_runs_of_one_series_do_not_meet(tmp_path: Path) -> None:
    with Series(tmp_path, REQUEST).alone():
        with (
            pytest.raises(FhirloomError, match="already") as raised,
            Series(tmp_path, REQUEST).alone(),
        ):
            pass
        assert raised.value.code == "bad-input"
        with Series(tmp_path, replace(REQUEST, level="patient")).alone():
            pass


LABORATORY, VITALS = "Observation?category=laboratory", "Observation?category=vital-signs"


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({}, {}, Plan(False)),
        ({}, {"types": ("Patient",)}, Plan(False)),
        ({"types": ("Patient",)}, {}, Plan(True)),
        ({"types": ("Patient",)}, {"types": ("Device",)}, Plan(True)),
        (
            {"types": ("Patient",)},
            {"types": ("Patient", "Device")},
            Plan(False, frozenset({"Device"})),
        ),
        ({"types": ("Patient", "Device")}, {"types": ("Device",)}, Plan(False)),
        ({}, {"type_filters": (LABORATORY,)}, Plan(False, frozenset({"Observation"}))),
        ({"type_filters": (LABORATORY,)}, {}, Plan(False, frozenset({"Observation"}))),
        (
            {"type_filters": (LABORATORY, VITALS)},
            {"type_filters": (VITALS, LABORATORY)},
            Plan(False),
        ),
        (
            {"types": ("Patient", "Observation"), "type_filters": (LABORATORY,)},
            {"types": ("Patient", "Observation"), "type_filters": (VITALS,)},
            Plan(False, frozenset({"Observation"})),
        ),
        (
            {"types": ("Patient", "Observation"), "type_filters": (LABORATORY,)},
            {"types": ("Patient",)},
            Plan(False),
        ),
        ({"elements": ("id",)}, {"elements": ("id", "status")}, Plan(True)),
        (
            {"elements": ("Observation.status",)},
            {"elements": ("Observation.code",)},
            Plan(False, frozenset({"Observation"})),
        ),
        ({}, {"associated_data": ("LatestProvenanceResources",)}, Plan(True)),
    ],
    ids=str,
)
def test_what_was_not_asked_for_before_is_fetched_whole(
    before: dict[str, Any], now: dict[str, Any], expected: Plan
) -> None:
    asked = terms_of(replace(REQUEST, **before), Screen())
    assert plan(asked, terms_of(replace(REQUEST, **now), Screen())) == expected


def test_another_screen_is_another_export() -> None:
    asked = terms_of(REQUEST, Screen())
    assert plan(asked, terms_of(REQUEST, Screen(labels=frozenset({"R"})))).full
    assert plan(asked, terms_of(REQUEST, Screen(opted_out=frozenset({"a"})))).full


def test_the_part_of_a_request_for_some_types_has_their_filters_and_elements_alone() -> None:
    request = replace(
        REQUEST,
        types=("Patient", "Observation", "Device"),
        type_filters=(LABORATORY, "Device?status=active"),
        elements=("id", "Observation.status", "Patient.gender"),
    )
    part = of_types(request, {"Patient", "Observation"})
    assert part.types == ("Observation", "Patient")
    assert part.type_filters == (LABORATORY,)
    assert part.elements == ("id", "Observation.status", "Patient.gender")
    assert of_types(request, ["Device"]).elements == ("id",)
