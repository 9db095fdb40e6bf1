"""The kick-off of an export, and what to do where the server will not have it as it is.

Source: FHIR Bulk Data Access STU1 to STU4, "Bulk Data Kick-off Request". `handling=lenient` is
never asked for: a parameter that is passed over in silence widens the export.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

import httpx
import orjson

from exports.bulk.capability import Capability
from exports.bulk.manifest import absolute_url
from exports.bulk.parameters import FORMATS, HARMLESS, LEAST_HARM_FIRST, Asked, Method, asked_of
from exports.bulk.polling import PollPace
from exports.bulk.profile import Parameter, Profile
from exports.bulk.refusal import EVERY_STATUS, Refusal, refusal_of
from exports.connection.session import Session
from exports.errors import FhirloomError
from exports.landing.export_log import EventLog
from exports.landing.narrowing import Narrowing
from exports.progress import Progress, silent
from exports.request import ExportRequest, Level

WHAT: Final = "the export's kick-off"
FHIR_JSON: Final = "application/fhir+json"
HEADERS: Final = {"Accept": FHIR_JSON, "Prefer": "respond-async", "Cache-Control": "no-cache"}
"""Without the last of them, some servers answer an export with an earlier one of the same."""
NO_SUCH: Final = frozenset({400, 404, 405, 501})
"""With any of these servers say that they have no such operation."""
OBJECTIONS: Final = frozenset({400, 406, 412, 415, 422, 501})
LEVELS: Final[Mapping[Level, str]] = {
    "patient": "--level patient",
    "system": "--level system",
    "group": "--group ID",
}
"""How each level is asked for."""
ALWAYS_SEARCHED: Final = frozenset({"_id", "_lastUpdated"})
SETTLED: Final = frozenset(
    {"security", "login", "unknown", "expired", "forbidden", "suppressed", "not-found"}
)
"""Issue codes that no other parameters will change."""


@dataclass(frozen=True)
class KickOff:
    """A job that a server accepted; `dropped` are the parameters that it would not take."""

    status_url: str
    dropped: tuple[Parameter, ...] = ()


class Starter:
    """Starts one export at one server; `pace` is how a busy server is waited for."""

    def __init__(
        self,
        session: Session,
        request: ExportRequest,
        profile: Profile,
        capability: Capability,
        pace: PollPace,
        log: EventLog,
        *,
        allow_wider: bool,
        progress: Progress = silent,
    ) -> None:
        self._session = session
        self._request = request
        self._profile = profile
        self._capability = capability
        self._pace = pace
        self._log = log
        self._allow_wider = allow_wider
        self._progress = progress

    def start(self) -> KickOff:
        """Start it. Raises `FhirloomError` (server) where no job was started.

        A parameter that the server rejects is left out where that changes no record, or where
        `allow_wider` says so; it is then the caller who applies it.
        """
        wanted = asked_of(self._request, self._profile, repeated=self._capability.post_only)
        asked = wanted
        for parameter in LEAST_HARM_FIRST:
            if parameter in wanted.values and parameter in self._profile.rejects:
                asked = self._leave_out(asked, parameter, None)
        answer = self._ask(asked)
        while isinstance(answer, Refusal):
            narrower = self._without_what_is_named(asked, answer)
            if narrower is None:
                asked, answer = self._search(asked, answer)
            else:
                asked, answer = narrower, self._ask(narrower)
        dropped = tuple(
            name for name in LEAST_HARM_FIRST if name in wanted.values.keys() - asked.values.keys()
        )
        return KickOff(answer, dropped)

    def _without_what_is_named(self, asked: Asked, refusal: Refusal) -> Asked | None:
        """The same without what the server objects to; None where it doesn't say to what."""
        if not _is_objection(refusal):
            raise refusal.error(self._advice(refusal))
        if _names(refusal, "_outputFormat") and asked.format != FORMATS[-1]:
            return replace(asked, format=FORMATS[FORMATS.index(asked.format) + 1])
        for parameter in LEAST_HARM_FIRST:
            if parameter in asked.values and _names(refusal, parameter):
                return self._leave_out(asked, parameter, refusal)
        return None

    def _leave_out(self, asked: Asked, parameter: Parameter, refusal: Refusal | None) -> Asked:
        if parameter in HARMLESS or self._allow_wider:
            # What can't be applied here must not be left out: this raises for such a filter.
            Narrowing.of_dropped(self._request, [parameter])
            return asked.without(parameter)
        status = "" if refusal is None else f": {refusal.told}"
        unlisted = self._unlisted() if parameter == "_typeFilter" else ()
        hint = f"It does not list {', '.join(unlisted)} among its searches. " if unlisted else ""
        raise FhirloomError(
            "server",
            f"The server does not take {parameter}{status}",
            where=WHAT,
            fix=f"{hint}Ask without it, or allow a wider export with --allow-wider: what was asked"
            " for is then applied here, before anything is kept.",
        )

    def _search(self, asked: Asked, refusal: Refusal) -> tuple[Asked, str]:
        """Find out by leaving things out. Raises `FhirloomError` (server)."""
        if self._allow_wider:
            Narrowing.of_dropped(self._request, asked.values.keys())
        for candidate in _candidates(asked, self._allow_wider):
            answer = self._ask(candidate)
            if isinstance(answer, str):
                return candidate, answer
        suspects = [name for name in LEAST_HARM_FIRST if name in asked.values.keys() - HARMLESS]
        if suspects and not self._allow_wider:
            raise refusal.error(
                f"It may object to {' or '.join(suspects)}: ask without, or allow a wider export"
                " with --allow-wider, and fhirloom finds out and applies it here."
            )
        raise refusal.error(self._advice(refusal))

    def _ask(self, asked: Asked) -> str | Refusal:
        """The job's status URL, or why there is none; a server that is busy is waited for."""
        methods: tuple[Method, ...] = ("POST", "GET") if asked.by_post else ("GET", "POST")
        first = self._ask_by(methods[0], asked)
        if isinstance(first, str) or not _is_about_method(first):
            return first
        if "patient" in asked.values:
            # By GET, `patient` is not defined: a server would pass over it in silence.
            return replace(first, status=400, words="'patient'")
        second = self._ask_by(methods[1], asked)
        return first if isinstance(second, Refusal) and _is_about_method(second) else second

    def _ask_by(self, method: Method, asked: Asked) -> str | Refusal:
        began, attempts = time.monotonic(), 0
        while True:
            response = self._send(method, asked)
            location = _location(response, self._request.base)
            refusal = None if location else refusal_of(response, WHAT)
            self._tell(method, asked, response, refusal)
            if refusal is not None and refusal.status == 401:
                raise refusal.error(self._session.remedy(response))
            if refusal is None:
                return location
            if response.is_success:
                raise FhirloomError(
                    "server",
                    f"The server answered {response.status_code} and started no job",
                    where=WHAT,
                    fix="Check that the server supports Bulk Data export at this level.",
                )
            if not refusal.passes:
                return refusal
            if time.monotonic() - began > self._pace.outage:
                raise refusal.error(self._busy())
            self._progress(attempts + 1, None, "times the server was busy")
            time.sleep(self._pace.pause(response, attempts))
            attempts += 1

    def _send(self, method: Method, asked: Asked) -> httpx.Response:
        if method == "GET":
            return self._session.send(
                "GET", asked.with_query, what=WHAT, headers=HEADERS, answers=EVERY_STATUS
            )
        return self._session.send(
            "POST",
            asked.url,
            what=WHAT,
            headers={**HEADERS, "Content-Type": FHIR_JSON},
            content=orjson.dumps(asked.resource),
            answers=EVERY_STATUS,
        )

    def _tell(
        self, method: Method, asked: Asked, response: httpx.Response, refusal: Refusal | None
    ) -> None:
        self._log.event(
            "kickoff",
            {
                "exportUrl": asked.with_query if method == "GET" else asked.url,
                "errorCode": None if refusal is None else refusal.status,
                "errorBody": None if refusal is None else refusal.body,
                "softwareName": self._capability.software or None,
                "softwareVersion": self._capability.version or None,
                "softwareReleaseDate": self._capability.released or None,
                "fhirVersion": self._capability.fhir_version or None,
                "requestParameters": asked.told,
                "responseHeaders": {
                    name: response.headers[name]
                    for name in ("content-location", "retry-after", "x-request-id")
                    if name in response.headers
                },
            },
        )

    def _unlisted(self) -> list[str]:
        """Parameters of type filters that the server does not search by, where it says by which."""
        by_type = self._capability.search_parameters
        found: dict[str, None] = {}
        for search in self._request.type_filters:
            kind, _, query = search.partition("?")
            for pair in query.split("&"):
                name = re.split(r"[=:.]", pair)[0]
                if by_type.get(kind) and name not in {*by_type[kind], *ALWAYS_SEARCHED}:
                    found[f"{kind}.{name}"] = None
        return list(found)

    def _busy(self) -> str:
        rule = f"{self._profile.title} runs" if self._profile.one_job else "Many servers run"
        return (
            f"{rule} one export of a client at a time: wait for the one that is running, or end it"
            " with `fhirloom export cancel`."
        )

    def _advice(self, refusal: Refusal) -> str:
        offered, level = self._capability.levels, self._request.level
        if offered is not None and level not in offered:
            how = " or ".join(LEVELS[other] for other in sorted(offered))
            return (
                f"The server says that it exports by {' and '.join(sorted(offered))} only:"
                f" ask with {how}."
            )
        if refusal.status == 404 and level == "group":
            return "Check the group's id, and that the server's URL is its FHIR base."
        if offered is None and refusal.status in NO_SUCH:
            others = " or ".join(how for other, how in LEVELS.items() if other != level)
            return (
                "Check that the server's URL is its FHIR base; where it has no export by"
                f" {level}, ask with {others}."
            )
        if lacking := self._session.unreadable(self._request.types):
            return f"The token's scopes leave out {', '.join(lacking)}: ask without, or for more."
        if unlisted := self._unlisted():
            return f"The server does not list the search parameters {', '.join(unlisted)}."
        return "Check the request, and what this client may read on that server."


def _candidates(asked: Asked, allow_wider: bool) -> Iterator[Asked]:
    """Variants of what is asked for, the least different first."""
    given = [name for name in LEAST_HARM_FIRST if name in asked.values]
    yield from (replace(asked, format=other) for other in FORMATS if other != asked.format)
    if not asked.repeated:
        # As STU4 has it, which knows neither GET nor commas.
        yield replace(asked, repeated=True)
    free = given if allow_wider else [name for name in given if name in HARMLESS]
    yield from (asked.without(name) for name in free)
    yield from (asked.without(*free[:count]) for count in range(2, len(free) + 1))


def _location(response: httpx.Response, base: str) -> str:
    """The status URL in an answer, "" where there is none."""
    headers = response.headers
    location = headers.get("content-location", "") or headers.get("location", "")
    if response.is_success and location:
        with suppress(ValueError):
            return absolute_url(base, location)
    return ""


def _is_objection(refusal: Refusal) -> bool:
    return refusal.status in OBJECTIONS and not SETTLED & refusal.codes


def _is_about_method(refusal: Refusal) -> bool:
    return refusal.status in (405, 414) or (
        refusal.status == 404 and "not-found" not in refusal.codes
    )


def _names(refusal: Refusal, parameter: str) -> bool:
    """Whether the server's words name a parameter (`patient` is a word they may have anyhow)."""
    if parameter == "patient":
        return bool(re.search(r"['\"`]patient['\"`]|parameter\W+patient\b", refusal.words))
    return bool(re.search(rf"(?<!\w){parameter}(?!\w)", refusal.words, re.IGNORECASE))
