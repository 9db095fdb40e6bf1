"""One request, told as each server wants it; nothing is asked for more widely unless allowed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from exports.access import OPEN
from exports.bulk.capability import UNKNOWN, Capability
from exports.bulk.kickoff import KickOff, Starter
from exports.bulk.parameters import FORMATS, LEAST_HARM_FIRST, asked_of
from exports.bulk.polling import PollPace
from exports.bulk.profile import Profile, load_profile
from exports.connection.session import open_session
from exports.connection.transport import Patience
from exports.errors import FhirloomError
from exports.landing.export_log import NO_LOG
from exports.progress import Progress, silent
from exports.request import ExportRequest
from tests.exports.scripted import Answer, Asked, Script, accepted, outcome, serving

HASTE = PollPace(floor=0.0, ceiling=0.01, first=0.001, outage=0.2)
TIME = datetime(2026, 1, 1, tzinfo=UTC)
SECRET = "Jane Roe, MRN 123"  # noqa: S105 - a name, as servers write them
GENERIC = load_profile("generic")
WIDE: dict[str, Any] = {
    "types": ("Patient", "Observation"),
    "since": TIME,
    "until": TIME.replace(month=2),
    "type_filters": ("Observation?code=a,b", "Observation?category=laboratory"),
    "elements": ("status", "Observation.code"),
    "associated_data": ("LatestProvenanceResources",),
}


@pytest.fixture
def server() -> Iterator[Script]:
    with serving() as script:
        script.answer = lambda asked: accepted()
        yield script


def request_of(server: Script, **more: Any) -> ExportRequest:
    return ExportRequest(server.base, **more)


def start(
    server: Script,
    request: ExportRequest,
    profile: Profile = GENERIC,
    capability: Capability = UNKNOWN,
    *,
    allow_wider: bool = False,
    log: Any = NO_LOG,
    progress: Progress = silent,
) -> KickOff:
    with open_session(server.base, OPEN, Patience(0)) as session:
        return Starter(
            session,
            request,
            profile,
            capability,
            HASTE,
            log,
            allow_wider=allow_wider,
            progress=progress,
        ).start()


def rejecting(*names: str, say: bool = True, status: int = 400) -> Callable[[Asked], Answer]:
    """A server that rejects these parameters, one at a time, and may say which."""

    def answer(asked: Asked) -> Answer:
        wrong = [name for name in names if name in asked.names]
        if not wrong:
            return accepted()
        words = f"{SECRET}: the parameter '{wrong[0]}' is not supported" if say else SECRET
        return outcome(status, "not-supported", words)

    return answer


def test_everything_goes_into_one_query(server: Script) -> None:
    started = start(server, request_of(server, **WIDE))
    assert started == KickOff(f"{server.root}/job")
    (asked,) = server.seen
    assert (asked.method, asked.path) == ("GET", "/fhir/$export")
    assert asked.headers["prefer"] == "respond-async"
    assert asked.headers["accept"] == "application/fhir+json"
    assert asked.query == [
        ("_outputFormat", "application/fhir+ndjson"),
        ("_type", "Patient,Observation"),
        ("_since", "2026-01-01T00:00:00+00:00"),
        ("_until", "2026-02-01T00:00:00+00:00"),
        ("_typeFilter", "Observation?code=a,b"),
        ("_typeFilter", "Observation?category=laboratory"),
        ("_elements", "status,Observation.code"),
        ("includeAssociatedData", "LatestProvenanceResources"),
    ]


def test_patients_go_by_post_and_so_does_what_is_too_long_for_a_url(server: Script) -> None:
    start(server, request_of(server, level="patient", patients=("1", "2"), since=TIME))
    (asked,) = server.seen
    assert (asked.method, asked.path, asked.query) == ("POST", "/fhir/Patient/$export", [])
    assert asked.headers["content-type"] == "application/fhir+json"
    assert orjson.loads(asked.body) == {
        "resourceType": "Parameters",
        "parameter": [
            {"name": "_outputFormat", "valueString": "application/fhir+ndjson"},
            {"name": "_since", "valueInstant": "2026-01-01T00:00:00+00:00"},
            {"name": "patient", "valueReference": {"reference": "Patient/1"}},
            {"name": "patient", "valueReference": {"reference": "Patient/2"}},
        ],
    }
    server.seen.clear()
    filters = tuple(f"Observation?code={number:0>20}" for number in range(60))
    start(server, request_of(server, type_filters=filters, partial_manifests=True))
    (asked,) = server.seen
    assert asked.method == "POST"
    assert len([name for name, _ in asked.parameters if name == "_typeFilter"]) == 60
    assert ("allowPartialManifests", True) in asked.parameters


def test_stu4_wants_post_and_repetition(server: Script) -> None:
    start(server, request_of(server, **WIDE), capability=Capability(bulk_version="STU4"))
    (asked,) = server.seen
    assert asked.method == "POST"
    assert [value for name, value in asked.parameters if name == "_type"] == [
        "Patient",
        "Observation",
    ]


def test_commas_as_a_vendor_wants_them() -> None:
    request = ExportRequest(
        "https://ehr.example/fhir",
        types=("Patient", "Group"),
        type_filters=("Observation?code=a,b", "Observation?status=final"),
    )
    epic = asked_of(request, load_profile("epic"), repeated=False)
    assert epic.told["_typeFilter"] == "Observation?code=a%2Cb,Observation?status=final"
    assert "%252C" in epic.with_query
    assert epic.with_query.count("_typeFilter=") == 1
    repeating = replace(GENERIC, lists="repeat")
    assert asked_of(request, repeating, repeated=False).with_query.count("_type=") == 2


@given(
    st.lists(st.sampled_from(["Patient", "Observation", "Condition"]), unique=True),
    st.lists(st.sampled_from(["Observation?code=a,b", "Condition?x=1&y=é|2"]), unique=True),
    st.sampled_from(["", "1", "a.b-c"]),
)
def test_query_and_resource_say_the_same(types: list[str], filters: list[str], who: str) -> None:
    request = ExportRequest(
        "https://ehr.example/fhir",
        level="patient",
        types=tuple(types),
        type_filters=tuple(filters),
        patients=(who,) if who else (),
    )
    asked = asked_of(request, GENERIC, repeated=False)
    head, _, tail = asked.with_query.partition("?")
    by_query = Asked("GET", head, parse_qsl(tail), {}, b"")
    by_body = Asked("POST", head, [], {}, orjson.dumps(asked.resource))
    assert by_query.parameters == by_body.parameters


@pytest.mark.parametrize("answer", [accepted(), accepted(status=200), accepted(header="Location")])
def test_a_job_may_be_accepted_in_other_ways(server: Script, answer: Answer) -> None:
    server.answer = lambda asked: answer
    assert start(server, request_of(server)).status_url == f"{server.root}/job"


def test_a_success_without_a_job_is_told(server: Script) -> None:
    server.answer = lambda asked: Answer(200, {})
    with pytest.raises(FhirloomError, match="started no job"):
        start(server, request_of(server))


@pytest.mark.parametrize("status", [400, 422, 501])
def test_a_rejected_parameter_is_named_and_nothing_wider_is_asked(
    server: Script, status: int
) -> None:
    server.answer = rejecting("_typeFilter", status=status)
    with pytest.raises(FhirloomError, match="_typeFilter") as raised:
        start(server, request_of(server, **WIDE))
    assert raised.value.code == "server"
    assert "--allow-wider" in raised.value.fix
    assert SECRET not in str(raised.value)
    assert len(server.seen) == 1


@pytest.mark.parametrize("say", [True, False])
@pytest.mark.parametrize(
    "names",
    [("_elements",), ("_typeFilter",), ("_since",), ("_type",), ("_until", "_typeFilter")],
    ids="+".join,
)
def test_with_leave_what_is_rejected_is_dropped_and_nothing_else(
    server: Script, names: tuple[str, ...], say: bool
) -> None:
    server.answer = rejecting(*names, say=say)
    started = start(server, request_of(server, **WIDE), allow_wider=True)
    if say or len(names) == 1:
        assert set(started.dropped) == set(names)
    assert set(names) <= set(started.dropped)
    kept = server.seen[-1].names
    assert kept == set(server.seen[0].names) - set(started.dropped)


def test_without_a_word_of_the_server_the_suspects_are_named(server: Script) -> None:
    server.answer = rejecting("_until", say=False)
    with pytest.raises(FhirloomError, match="400 \\(error: not-supported\\)") as raised:
        start(server, request_of(server, **WIDE))
    assert "_elements or _until" in raised.value.fix
    assert all({"_until", "_type"} <= asked.names for asked in server.seen)


def test_what_changes_no_record_is_dropped_without_asking(server: Script) -> None:
    server.answer = rejecting("organizeOutputBy", "allowPartialManifests")
    request = request_of(server, organize_by="Patient", partial_manifests=True, types=("Patient",))
    started = start(server, request)
    assert started.dropped == ("allowPartialManifests", "organizeOutputBy")
    assert server.seen[-1].names == {"_outputFormat", "_type"}


@pytest.mark.parametrize("say", [True, False])
@pytest.mark.parametrize("known", [{"ndjson"}, {""}])
def test_a_server_of_another_output_format_is_asked_in_its_own(
    server: Script, known: set[str], say: bool
) -> None:
    def answer(asked: Asked) -> Answer:
        told = dict(asked.parameters).get("_outputFormat", "")
        words = "The value of _outputFormat is unknown" if say else ""
        return accepted() if told in known else outcome(400, "invalid", words)

    server.answer = answer
    started = start(server, request_of(server, types=("Patient",)))
    assert started.dropped == ()
    assert server.seen[-1].names >= {"_type"}


def test_a_filter_that_can_t_be_applied_here_is_not_dropped(server: Script) -> None:
    server.answer = rejecting("_typeFilter")
    request = request_of(server, type_filters=("Observation?subject.organization.name=x",))
    with pytest.raises(FhirloomError) as raised:
        start(server, request, allow_wider=True)
    assert raised.value.code == "bad-input"
    assert len(server.seen) == 1


def test_what_a_vendor_is_known_to_reject_is_not_even_asked(server: Script) -> None:
    request = request_of(server, level="group", group_id="g", elements=("status",))
    with pytest.raises(FhirloomError, match="_elements"):
        start(server, request, load_profile("epic"))
    assert server.seen == []
    started = start(server, request, load_profile("epic"), allow_wider=True)
    assert started.dropped == ("_elements",)
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("refusal", "told"),
    [
        (outcome(401, "login", SECRET), "401 \\(error: login\\)"),
        (outcome(403, "forbidden", SECRET), "403 \\(error: forbidden\\)"),
        (outcome(400, "security", f"_type {SECRET}"), "400 \\(error: security\\)"),
        (outcome(404, "not-found", SECRET), "404 \\(error: not-found\\)"),
        (outcome(500, "exception", SECRET), "500 \\(error: exception\\)"),
    ],
)
def test_a_lasting_refusal_is_asked_for_once(server: Script, refusal: Answer, told: str) -> None:
    server.answer = lambda asked: refusal
    with pytest.raises(FhirloomError, match=told) as raised:
        start(server, request_of(server, **WIDE), allow_wider=True)
    assert raised.value.code == "server"
    assert SECRET not in str(raised.value)
    assert len(server.seen) == 1


def test_a_server_that_is_busy_is_waited_for_and_not_for_ever(server: Script) -> None:
    busy = [Answer(429, headers={"Retry-After": "0"}), outcome(503, "throttled")]
    server.answer = lambda asked: busy.pop(0) if busy else accepted()
    heard: list[tuple[int, int | None, str]] = []
    progress = lambda *told: heard.append(told)  # noqa: E731 - a listener
    assert start(server, request_of(server), progress=progress).status_url
    assert len(server.seen) == 3
    assert [done for done, _, _ in heard] == [1, 2]
    server.answer = lambda asked: outcome(429, "throttled", SECRET)
    with pytest.raises(FhirloomError, match="429") as raised:
        start(server, request_of(server))
    assert "one export of a client at a time" in raised.value.fix


@pytest.mark.parametrize(
    "refusal", [Answer(405), Answer(414), outcome(404, "not-supported"), Answer(404)]
)
def test_the_other_method_is_tried(server: Script, refusal: Answer) -> None:
    server.answer = lambda asked: refusal if asked.method == "GET" else accepted()
    assert start(server, request_of(server, types=("Patient",))).dropped == ()
    assert [asked.method for asked in server.seen] == ["GET", "POST"]
    assert server.seen[1].parameters == server.seen[0].parameters
    server.answer = lambda asked: refusal if asked.method == "POST" else accepted()
    server.seen.clear()
    start(server, request_of(server), capability=Capability(bulk_version="STU4"))
    assert [asked.method for asked in server.seen] == ["POST", "GET"]


def test_a_server_of_stu4_that_does_not_say_so_is_found_out(server: Script) -> None:
    def answer(asked: Asked) -> Answer:
        good = asked.method == "POST" and "Patient,Group" not in dict(asked.parameters).values()
        return accepted() if good else outcome(400, "invalid")

    server.answer = answer
    assert start(server, request_of(server, types=("Patient", "Group"))).dropped == ()


def test_patients_are_not_asked_for_by_get_where_nobody_would_read_them(server: Script) -> None:
    server.answer = lambda asked: Answer(405) if asked.method == "POST" else accepted()
    request = request_of(server, level="patient", patients=("1",), types=("Patient",))
    with pytest.raises(FhirloomError, match="patient") as raised:
        start(server, request)
    assert "--allow-wider" in raised.value.fix
    assert start(server, request, allow_wider=True).dropped == ("patient",)
    assert server.seen[-1].method == "GET"


def test_a_level_that_the_server_does_not_tell_of_is_in_the_advice(server: Script) -> None:
    server.answer = lambda asked: outcome(404, "not-found")
    with pytest.raises(FhirloomError) as raised:
        start(server, request_of(server), capability=Capability(levels=frozenset({"group"})))
    assert raised.value.fix == (
        "The server says that it exports by group only: ask with --group ID."
    )


def test_a_search_that_the_server_does_not_tell_of_is_in_the_advice(server: Script) -> None:
    listed = Capability(search_parameters={"Observation": frozenset({"code"})})
    filters = ("Observation?code=a&category:not=b&_id=1", "Condition?code=c")
    server.answer = rejecting("_typeFilter")
    with pytest.raises(FhirloomError) as raised:
        start(server, request_of(server, type_filters=filters), capability=listed)
    assert raised.value.fix.startswith("It does not list Observation.category among")


def test_the_log_tells_each_attempt(server: Script) -> None:
    told: list[tuple[str, Any]] = []

    class Log:
        def event(self, name: str, detail: Any) -> None:
            told.append((name, detail))

    server.answer = rejecting("_until")
    start(
        server,
        request_of(server, **WIDE),
        capability=Capability(software="An EHR", fhir_version="4.0.1"),
        allow_wider=True,
        log=Log(),
    )
    (name, first), (_, second) = told
    assert name == "kickoff"
    assert (first["errorCode"], second["errorCode"]) == (400, None)
    assert SECRET in first["errorBody"]
    assert second["requestParameters"]["_type"] == "Patient,Observation"
    assert (second["softwareName"], second["softwareVersion"]) == ("An EHR", None)
    assert second["responseHeaders"] == {"content-location": "/job"}


def test_every_parameter_has_its_place_in_the_order_of_harm() -> None:
    everything = ExportRequest(
        "https://ehr.example/fhir",
        level="patient",
        patients=("1",),
        organize_by="Patient",
        partial_manifests=True,
        **WIDE,
    )
    assert set(asked_of(everything, GENERIC, repeated=False).values) == set(LEAST_HARM_FIRST)
    assert FORMATS[-1] == ""
