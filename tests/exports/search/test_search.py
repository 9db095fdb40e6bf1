"""What a search lands: everything, as it was written, once, and reconciled."""

from __future__ import annotations

import gzip
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from starlette.requests import Request
from starlette.responses import Response

from exports.access import Access
from exports.errors import FhirloomError
from exports.landing.zone import LandingZone
from exports.options import ExportOptions
from exports.search.source import search
from tests.exports.search.searchable import FAST, SearchServer, observation, outcome

TYPES = ("Patient", "Observation", "MedicationRequest", "Medication")


def landed(zone: LandingZone, resource_type: str) -> list[str]:
    return [
        line
        for path in zone.paths(resource_type)
        for line in gzip.decompress(path.read_bytes()).decode().splitlines()
    ]


def ids(zone: LandingZone, resource_type: str) -> list[str]:
    return [orjson.loads(line)["id"] for line in landed(zone, resource_type)]


def found(zone: LandingZone) -> dict[tuple[str, str], tuple[int | None, int]]:
    return {(f.kind, f.type): (f.expected, f.found) for f in zone.findings}


def run(server: SearchServer, tmp_path: Path, **more: Any) -> LandingZone:
    chosen = {name: more.pop(name) for name in ("fresh", "parallel", "allow_wider") if name in more}
    options = ExportOptions(**{"parallel": 1, **chosen})
    asked = server.request(**{"types": TYPES, **more})
    return search(asked, tmp_path / "phi", options=options, patience=FAST)


def test_everything_of_all_patients_is_landed_page_by_page(
    server: SearchServer, tmp_path: Path
) -> None:
    zone = run(server, tmp_path)
    assert zone.rows() == {"Patient": 3, "Observation": 7, "MedicationRequest": 1, "Medication": 1}
    assert zone.server_rows == zone.rows()
    assert zone.transaction_time == datetime(2026, 7, 1, 10, tzinfo=UTC)
    assert zone.findings == ()
    assert zone.sealed.facts["source"] == "search"
    assert not zone.deleted_reported
    assert server.asked("Observation", _after="3")
    assert {given.get("_id") for given in server.asked("Medication")} == {"m-1"}


def test_resources_are_kept_as_they_are_written(server: SearchServer, tmp_path: Path) -> None:
    rows = [
        observation(1, "p-1", "1.10"),
        observation(2, "p-1", "0.000000000000000000000000123456789012345678901234567890"),
        observation(3, "p-1", "1e-7", unknownElement={"of": ["another", None, True]}),
        observation(4, "p-1").replace("o-4", "o-4\\u00e9").replace("o-4\\u00e9", "o-4", 1),
        '{ "resourceType" : "Observation", "id":"o-5","note":"Åsa  said \\"hi\\",\\n twice",'
        '"subject":{"reference":"Patient/p-1"},"extension":[{"url":"urn:x","valueDecimal":2.50}]}',
    ]
    server.rows["Observation"] = rows
    zone = run(server, tmp_path)
    assert sorted(landed(zone, "Observation")) == sorted(rows)


def test_line_breaks_between_tokens_go_and_nothing_else(
    server: SearchServer, tmp_path: Path
) -> None:
    row = observation(1, "p-1", "7.0")
    server.rows["Observation"] = [row.replace(",", ",\r\n    ")]
    assert landed(run(server, tmp_path), "Observation") == [row]


def test_an_active_member_of_the_group_is_read_and_nobody_else(
    server: SearchServer, tmp_path: Path
) -> None:
    zone = run(server, tmp_path, level="group", group_id="g")
    assert ids(zone, "Patient") == ["p-1"]
    assert ids(zone, "Observation") == ["o-0", "o-2", "o-4", "o-6"]
    assert {p for path, given, _ in server.seen if (p := given.get("patient"))} == {"p-1"}
    assert found(zone) == {("not-found", "Group"): (3, 1)}


def test_a_group_in_a_group_brings_its_members(server: SearchServer, tmp_path: Path) -> None:
    server.rows["Group"].append(
        '{"resourceType":"Group","id":"outer","member":['
        '{"entity":{"reference":"Group/g"}},{"entity":{"reference":"Group/outer"}},'
        '{"entity":{"reference":"https://ehr.example/fhir/Patient/p-2/_history/4"}}]}'
    )
    zone = run(server, tmp_path, level="group", group_id="outer")
    assert ids(zone, "Patient") == ["p-1", "p-2"]


def test_patients_may_be_named(server: SearchServer, tmp_path: Path) -> None:
    zone = run(server, tmp_path, patients=("p-2", "p-gone"))
    assert ids(zone, "Patient") == ["p-2"]
    assert ids(zone, "Observation") == ["o-1", "o-3", "o-5"]
    assert found(zone) == {("not-found", "Patient"): (2, 1)}


def test_since_and_filters_narrow_the_search(server: SearchServer, tmp_path: Path) -> None:
    def at(hour: int) -> dict[str, str]:
        return {"lastUpdated": f"2026-01-01T{hour:02d}:00:00+00:00"}

    server.rows["Observation"] = [
        observation(1, "p-1", category="laboratory", meta=at(1)),
        observation(2, "p-1", category="laboratory", meta=at(3)),
        observation(3, "p-1", category="survey", meta=at(4)),
        observation(4, "p-2", category="vital-signs", meta=at(5)),
    ]
    zone = run(
        server,
        tmp_path,
        types=("Observation",),
        since=datetime(2026, 1, 1, 2, tzinfo=UTC),
        type_filters=("Observation?category=laboratory", "Observation?category=vital-signs"),
    )
    assert ids(zone, "Observation") == ["o-2", "o-4"]
    assert {given["_lastUpdated"] for given in server.asked("Observation")} == {
        "gt2026-01-01T02:00:00+00:00"
    }


def test_a_filter_that_the_server_refuses_is_applied_here_where_that_is_allowed(
    server: SearchServer, tmp_path: Path
) -> None:
    server.rows["Observation"] = [
        observation(1, "p-1", category=[{"coding": [{"code": "laboratory"}]}]),
        observation(2, "p-1", category=[{"coding": [{"code": "survey"}]}]),
    ]

    def strict(request: Request) -> Response | None:
        return outcome(400, "invalid") if "category" in request.query_params else None

    server.meddle = strict
    asked = {"types": ("Observation",), "type_filters": ("Observation?category=laboratory",)}
    with pytest.raises(FhirloomError, match="400") as raised:
        run(server, tmp_path, **asked)
    assert "Zebediah" not in str(raised.value)
    zone = run(server, tmp_path, allow_wider=True, **asked)
    assert ids(zone, "Observation") == ["o-1"]


def test_what_a_server_should_have_left_out_is_left_out_here(
    server: SearchServer, tmp_path: Path
) -> None:
    old = {"lastUpdated": "2020-01-01T00:00:00Z"}
    rows = [observation(1, "p-1", meta=old), observation(2, "p-1")]
    page = [{"resource": orjson.loads(row)} for row in rows]
    bundle = orjson.dumps({"resourceType": "Bundle", "total": 2, "entry": page})
    nothing = orjson.dumps({"resourceType": "Bundle", "total": 0})

    def passes_over(request: Request) -> Response | None:
        if not request.url.path.endswith("/Observation"):
            return None
        return Response(bundle if request.query_params["patient"] == "p-1" else nothing)

    server.meddle = passes_over
    zone = run(server, tmp_path, types=("Observation",), since=datetime(2026, 1, 1, tzinfo=UTC))
    assert ids(zone, "Observation") == ["o-2"]
    assert found(zone) == {("extra-rows", "Observation"): (0, 1)}


def test_lists_of_patients_are_used_once_the_server_has_shown_to_know_them(
    server: SearchServer, tmp_path: Path
) -> None:
    people = [f"p-{n}" for n in range(100, 160)]
    server.rows["Patient"] = [f'{{"resourceType":"Patient","id":"{p}"}}' for p in people]
    server.rows["Observation"] = [observation(n, person) for n, person in enumerate(people)]
    zone = run(server, tmp_path, types=("Patient", "Observation"))
    assert zone.rows() == {"Observation": 60, "Patient": 60}
    searches = [
        given
        for given in server.asked("Observation")
        if "_after" not in given and "_summary" not in given
    ]
    assert [given["patient"].count(",") + 1 for given in searches] == [1] * 20 + [20, 20]


def test_a_type_that_nobody_has_costs_one_search_a_batch(
    server: SearchServer, tmp_path: Path
) -> None:
    people = [f"p-{n}" for n in range(100, 160)]
    server.rows["Patient"] = [f'{{"resourceType":"Patient","id":"{p}"}}' for p in people]
    server.rows["Observation"] = [observation(n, person) for n, person in enumerate(people)]
    server.rows["Goal"] = []
    zone = run(server, tmp_path, types=("Patient", "Observation", "Goal"))
    assert zone.server_rows == {"Goal": 0, "Observation": 60, "Patient": 60}
    assert [given["patient"].count(",") for given in server.asked("Goal")] == [19, 19, 19]


def test_a_server_that_takes_a_list_for_one_id_is_asked_one_by_one(
    server: SearchServer, tmp_path: Path
) -> None:
    server.lists = False
    people = [f"p-{n}" for n in range(100, 141)]
    server.rows["Patient"] = [f'{{"resourceType":"Patient","id":"{p}"}}' for p in people]
    server.rows["Observation"] = [observation(n, person) for n, person in enumerate(people)]
    zone = run(server, tmp_path, types=("Patient", "Observation"))
    assert zone.rows() == {"Observation": 41, "Patient": 41}


def test_ids_that_look_like_numbers_or_prefixes_stay_what_they_are(
    server: SearchServer, tmp_path: Path
) -> None:
    people = ["007", "1e3", "eq7", "in.2", "true", "12345678901234567890"]
    server.rows["Patient"] = [f'{{"resourceType":"Patient","id":"{p}"}}' for p in people]
    server.rows["Observation"] = [observation(n, person) for n, person in enumerate(people)]
    zone = run(server, tmp_path, types=("Patient", "Observation"))
    assert zone.rows() == {"Observation": 6, "Patient": 6}


def test_a_type_that_the_server_has_not_is_told_unless_it_was_asked_for(
    server: SearchServer, tmp_path: Path
) -> None:
    zone = run(server, tmp_path, types=(), parallel=2)
    assert zone.rows() == {"Patient": 3, "Observation": 7, "MedicationRequest": 1, "Medication": 1}
    assert ("missing-type", "Condition") in found(zone)
    with pytest.raises(FhirloomError, match="404") as raised:
        run(server, tmp_path, types=("Condition",))
    assert raised.value.code == "server"
    assert raised.value.where == "the search for Condition"


def test_a_type_that_the_server_calls_unsupported_is_one_that_it_has_not(
    server: SearchServer, tmp_path: Path
) -> None:
    def no_search(request: Request) -> Response | None:
        refused = request.url.path.endswith("/CareTeam")
        return outcome(400, "not-supported") if refused else None

    server.meddle = no_search
    assert ("missing-type", "CareTeam") in found(run(server, tmp_path, types=()))
    with pytest.raises(FhirloomError, match="not-supported"):
        run(server, tmp_path, types=("CareTeam",))
    with pytest.raises(FhirloomError, match="not-supported"):
        run(server, tmp_path, types=(), type_filters=("CareTeam?category=a",))


def test_a_drug_is_read_where_it_cannot_be_searched(server: SearchServer, tmp_path: Path) -> None:
    def no_search(request: Request) -> Response | None:
        return outcome(400, "not-supported") if request.url.path.endswith("/Medication") else None

    server.meddle = no_search
    assert ids(run(server, tmp_path), "Medication") == ["m-1"]


def test_a_reference_to_nothing_is_told(server: SearchServer, tmp_path: Path) -> None:
    server.rows["Medication"] = []
    zone = run(server, tmp_path)
    assert found(zone) == {("not-found", "Medication"): (1, 0)}


def test_drugs_in_drugs_are_followed(server: SearchServer, tmp_path: Path) -> None:
    inner = '"ingredient":[{"itemReference":{"reference":"Medication/m-2"}}]'
    server.rows["Medication"][0] = f'{{"resourceType":"Medication","id":"m-1",{inner}}}'
    assert ids(run(server, tmp_path), "Medication") == ["m-1", "m-2"]


def test_without_a_total_the_server_is_asked_to_count_and_uncounted_is_told(
    server: SearchServer, tmp_path: Path
) -> None:
    server.totals = False
    zone = run(server, tmp_path, types=("Observation",))
    assert zone.rows() == {"Observation": 7}
    assert zone.server_rows == {}
    assert found(zone) == {("uncounted", "Observation"): (None, 7)}


def test_what_comes_along_is_not_kept_and_remarks_stand_beside(
    server: SearchServer, tmp_path: Path
) -> None:
    def with_more(request: Request) -> Response | None:
        if not request.url.path.endswith("/Observation"):
            return None
        if request.query_params["patient"] != "p-1":
            return Response(orjson.dumps({"resourceType": "Bundle", "total": 0}))
        issue = {"severity": "warning", "code": "security", "diagnostics": "Quux"}
        along = [
            {"resource": orjson.loads(observation(1, "p-1"))},
            {"resource": {"resourceType": "Patient", "id": "p-9"}, "search": {"mode": "include"}},
            {
                "resource": {"resourceType": "OperationOutcome", "issue": [issue]},
                "search": {"mode": "outcome"},
            },
        ]
        return Response(orjson.dumps({"resourceType": "Bundle", "total": 1, "entry": along}))

    server.meddle = with_more
    zone = run(server, tmp_path, types=("Observation",))
    assert zone.rows() == {"Observation": 1}
    assert zone.server_errors == 1
    assert found(zone) == {("outcome", "warning/security"): (None, 1)}
    remarks = (zone.sealed.path / "errors" / "OperationOutcome.ndjson").read_text()
    assert "Quux" in remarks


def test_records_of_somebody_else_are_refused(server: SearchServer, tmp_path: Path) -> None:
    def ignores_the_patient(request: Request) -> Response | None:
        if not request.url.path.endswith("/Observation"):
            return None
        entries = [{"resource": orjson.loads(row)} for row in server.rows["Observation"]]
        return Response(orjson.dumps({"resourceType": "Bundle", "total": 7, "entry": entries}))

    server.meddle = ignores_the_patient
    with pytest.raises(FhirloomError, match="weren't asked for"):
        run(server, tmp_path, patients=("p-1",))


def test_the_same_request_again_asks_nobody_unless_fresh(
    server: SearchServer, tmp_path: Path
) -> None:
    first = run(server, tmp_path)
    asked = len(server.seen)
    again = run(server, tmp_path)
    assert again.sealed.digest == first.sealed.digest
    assert len(server.seen) == asked
    server.rows["Observation"].append(observation(8, "p-1"))
    assert run(server, tmp_path, fresh=True).rows()["Observation"] == 8


def test_types_read_side_by_side_land_the_same(server: SearchServer, tmp_path: Path) -> None:
    people = [f"p-{n}" for n in range(100, 150)]
    server.rows["Patient"] = [f'{{"resourceType":"Patient","id":"{p}"}}' for p in people]
    server.rows["Observation"] = [observation(n, person) for n, person in enumerate(people)]
    alone = run(server, tmp_path / "alone", types=())
    together = run(server, tmp_path / "together", types=(), parallel=3)
    assert together.sealed.digest == alone.sealed.digest


def test_the_token_goes_with_each_request_and_stays_out_of_sight(
    server: SearchServer, tmp_path: Path, bearer: Access
) -> None:
    zone = run(server, tmp_path, access=bearer)
    assert {authorization for _, _, authorization in server.seen} == {"Bearer secret-token"}
    for path in zone.sealed.path.parents[1].rglob("*"):
        assert not path.is_file() or b"secret-token" not in path.read_bytes()


def test_a_type_that_belongs_to_nobody_is_refused_at_once(
    server: SearchServer, tmp_path: Path
) -> None:
    with pytest.raises(FhirloomError, match="No patient leads to ValueSet"):
        run(server, tmp_path, types=("ValueSet",))
    assert server.seen == []


def test_without_its_environment_the_fix_is_told(
    server: SearchServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FHIRLOOM_SEARCH_PYTHON", str(tmp_path / "nowhere"))
    with pytest.raises(FhirloomError, match="make setup") as raised:
        run(server, tmp_path)
    assert raised.value.code == "bad-input"


def test_what_is_landed_and_kept_in_between_is_for_its_owner_alone(
    server: SearchServer, tmp_path: Path
) -> None:
    zone = run(server, tmp_path)
    phi = zone.sealed.path.parents[1]
    assert [p for p in zone.sealed.path.rglob("*") if p.stat().st_mode & 0o077] == []
    assert (phi / "export-job").stat().st_mode & 0o077 == 0
