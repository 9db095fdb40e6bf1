"""The client against the sandbox, over real HTTP: everything arrives, or it is said what didn't."""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse

from exports.access import OPEN, Access
from exports.bulk.export import export
from exports.connection.transport import Patience
from exports.errors import FhirloomError
from exports.landing.screening import Screen
from exports.landing.zone import open_landing
from exports.options import ExportOptions
from exports.request import ExportRequest
from tests.exports.conftest import CLIENT

HASTE = Patience(retries=3, first_wait=0.01, longest_wait=0.02)
ROWS = {"Encounter": 300, "Observation": 1000, "Patient": 100}


@pytest.fixture
def phi(tmp_path: Path) -> Path:
    return tmp_path / "work" / "phi"


def once(answer: Callable[[Request], Response | None]) -> Callable[[Request], Response | None]:
    """Meddle with the first request that `answer` has an answer for."""
    spent: list[Response] = []

    def meddle(request: Request) -> Response | None:
        response = None if spent else answer(request)
        if response is not None:
            spent.append(response)
        return response

    return meddle


def on(part: str, response: Callable[[], Response]) -> Callable[[Request], Response | None]:
    return lambda request: response() if part in request.url.path else None


def test_everything_on_the_server_lands_as_it_lay_there(
    ehr: Any, phi: Path, hospital: Path
) -> None:
    heard: list[tuple[int, int | None, str]] = []
    zone = export(ehr.request, phi, progress=lambda *told: heard.append(told))
    assert zone.rows() == zone.server_rows == ROWS
    assert zone.transaction_time == datetime(2026, 1, 1, tzinfo=UTC)
    assert zone.quarantined == {}
    assert zone.server_errors == 0
    assert zone.sealed.facts["source"] == "bulk"
    landed = sorted(path.read_bytes() for path in zone.paths("Patient"))
    lying = sorted(path.read_bytes() for path in hospital.glob("Patient*"))
    assert landed == lying
    assert (4, 4, "files") in heard
    assert open_landing(phi).sealed.digest == zone.sealed.digest
    assert phi.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("level", [{"level": "patient"}, {"level": "group", "group_id": "all"}])
def test_levels_and_types(ehr: Any, phi: Path, level: dict[str, Any]) -> None:
    zone = export(replace(ehr.request, types=("Patient",), **level), phi)
    assert zone.rows() == {"Patient": 100}


def test_an_rsa_client_exports_too(as_rsa_client: ExportRequest, phi: Path) -> None:
    assert export(as_rsa_client, phi).rows() == ROWS


def test_the_job_is_on_the_disk_before_the_first_poll_and_holds_no_token(
    ehr: Any, phi: Path
) -> None:
    at_first_poll: list[dict[str, Any]] = []

    def look(request: Request) -> None:
        if "/jobs/" in request.url.path and not at_first_poll:
            (record,) = (phi / "export-job").glob("*.json")
            at_first_poll.append(json.loads(record.read_text()))
            assert request.headers["authorization"].split()[1] not in record.read_text()

    ehr.meddle = look
    export(ehr.request, phi)
    (recorded,) = at_first_poll
    assert recorded["status_url"] in [f"{ehr.root}{path}" for path in ehr.paths("GET", "/jobs/")]


def test_the_same_request_again_asks_nobody_and_fresh_asks_anew(ehr: Any, phi: Path) -> None:
    first = export(ehr.request, phi)
    ehr.seen.clear()
    again = export(ehr.request, phi)
    assert ehr.seen == []
    assert again.sealed.digest == first.sealed.digest
    anew = export(ehr.request, phi, fresh=True)
    assert len(ehr.paths("GET", "$export")) == 1
    assert anew.sealed.digest == first.sealed.digest


def test_the_server_s_address_is_no_part_of_the_zone(
    start_ehr: Callable[..., Any], phi: Path, tmp_path: Path
) -> None:
    zones = [
        export(start_ehr().request, folder, patience=HASTE)
        for folder in (phi, tmp_path / "elsewhere")
    ]
    assert zones[0].sealed.digest == zones[1].sealed.digest


def test_the_job_is_deleted_once_all_is_safe(ehr: Any, phi: Path) -> None:
    export(ehr.request, phi)
    (deleted,) = ehr.paths("DELETE", "/jobs/")
    assert ehr.seen[-1] == ("DELETE", deleted)
    assert [path.suffix for path in sorted((phi / "export-job").iterdir())] == [".json", ".lock"]


def test_tokens_that_expire_on_the_way_are_renewed(
    start_ehr: Callable[..., Any], phi: Path
) -> None:
    ehr = start_ehr(token_seconds=1)

    def dawdle(request: Request) -> None:
        if ".ndjson" in request.url.path:
            time.sleep(0.4)

    ehr.meddle = dawdle
    assert export(ehr.request, phi, options=ExportOptions(parallel=1)).rows() == ROWS
    assert len(ehr.paths("POST", "/token")) > 1


def test_a_token_that_the_server_forgot_is_renewed_once(ehr: Any, phi: Path) -> None:
    ehr.meddle = once(on("Observation", lambda: Response(status_code=401)))
    assert export(ehr.request, phi).rows() == ROWS
    assert len(ehr.paths("POST", "/token")) == 2


def test_a_client_that_is_not_registered_gets_the_reason(
    ehr: Any, phi: Path, keys: dict[str, Path]
) -> None:
    with pytest.raises(FhirloomError, match="401 \\(invalid_client\\)") as raised:
        export(replace(ehr.request, access=Access(CLIENT, keys["stranger"])), phi, patience=HASTE)
    assert (raised.value.code, raised.value.where) == ("server", "the token request")


def cut_gzip(hospital: Path) -> Response:
    whole = (hospital / "Observation.0001.ndjson.gz").read_bytes()
    return Response(whole[: len(whole) // 2], headers={"Content-Encoding": "gzip"})


def cut_socket(hospital: Path) -> Response:
    whole = (hospital / "Observation.0001.ndjson.gz").read_bytes()

    async def part() -> Any:
        yield whole[: len(whole) // 2]
        raise ConnectionError("cut")

    headers = {"Content-Encoding": "gzip", "Content-Length": str(len(whole))}
    return StreamingResponse(part(), headers=headers)


def missing_row(hospital: Path) -> Response:
    whole = gzip.decompress((hospital / "Observation.0001.ndjson.gz").read_bytes())
    return Response(b"".join(whole.splitlines(keepends=True)[:-1]))


def empty_gzip(hospital: Path) -> Response:
    return Response(b"", headers={"Content-Encoding": "gzip"})


@pytest.mark.parametrize(
    ("damage", "attempts"), [(cut_gzip, 4), (cut_socket, 4), (missing_row, 3), (empty_gzip, 4)]
)
def test_a_damaged_file_is_fetched_again_and_never_taken(
    ehr: Any, phi: Path, hospital: Path, damage: Callable[[Path], Response], attempts: int
) -> None:
    ehr.meddle = once(on("Observation", lambda: damage(hospital)))
    zone = export(ehr.request, phi, patience=HASTE)
    assert zone.rows() == ROWS
    assert len(ehr.paths("GET", "Observation")) == 2

    ehr.seen.clear()
    ehr.meddle = on("Observation", lambda: damage(hospital))
    with pytest.raises(FhirloomError) as raised:
        export(ehr.request, phi, patience=HASTE, fresh=True)
    assert raised.value.code == "incomplete"
    assert len(ehr.paths("GET", "Observation")) == attempts
    assert open_landing(phi).sealed.digest == zone.sealed.digest


def test_an_incomplete_export_continues_with_what_it_has(
    ehr: Any, phi: Path, hospital: Path
) -> None:
    ehr.meddle = on("Observation", lambda: cut_gzip(hospital))
    with pytest.raises(FhirloomError):
        export(ehr.request, phi, patience=HASTE)
    ehr.seen.clear()
    ehr.meddle = lambda request: None
    assert export(ehr.request, phi).rows() == ROWS
    assert ehr.paths("GET", "$export") == []
    assert len(ehr.paths("GET", "Encounter")) == 0
    assert len(ehr.paths("GET", "Observation")) == 1


def test_a_job_that_the_server_lost_is_asked_for_again(ehr: Any, phi: Path, hospital: Path) -> None:
    ehr.meddle = on("Observation", lambda: cut_gzip(hospital))
    with pytest.raises(FhirloomError):
        export(ehr.request, phi, patience=HASTE)
    ehr.seen.clear()
    ehr.meddle = once(on("/jobs/", lambda: Response(status_code=410)))
    assert export(ehr.request, phi).rows() == ROWS
    assert len(ehr.paths("GET", "$export")) == 1
    assert len(ehr.paths("GET", "Encounter")) == 1


@pytest.mark.parametrize(
    ("part", "status"),
    [("smart-configuration", 502), ("$export", 429), ("/jobs/", 504), ("Patient.0001", 503)],
)
def test_a_passing_failure_is_waited_out(ehr: Any, phi: Path, part: str, status: int) -> None:
    ehr.meddle = once(on(part, lambda: Response(status_code=status)))
    assert export(ehr.request, phi, patience=HASTE).rows() == ROWS


def test_a_lasting_refusal_is_told_by_code_and_never_in_the_server_s_words(
    ehr: Any, phi: Path
) -> None:
    issue = {"severity": "error", "code": "forbidden", "diagnostics": "Patient Jane Roe said no"}
    outcome = {"resourceType": "OperationOutcome", "issue": [issue]}
    ehr.meddle = on("$export", lambda: JSONResponse(outcome, status_code=403))
    with pytest.raises(FhirloomError, match="403 \\(error: forbidden\\)") as raised:
        export(ehr.request, phi, patience=HASTE)
    assert raised.value.code == "server"
    assert "Jane" not in str(raised.value)
    assert len(ehr.paths("GET", "$export")) == 1


def test_an_outcome_that_calls_itself_transient_is_waited_out(ehr: Any, phi: Path) -> None:
    outcome = {"resourceType": "OperationOutcome", "issue": [{"code": "transient"}]}
    ehr.meddle = once(on("/jobs/", lambda: JSONResponse(outcome, status_code=500)))
    assert export(ehr.request, phi, patience=HASTE).rows() == ROWS


def test_nobody_listens(phi: Path, keys: dict[str, Path]) -> None:
    nobody = ExportRequest("http://127.0.0.1:9/fhir", Access("c", keys["ES384"]))
    with pytest.raises(FhirloomError, match="can't be reached") as raised:
        export(nobody, phi, patience=HASTE)
    assert raised.value.code == "server"


def manifest_with(ehr: Any, **changed: Any) -> Callable[[Request], Response | None]:
    manifest = {
        "transactionTime": "2026-01-01T00:00:00Z",
        "request": "",
        "requiresAccessToken": True,
        "output": [],
        **changed,
    }

    def meddle(request: Request) -> Response | None:
        is_status = request.url.path.count("/") == 2 and "/jobs/" in request.url.path
        return JSONResponse(manifest) if is_status and request.method == "GET" else None

    return meddle


def test_the_token_goes_to_the_server_s_own_origin_only(
    ehr: Any, start_ehr: Callable[..., Any], phi: Path
) -> None:
    store, tokens = start_ehr(), {}
    rows = b'{"resourceType":"Patient","id":"1"}\n'

    def serve_rows(request: Request) -> Response:
        tokens[request.url.path] = request.headers.get("authorization", "")
        return Response(rows)

    store.meddle = serve_rows
    completed = manifest_with(
        ehr,
        output=[
            {"type": "Patient", "url": f"{store.root}/named", "count": 1},
            {"type": "Patient", "url": f"{ehr.root}/moved", "count": 1},
        ],
    )

    def meddle(request: Request) -> Response | None:
        if request.url.path == "/moved":
            tokens["/moved"] = request.headers.get("authorization", "")
            return RedirectResponse(f"{store.root}/there")
        return completed(request)

    ehr.meddle = meddle
    assert export(ehr.request, phi).rows() == {"Patient": 2}
    assert tokens.pop("/moved").startswith("Bearer ")
    assert tokens == {"/named": "", "/there": ""}


def test_an_open_server_is_asked_without_a_token(ehr: Any, phi: Path) -> None:
    authorized: list[str] = []
    files = {"output": [{"type": "Patient", "url": f"{ehr.root}/open/file", "count": 1}]}
    completed = {"transactionTime": "2026-01-01T00:00:00Z", "requiresAccessToken": False, **files}

    def meddle(request: Request) -> Response:
        authorized.append(request.headers.get("authorization", ""))
        if request.url.path.endswith("$export"):
            return Response(status_code=202, headers={"Content-Location": "/open/job"})
        if request.url.path == "/open/job":
            return JSONResponse(completed)
        return Response(b'{"resourceType":"Patient","id":"1"}')

    ehr.meddle = meddle
    assert export(replace(ehr.request, access=OPEN), phi).rows() == {"Patient": 1}
    assert set(authorized) == {""}


def test_urls_are_not_logged(ehr: Any, phi: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        export(ehr.request, phi)
    assert "http" not in caplog.text


def test_errors_and_deletions_are_kept_beside_the_files(ehr: Any, phi: Path) -> None:
    outcome = b'{"resourceType":"OperationOutcome","issue":[]}\n'
    completed = manifest_with(
        ehr,
        output=[{"type": "Patient", "url": "../kept"}],
        error=[{"type": "OperationOutcome", "url": f"{ehr.root}/wrong"}],
        deleted=[{"type": "Bundle", "url": f"{ehr.root}/deleted"}],
    )

    def meddle(request: Request) -> Response | None:
        if request.url.path == "/wrong":
            return Response(outcome * 3)
        if request.url.path == "/deleted":
            return Response(b'{"resourceType":"Bundle","type":"transaction"}')
        if request.url.path == "/kept":
            return Response(b'{"resourceType":"Patient","id":"1"}\n7\n')
        return completed(request)

    ehr.meddle = meddle
    zone = export(ehr.request, phi)
    assert zone.server_errors == 3
    assert zone.server_rows is None
    assert zone.rows() == {"Patient": 1}
    assert zone.quarantined == {"not-object": 1}
    assert len(list((zone.sealed.path / "deleted").iterdir())) == 1
    (kept,) = (zone.sealed.path / "errors").iterdir()
    assert kept.read_bytes() == outcome * 3


@pytest.mark.parametrize(
    "broken",
    [
        {"transactionTime": None},
        {"transactionTime": "2026-01-01T00:00:00"},
        {"output": [{"type": "Patient"}]},
        {"output": [{"type": "../../x", "url": "x"}]},
        {"output": [{"type": "Patient", "url": "file:///etc/hosts"}]},
        {"link": [{"relation": "next", "url": "file:///page-2"}]},
    ],
    ids=str,
)
def test_a_manifest_that_breaks_the_protocol_is_refused(
    ehr: Any, phi: Path, broken: dict[str, Any]
) -> None:
    ehr.meddle = manifest_with(ehr, **broken)
    with pytest.raises(FhirloomError, match="manifest") as raised:
        export(ehr.request, phi)
    assert raised.value.code == "server"


def test_two_runs_of_one_export_do_not_meet(ehr: Any, phi: Path) -> None:
    refused: list[str] = []

    def run_again(done: int, total: int | None, unit: str) -> None:
        if unit == "files" and not refused:
            with pytest.raises(FhirloomError) as raised:
                export(ehr.request, phi)
            refused.append(raised.value.what)

    export(ehr.request, phi, progress=run_again)
    assert refused == ["The same export is already running"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"server": "ftp://ehr.example"},
        {"server": "ehr.example/fhir"},
        {"server": "https://user:secret@ehr.example/fhir"},
        {"level": "group"},
        {"group_id": "all"},
        {"level": "group", "group_id": "../x"},
        {"types": ("Patients",)},
        {"since": datetime(2026, 1, 1)},
        {"type_filters": ("Observation",)},
        {"type_filters": ("Vitals?code=1",)},
        {"elements": ("Observation.value.x",)},
        {"patients": ("1",)},
        {"level": "patient", "patients": ("../1",)},
        {"until": datetime(2026, 1, 1)},
        {"organize_by": "Patients"},
        {"server": "http://ehr.example/fhir"},
    ],
    ids=str,
)
def test_an_unusable_request_is_bad_input(wrong: dict[str, Any]) -> None:
    with pytest.raises(FhirloomError) as raised:
        ExportRequest(**{"server": "https://ehr.example/fhir", **wrong})
    assert raised.value.code == "bad-input"
    assert "secret" not in str(raised.value)


def test_a_vendor_that_lacks_the_level_is_not_even_asked(ehr: Any, phi: Path) -> None:
    with pytest.raises(FhirloomError, match="Epic has no system export, only group") as raised:
        export(ehr.request, phi, options=ExportOptions(vendor="epic"))
    assert raised.value.code == "bad-input"
    assert ehr.seen == []


def test_a_vendor_is_recognised_by_its_statement(ehr: Any, phi: Path) -> None:
    ehr.meddle = on("metadata", lambda: JSONResponse({"software": {"name": "Epic"}}))
    with pytest.raises(FhirloomError, match="Epic has no system export"):
        export(ehr.request, phi)
    assert ehr.paths("GET", "$export") == []


def rejecting_type(ehr: Any) -> None:
    outcome = {
        "resourceType": "OperationOutcome",
        "issue": [{"severity": "error", "code": "not-supported", "diagnostics": "no _type here"}],
    }

    def meddle(request: Request) -> Response | None:
        rejected = "$export" in request.url.path and "_type" in request.query_params
        return JSONResponse(outcome, status_code=400) if rejected else None

    ehr.meddle = meddle


def test_what_the_server_rejects_is_applied_here(ehr: Any, phi: Path) -> None:
    request = replace(ehr.request, types=("Patient",))
    rejecting_type(ehr)
    with pytest.raises(FhirloomError, match="_type") as raised:
        export(request, phi, patience=HASTE)
    assert "--allow-wider" in raised.value.fix
    zone = export(request, phi, patience=HASTE, options=ExportOptions(allow_wider=True))
    assert zone.rows() == {"Patient": 100}
    assert zone.narrowed == {"_type": 1300}
    assert zone.sealed.facts["dropped"] == ["_type"]
    assert zone.paths("Observation") == []


def test_a_stopped_export_that_was_narrowed_here_still_is(
    ehr: Any, phi: Path, hospital: Path
) -> None:
    request = replace(ehr.request, types=("Patient",))
    rejecting_type(ehr)
    rejecting = ehr.meddle
    ehr.meddle = lambda asked: (
        rejecting(asked) or on("Patient.0001", lambda: cut_gzip(hospital))(asked)
    )
    with pytest.raises(FhirloomError):
        export(request, phi, patience=HASTE, options=ExportOptions(allow_wider=True))
    ehr.meddle = lambda asked: None
    ehr.seen.clear()
    assert export(request, phi).rows() == {"Patient": 100}
    assert ehr.paths("GET", "$export") == ehr.paths("GET", "metadata") == []


def test_urls_that_expired_are_asked_for_again(ehr: Any, phi: Path) -> None:
    """Each status answer signs the file URLs anew; a URL with an old signature is refused."""
    signed: list[int] = []

    def meddle(request: Request) -> Response | None:
        path = request.url.path
        if path == "/file":
            good = request.query_params["signature"] == str(len(signed)) and len(signed) > 1
            row = b'{"resourceType":"Patient","id":"1"}\n'
            return Response(row) if good else Response(status_code=403)
        if "/jobs/" in path and request.method == "GET":
            signed.append(1)
            url = f"{ehr.root}/file?signature={len(signed)}"
            return manifest_with(ehr, output=[{"type": "Patient", "url": url}])(request)
        return None

    ehr.meddle = meddle
    assert export(ehr.request, phi, patience=HASTE).rows() == {"Patient": 1}
    assert len(signed) == 2
    assert len(ehr.paths("GET", "$export")) == 1


def test_a_job_that_is_gone_in_the_middle_is_begun_anew_once(ehr: Any, phi: Path) -> None:
    expired: list[str] = []

    def meddle(request: Request) -> Response | None:
        path = request.url.path
        if "Observation" in path and not expired:
            expired.append(path.split("/")[2])
        return Response(status_code=410) if expired and expired[0] in path else None

    ehr.meddle = meddle
    assert export(ehr.request, phi, patience=HASTE).rows() == ROWS
    assert len(ehr.paths("GET", "$export")) == 2
    first, second = ehr.paths("DELETE", "/jobs/")
    assert (first.endswith(expired[0]), second.endswith(expired[0])) == (True, False)

    def always(request: Request) -> Response | None:
        return Response(status_code=410) if "/jobs/" in request.url.path else None

    ehr.meddle = always
    ehr.seen.clear()
    with pytest.raises(FhirloomError, match="forgot the job"):
        export(ehr.request, phi, patience=HASTE, fresh=True)
    assert len(ehr.paths("GET", "$export")) == 2


def test_a_fresh_export_gives_up_the_unfinished_one(ehr: Any, phi: Path, hospital: Path) -> None:
    ehr.meddle = on("Observation", lambda: cut_gzip(hospital))
    with pytest.raises(FhirloomError):
        export(ehr.request, phi, patience=HASTE)
    (job,) = {path.split("/")[2] for path in ehr.paths("GET", "/jobs/")}
    ehr.meddle = lambda request: None
    ehr.seen.clear()
    export(ehr.request, phi, fresh=True)
    assert ehr.paths("DELETE", "/jobs/")[0] == f"/jobs/{job}"
    asked = [path for method, path in ehr.seen if "$export" in path or method == "DELETE"]
    assert asked[0] == f"/jobs/{job}"


def test_pages_and_partial_manifests_are_one_export(ehr: Any, phi: Path) -> None:
    rows = {f"/{number}": f'{{"resourceType":"Patient","id":"{number}"}}\n' for number in "abc"}
    polls: list[str] = []

    def page(*names: str, status: int = 200, following: str = "") -> Response:
        body = {
            "transactionTime": "2026-01-01T00:00:00Z",
            "requiresAccessToken": "false",
            "output": [{"type": "Patient", "url": f"{ehr.root}{name}"} for name in names],
            "link": [{"relation": "next", "url": following}] if following else [],
        }
        return JSONResponse(body, status_code=status)

    def meddle(request: Request) -> Response | None:
        path = request.url.path
        if path in rows:
            assert "authorization" not in request.headers
            return Response(rows[path])
        if path == "/page-2":
            return page("/b")
        if "/jobs/" in path and request.method == "GET":
            polls.append(path)
            return page("/c", status=202) if len(polls) == 1 else page("/a", following="/page-2")
        return None

    ehr.meddle = meddle
    assert export(ehr.request, phi, patience=HASTE).rows() == {"Patient": 3}


def test_the_log_tells_the_whole_export_and_no_token(ehr: Any, phi: Path) -> None:
    export(ehr.request, phi)
    (log,) = (phi / "logs" / "export").glob("*.ndjson")
    events = [json.loads(line) for line in log.read_text().splitlines()]
    names = [event["eventId"] for event in events]
    assert names[0] == "kickoff"
    assert names[-1] == "export_complete"
    assert {"status_complete", "status_page_complete", "manifest_complete"} < set(names)
    assert names.count("download_complete") == 4
    assert len({event["exportId"] for event in events}) == 1
    complete = events[-1]["eventDetail"]
    assert (complete["files"], complete["resources"]) == (4, 1400)
    totals = next(event for event in events if event["eventId"] == "manifest_complete")
    assert totals["eventDetail"]["totalOutputFileCount"] == 4
    assert "earer" not in log.read_text()


def test_who_must_not_be_in_it_is_part_of_what_is_asked(ehr: Any, phi: Path) -> None:
    first = export(ehr.request, phi)
    without = ExportOptions(screen=Screen(opted_out=frozenset({"7"})))
    second = export(ehr.request, phi, options=without)
    assert second.excluded == {"opted-out": 1}
    assert second.rows()["Patient"] == first.rows()["Patient"] - 1
    ehr.seen.clear()
    assert export(ehr.request, phi, options=without).sealed.digest == second.sealed.digest
    assert ehr.seen == []


@pytest.mark.parametrize(
    "narrowed",
    [
        {"types": ("Observation",)},
        {"types": ("Observation",), "since": datetime(2000, 1, 1, tzinfo=UTC)},
    ],
    ids=["types", "since"],
)
def test_test_patients_are_known_from_the_landing_that_brought_them(
    start_ehr: Callable[..., Any], phi: Path, tmp_path: Path, narrowed: dict[str, Any]
) -> None:
    folder = tmp_path / "ward"
    folder.mkdir()
    test = {"system": "http://terminology.hl7.org/CodeSystem/v3-ActReason", "code": "HTEST"}
    rows: dict[str, list[dict[str, Any]]] = {
        "Patient": [
            {"resourceType": "Patient", "id": "real"},
            {"resourceType": "Patient", "id": "test", "meta": {"security": [test]}},
        ],
        "Observation": [
            {
                "resourceType": "Observation",
                "id": owner,
                "subject": {"reference": f"Patient/{owner}"},
            }
            for owner in ("real", "test")
        ],
    }
    for name, resources in rows.items():
        lines = b"".join(json.dumps(resource).encode() + b"\n" for resource in resources)
        (folder / f"{name}.0001.ndjson.gz").write_bytes(gzip.compress(lines))
    ehr = start_ehr(folder=folder)
    alone = export(replace(ehr.request, **narrowed), tmp_path / "alone" / "phi")
    assert alone.rows() == {"Observation": 2}
    export(ehr.request, phi)
    known = export(replace(ehr.request, **narrowed), phi)
    assert known.rows() == {"Observation": 1}
    assert known.excluded == {"test-patient": 1}
    again = export(replace(ehr.request, **narrowed), phi, fresh=True)
    assert again.sealed.digest == known.sealed.digest
