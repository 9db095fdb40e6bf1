"""An export by FHIR search: the patients of a group, or all, and what belongs to them, landed.

For a server without `$export`. Every search is reconciled with the server's own count; what
comes is kept as it is written. A search knows no snapshot: the transaction time is the server's
before the first search, so that a later export since then misses nothing. It knows no deletions.
"""

from __future__ import annotations

import os
import urllib.request
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Lock
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from exports.bulk.job import JobRecord
from exports.connection.origins import LOOPBACK
from exports.connection.session import open_session
from exports.connection.transport import Patience
from exports.landing.export_log import ExportLog
from exports.landing.reconcile import refuse
from exports.landing.zone import LandingZone, find_landing
from exports.options import DEFAULT_OPTIONS, ExportOptions
from exports.progress import Progress, silent
from exports.request import ExportRequest
from exports.search.cohort import make_plan
from exports.search.compartment import BY_PATIENT, OFFERED, REFERENCED, check_types
from exports.search.environment import search_python
from exports.search.parts import Parts, Plan
from exports.search.process import SearchProcess
from exports.search.protocol import NOBODY, Way
from exports.search.reading import BATCH, BY_ID, Lists, TypeReader, TypeSearch, references
from exports.search.zone import Reading, seal_parts

DEFAULT_PATIENCE: Final = Patience()


def search(
    request: ExportRequest,
    phi: Path,
    *,
    fresh: bool = False,
    options: ExportOptions = DEFAULT_OPTIONS,
    patience: Patience = DEFAULT_PATIENCE,
    progress: Progress = silent,
) -> LandingZone:
    """Read what `request` asks for into `phi/landing`, and make it the current landing zone.

    Without `types`, `compartment.OFFERED` is asked for, and what the server doesn't offer of it is
    a finding. The same request again gives the landing zone that it gave before, and continues a
    search that was stopped; `fresh` (here or in `options`) asks anew in both cases. Raises
    `FhirloomError`: `server` where it refuses, `incomplete` where resources that it counts don't
    arrive, `bad-input` for an unusable request, or without the environment of `make setup`.
    """
    check_types(request.types)
    python = search_python()
    phi.mkdir(mode=0o700, parents=True, exist_ok=True)
    parts = Parts(phi, request)
    with JobRecord(phi, request).alone():
        landing = parts.landing(options.screen.scope)
        if fresh or options.fresh or parts.has_landed:
            found = find_landing(phi, landing) if landing and not (fresh or options.fresh) else None
            if found is not None:
                refuse(found.findings, options.policy)
                return found
            parts.begin_anew()
        parts.sweep()
        plan = parts.plan()
        export_id = uuid.uuid4().hex[:16] if plan is None else plan.export_id
        log = ExportLog(phi, export_id)
        with ExitStack() as stack:
            session = stack.enter_context(
                open_session(request.base, request.access, patience, types=_scoped(request))
            )
            login, stop = session.login or NOBODY, Event()
            detail, way = phi / "logs" / "search.log", _way(request)

            def start() -> SearchProcess:
                process = SearchProcess(
                    python, way, login, patience=patience, detail=detail, stop=stop
                )
                return stack.enter_context(process)

            first = start()
            if plan is None:
                plan = make_plan(first, parts, request, export_id)
                parts.keep_plan(plan)
            log.event("kickoff", {"exportUrl": request.base, "requestParameters": request.scope})
            types = request.types or OFFERED
            others = [start() for _ in range(min(options.parallel, len(types)) - 1)]
            running = _Search(request, parts, [first, *others], stop, progress)
            offered = running.read(plan, types, may_widen=options.allow_wider)
        reading = Reading(plan, offered)
        return seal_parts(phi, request, parts, reading, options=options, progress=progress, log=log)


class _Search:
    def __init__(
        self,
        request: ExportRequest,
        parts: Parts,
        processes: Sequence[SearchProcess],
        stop: Event,
        progress: Progress,
    ) -> None:
        self._request = request
        self._parts = parts
        self._processes = processes
        self._stop = stop
        self._progress = progress
        self._lists = Lists()
        self._lock = Lock()
        self._done = self._due = 0

    def read(self, plan: Plan, types: Sequence[str], *, may_widen: bool) -> dict[str, bool]:
        """Read everything; of each type whether it is offered."""
        searches = [self._search_of(name, may_widen) for name in types if name in BY_PATIENT]
        self._due = len(searches) * -(-len(plan.patients) // BATCH)
        offered = dict(self._read_all(searches, plan))
        referenced = frozenset(types) & REFERENCED
        return offered | self._read_referenced(referenced, [s.type for s in searches])

    def _search_of(self, name: str, may_widen: bool) -> TypeSearch:
        bounds = [("gt", self._request.since), ("le", self._request.until)]
        updated = tuple(("_lastUpdated", f"{by}{at.isoformat()}") for by, at in bounds if at)
        filters = [
            tuple(parse_qsl(text.partition("?")[2], keep_blank_values=True))
            for text in self._request.type_filters
            if text.partition("?")[0] == name
        ]
        return TypeSearch(
            type=name,
            parameter=BY_PATIENT[name],
            variants=tuple((*found, *updated) for found in filters or [()]),
            required=name in self._request.types or name == "Patient",
            may_widen=may_widen and bool(filters or updated),
        )

    def _read_all(self, searches: Sequence[TypeSearch], plan: Plan) -> list[tuple[str, bool]]:
        idle: SimpleQueue[SearchProcess] = SimpleQueue()
        for process in self._processes:
            idle.put(process)

        def read(search: TypeSearch) -> tuple[str, bool]:
            process = idle.get()
            try:
                return search.type, self._reader(process).read(search, plan.patients)
            finally:
                idle.put(process)

        # The first batches, until one of them has shown whether the server takes lists.
        for search in searches:
            if self._lists.known(search.parameter) is None:
                self._reader(self._processes[0], told=False).read(search, plan.patients[:BATCH])
        with ThreadPoolExecutor(len(self._processes)) as pool:
            futures = [pool.submit(read, search) for search in searches]
            try:
                return [future.result() for future in as_completed(futures)]
            except BaseException:
                self._stop.set()
                for process in self._processes:
                    process.kill()
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _read_referenced(self, kinds: frozenset[str], read: Sequence[str]) -> dict[str, bool]:
        """Read what is referred to, and what that refers to, until nothing new is named."""
        offered: dict[str, bool] = {}
        known: set[tuple[str, str]] = set()
        numbers = dict.fromkeys(sorted(kinds), 0)
        paths = [path for name in read for path in self._parts.files(name)]
        reader = self._reader(self._processes[0])
        while kinds and paths:
            named = {found for path in paths for found in self._named(path, kinds)} - known
            known |= named
            paths = []
            for name, found in groupby(sorted(named), key=lambda pair: pair[0]):
                ids, first = [resource_id for _, resource_id in found], numbers[name]
                search = TypeSearch(name, BY_ID, required=name in self._request.types)
                numbers[name] += -(-len(ids) // BATCH)
                self._due += numbers[name] - first
                offered[name] = offered.get(name, True) and reader.read(search, ids, first)
                paths += self._parts.files(name)[first:]
        return offered

    def _reader(self, process: SearchProcess, *, told: bool = True) -> TypeReader:
        read = self._count if told else _nothing
        return TypeReader(process, self._parts, self._lists, self._stop, read)

    def _named(self, path: Path, kinds: frozenset[str]) -> set[tuple[str, str]]:
        return set(references(path, kinds, self._request.base))

    def _count(self) -> None:
        with self._lock:
            self._done += 1
            self._progress(self._done, self._due, "searches")


def _nothing() -> None:
    """Batches that are read again from the disk are told then."""


def _scoped(request: ExportRequest) -> tuple[str, ...]:
    """The types that a token has to open; none: all."""
    group = ("Group",) if request.level == "group" else ()
    return (*request.types, "Patient", *group) if request.types else ()


def _way(request: ExportRequest) -> Way:
    """The way that `connection.session` takes too: by the named proxy, or the environment's."""
    access, parts = request.access, urlsplit(request.base)
    proxy = access.proxy
    host = parts.hostname or ""
    if not proxy and host not in LOOPBACK and not urllib.request.proxy_bypass(host):
        proxy = urllib.request.getproxies().get(parts.scheme, "")
    paths = (access.ca, access.certificate, access.certificate_key)
    ca, certificate, key = ("" if path is None else str(path.absolute()) for path in paths)
    return Way(request.base, proxy, ca or os.environ.get("SSL_CERT_FILE", ""), certificate, key)
