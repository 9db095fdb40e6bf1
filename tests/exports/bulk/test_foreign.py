"""What servers that others wrote do beside the protocol, and that it does no harm.

What is imitated here was read in the sources of the SMART bulk-data server, HAPI FHIR, the Helios
FHIR server and SEKMET.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exports.access import Access
from exports.bulk.export import export
from exports.bulk.manifest import read_manifest, with_partials
from exports.bulk.polling import PollPace
from exports.bulk.profile import load_profile
from exports.connection.transport import Patience
from exports.errors import FhirloomError
from exports.landing.reconcile import DEFAULT_POLICY, Policy
from exports.request import ExportRequest
from tests.exports.scripted import Answer, Asked, Script, accepted, outcome, serving

FAST = Patience(retries=1, first_wait=0.001, longest_wait=0.002)
SAME_FOR_ALL = PollPace(fixed=True)


@pytest.fixture
def server() -> Iterator[Script]:
    with serving() as script:
        yield script


@pytest.fixture
def bearer(tmp_path: Path) -> Access:
    file = tmp_path / "token"
    file.write_text("secret-token")
    return Access(bearer_file=file)


def asks_for(seconds: float) -> httpx.Response:
    return httpx.Response(202, headers={"Retry-After": str(seconds)})


def fail(request: ExportRequest, phi: Path) -> FhirloomError:
    with pytest.raises(FhirloomError) as raised:
        export(request, phi, patience=FAST)
    return raised.value


@given(st.floats(0.0, 2000.0), st.sampled_from([120, 600]))
def test_a_fixed_retry_after_costs_a_small_job_little_and_a_long_one_few_questions(
    job: float, asked: int
) -> None:
    waited, polls = 0.0, 0
    while waited < job:
        waited += SAME_FOR_ALL.between(asks_for(asked), polls, waited)
        polls += 1
    assert waited - job <= max(5.0, min(job, asked))
    assert polls <= 8 + job / asked


@given(st.floats(0.2, 5.0), st.floats(0.0, 1e6))
def test_a_short_pause_is_kept_to_the_letter(seconds: float, waited: float) -> None:
    answer = asks_for(round(seconds, 3))
    assert SAME_FOR_ALL.between(answer, 0, waited) == PollPace().pause(answer, 0)


def test_a_vendor_whose_pauses_mean_something_is_taken_at_its_word() -> None:
    fixed = {
        name: load_profile(name).fixed_retry_after
        for name in ("generic", "hapi", "epic", "oracle-health", "athenahealth")
    }
    assert fixed == {
        **dict.fromkeys(("generic", "hapi"), True),
        **dict.fromkeys(("epic", "oracle-health", "athenahealth"), False),
    }
    assert PollPace().between(asks_for(120), 0, 1.0) == 120


def test_an_export_is_a_new_one_where_the_server_would_give_an_old_one_again(
    server: Script, tmp_path: Path
) -> None:
    server.answer = lambda asked: Answer(400)
    fail(ExportRequest(server.base), tmp_path)
    (asked, *_) = server.asked("$export")
    assert asked.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("status", [400, 404, 501])
@pytest.mark.parametrize(
    ("level", "words"),
    [
        ({"level": "patient"}, "no export by patient, ask with --level system or --group ID"),
        ({"level": "system"}, "no export by system, ask with --level patient or --group ID"),
    ],
)
def test_where_nobody_tells_the_levels_the_others_are_named(
    server: Script, tmp_path: Path, status: int, level: Any, words: str
) -> None:
    server.answer = lambda asked: outcome(status, "processing", "does not know how to handle")
    error = fail(ExportRequest(server.base, **level), tmp_path)
    assert error.what == f"The server answered {status} (error: processing)"
    assert words in error.fix
    assert "FHIR base" in error.fix


def test_a_group_that_is_none(server: Script, tmp_path: Path) -> None:
    server.answer = lambda asked: outcome(404, "not-found")
    error = fail(ExportRequest(server.base, level="group", group_id="g"), tmp_path)
    assert error.fix.startswith("Check the group's id")


def test_a_server_that_wants_to_know_who_asks(server: Script, tmp_path: Path) -> None:
    server.answer = lambda asked: outcome(401, "login")
    error = fail(ExportRequest(server.base), tmp_path)
    assert error.what == "The server answered 401 (error: login)"
    assert error.fix == "Give a client id and key, a user, or a bearer file."


def elsewhere(server: Script) -> str:
    """The same server by another name, as it may call itself."""
    return server.root.replace("127.0.0.1", "localhost")


def open_only_by_its_own_name(server: Script) -> None:
    def answer(asked: Asked) -> Answer:
        if "$export" in asked.path:
            return accepted(f"{elsewhere(server)}/job")
        if asked.path == "/job" and "authorization" not in asked.headers:
            return outcome(401, "login")
        if asked.path == "/job":
            return Answer(200, {"transactionTime": "2026-01-01T00:00:00Z", "output": []})
        return Answer(404)

    server.answer = answer


def test_a_server_that_calls_itself_by_another_name_does_not_see_the_token_unasked(
    server: Script, tmp_path: Path, bearer: Access
) -> None:
    open_only_by_its_own_name(server)
    error = fail(ExportRequest(server.base, access=bearer), tmp_path / "phi")
    assert error.where == "the export's status"
    assert "give the server's URL by that name" in error.fix
    assert "--file-origin" in error.fix
    (job,) = server.asked("/job")
    assert "authorization" not in job.headers


def test_and_sees_it_where_the_operator_says_that_it_is_the_same(
    server: Script, tmp_path: Path, bearer: Access
) -> None:
    open_only_by_its_own_name(server)
    access = Access(bearer_file=bearer.bearer_file, file_origins=(elsewhere(server),))
    request = ExportRequest(server.base, access=access)
    zone = export(request, tmp_path / "phi", patience=FAST)
    assert zone.rows() == {}


def test_a_status_at_a_place_that_cannot_be_reached_is_told_soon(
    server: Script, tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        nowhere = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.answer = lambda asked: accepted(f"{nowhere}/job") if "$" in asked.path else Answer(404)
    error = fail(ExportRequest(server.base), tmp_path)
    assert "can't be reached" in error.what
    assert "public URL" in error.fix


def manifest_of(*files: str) -> dict[str, Any]:
    place = "https://ehr.example/fhir/$result?job=1&file="
    listed = [{"type": "Patient", "url": place + file} for file in files]
    return {"transactionTime": "2026-01-01T00:00:00Z", "output": listed}


def test_files_that_differ_in_their_query_alone_are_several() -> None:
    pages = with_partials([manifest_of("c", "d")], [manifest_of("a", "b"), manifest_of("b", "c")])
    files = read_manifest(pages, "https://ehr.example/fhir").files
    assert sorted(file.url[-1] for file in files) == ["a", "b", "c", "d"]
    assert len({file.stem for file in files}) == 4


def test_what_a_server_passed_over_is_a_warning() -> None:
    assert DEFAULT_POLICY.severity("outcome", "warning/not-supported") == "warning"
    assert DEFAULT_POLICY.severity("outcome", "warning/other") == "info"
    assert Policy.of("outcome=fail").severity("outcome", "information/not-supported") == "warning"
