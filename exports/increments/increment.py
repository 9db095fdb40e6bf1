"""An export that goes on where the last one ended, and gives the whole again.

Source: FHIR Bulk Data Access STU2, "Query Parameters" (`_since`) and "Complete Status"
(`transactionTime`, `deleted`). A step is made of exports, each in the step's own folder: stopped at
any moment and run again, it goes on with what is on the disk, and ends with the same zone.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import orjson

from exports.bulk.export import DEFAULT_PATIENCE, Cancelled, cancel, export
from exports.bulk.job import FOLDER as JOBS
from exports.bulk.job import JobRecord
from exports.connection.transport import Patience
from exports.errors import FhirloomError
from exports.increments.drift import measure_drift
from exports.increments.merge import merge
from exports.increments.series import Part, Series, Step
from exports.increments.standing import Delivery
from exports.increments.terms import Plan, of_types, plan, terms_of
from exports.increments.versions import good_lines, place
from exports.landing.zone import LandingZone, find_landing
from exports.options import DEFAULT_OPTIONS, ExportOptions
from exports.progress import Progress, silent
from exports.request import ExportRequest
from exports.sealed import open_sealed

FULL_EVERY: Final = timedelta(days=30)


def export_increment(
    request: ExportRequest,
    phi: Path,
    *,
    options: ExportOptions = DEFAULT_OPTIONS,
    patience: Patience = DEFAULT_PATIENCE,
    progress: Progress = silent,
    full_every: timedelta | None = FULL_EVERY,
) -> LandingZone:
    """Export what changed since the last such export, and make the merged whole the current zone.

    The first time that is a full export; one that the same request made before is gone on with.
    Types, filters and elements that were not asked for by the last step are fetched whole, and so
    are patients who joined the group; those who left take their records along. Where the server
    does not tell deletions, or a filter hides what no longer matches it, a full export is made
    `full_every` (by the server's clock; None: never): the next steps go on from it, and how far
    the merge had strayed is kept in the series. `options.fresh` makes one now. What was delivered
    is kept; of the merged zones only this one and the one before it are.

    Raises `FhirloomError` as `bulk.export.export` does; `server` where the server's clock went
    back, `bad-input` for a request with bounds of time.
    """
    if request.since is not None or request.until is not None:
        raise FhirloomError(
            "bad-input",
            "An export that goes on by itself has no bounds of time",
            where="since",
            fix="Leave them out, or ask for that time alone.",
        )
    series = Series(phi, request)
    with series.alone():
        run = _Run(request, phi, series, options, patience, progress, full_every)
        begun, steps = series.begun, series.steps()
        if steps:
            return run.go_on(steps)
        adopted = not begun and not options.fresh and _is_landed(request, phi)
        if not (begun or adopted):
            # From here on, a full export that lies there is the one that this series began with.
            series.record([])
        first, zone = run.begin()
        series.record([first])
        return run.go_on([first]) if adopted else zone


def cancel_increment(
    request: ExportRequest, phi: Path, *, patience: Patience = DEFAULT_PATIENCE
) -> Cancelled:
    """Give up the unfinished job of the step that is under way, as `bulk.export.cancel` does.

    What the step has sealed stays, and the next run goes on with it.
    """
    series = Series(phi, request)
    with series.alone():
        folder = series.folder(len(series.steps()))
        asked = _under_way(folder, request)
        if asked is None:
            # The first step's export is one of its own.
            return cancel(request, phi, patience=patience)
        return cancel(asked, folder, patience=patience)


def _under_way(folder: Path, request: ExportRequest) -> ExportRequest | None:
    """The request of a job in a step's folder that has not ended."""
    for path in sorted((folder / JOBS).glob("*.json")):
        job = orjson.loads(path.read_bytes())
        if not job["landing"]:
            asked = dict(job["request"])
            times = {name: asked.pop(name) for name in ("since", "until")}
            bounds = {name: time and datetime.fromisoformat(time) for name, time in times.items()}
            lists = {name: tuple(told) for name, told in asked.items() if isinstance(told, list)}
            return replace(request, **{**asked, **bounds, **lists})
    return None


@dataclass(frozen=True)
class _Run:
    """One step of a series."""

    request: ExportRequest
    phi: Path
    series: Series
    options: ExportOptions
    patience: Patience
    progress: Progress
    full_every: timedelta | None

    def begin(self) -> tuple[Step, LandingZone]:
        """The first step: a full export, which becomes the current zone as it is."""
        # Asked for before the export: who joins in between is taken for new by the next step.
        members = None if self._tells_members else self._members(0)
        zone = export(
            self.request,
            self.phi,
            options=self.options,
            patience=self.patience,
            progress=self.progress,
        )
        if self._has_members:
            known = frozenset(self.request.patients) or _patients(zone)
            self.series.keep_members(0, known if members is None else members)
        return self._step([self.series.part(zone, since=None, whole=None)], zone), zone

    def go_on(self, steps: Sequence[Step]) -> LandingZone:
        """The next step, merged with those before it."""
        number, last = len(steps), steps[-1]
        earlier = [part for step in steps for part in step.parts]
        known = self.series.deliveries(earlier)
        todo = plan(last.asked, terms_of(self.request, self.options.screen))
        if known is None or todo.full or self.options.fresh:
            self._note_members(number)
            parts = [self._anew(number)]
        else:
            parts = self._changes(number, last, known, todo)
        zone = merge(
            self.phi,
            self._sealed([*earlier, *parts]),
            types=self.request.types,
            as_of=parts[0].time,
            progress=self.progress,
        )
        done = [*steps, self._step(parts, zone)]
        self.series.record(done)
        self._clear_away(done)
        return zone

    def _clear_away(self, steps: Sequence[Step]) -> None:
        """Remove merged zones, but for the last two: they can be made again, and fill the disk."""
        kept = {step.landing for step in steps[-2:]}
        for name in {step.landing for step in steps[:-2]} - kept:
            merged = open_sealed(self.phi / "landing" / name)
            if merged is not None and merged.facts["source"] == "merged":
                shutil.rmtree(merged.path)

    def _changes(
        self, number: int, last: Step, known: Sequence[Delivery], todo: Plan
    ) -> list[Part]:
        """What changed, and what is new; or all of it, where that is not enough."""
        request, types = self.request, self.request.types
        continued = of_types(request, set(types) - todo.fresh) if types else request
        zone = self._ask(replace(continued, since=last.time), number, known)
        joined, left = self._note_members(number)
        changes = self.series.part(zone, since=last.as_of, whole=(), left=left)
        if changes.time < last.time:
            shutil.rmtree(self.series.folder(number))
            raise FhirloomError(
                "server",
                "The server's time of this export lies before that of the last one",
                where="the export's manifest",
                fix="Have the server's clock checked, or export everything anew.",
            )
        parts = [changes]
        if todo.fresh:
            whole = self._ask(of_types(request, todo.fresh), number, known)
            parts.append(self.series.part(whole, since=None, whole=tuple(sorted(todo.fresh))))
        if joined:
            try:
                theirs = self._ask(replace(request, patients=joined), number, known)
            except FhirloomError as refused:
                if refused.code != "server":
                    raise
                return [self._anew(number)]
            told = _patients(theirs) | theirs.excluded_patients().keys()
            if self._tells_members and not told.issuperset(joined):
                # Whoever is not fetched now would be taken for known by all later steps.
                return [self._anew(number)]
            parts.append(self.series.part(theirs, since=None, whole=()))
        if self._is_due(known, changes):
            return [self._measured(number, known, parts)]
        return parts

    def _is_due(self, known: Sequence[Delivery], changes: Part) -> bool:
        """Whether it is time to see how far the merge has strayed, if it can stray."""
        deletions = changes.deletions or any(part.zone.deleted_reported for part in known)
        began = known[0].zone.transaction_time
        if (
            self.full_every is None
            or began is None
            or (deletions and not self.request.type_filters)
        ):
            return False
        return changes.time - began >= self.full_every

    def _measured(self, number: int, known: Sequence[Delivery], parts: Sequence[Part]) -> Part:
        full = self._anew(number)
        drift = measure_drift(
            self.phi,
            [*known, *self._sealed(parts)],
            self._sealed([full]),
            types=self.request.types,
            as_of=parts[0].time,
            progress=self.progress,
        )
        self.series.keep_drift(
            number,
            {
                "as_of": parts[0].transaction_time,
                "full": full.transaction_time,
                "types": {name: asdict(strayed) for name, strayed in drift.items()},
            },
        )
        return full

    def _sealed(self, parts: Sequence[Part]) -> list[Delivery]:
        deliveries = self.series.deliveries(parts)
        if deliveries is None:
            raise FhirloomError(
                "internal",
                "A zone was gone before it could be merged",
                where="phi/series",
                fix="Run again, and let nothing else write to the work folder.",
            )
        return deliveries

    def _anew(self, number: int) -> Part:
        return self.series.part(self._ask(self.request, number), since=None, whole=None)

    def _ask(
        self,
        request: ExportRequest,
        number: int,
        known: Sequence[Delivery] = (),
        *,
        allow_wider: bool = False,
    ) -> LandingZone:
        """An export into the step's folder; patients left out before are left out of it too."""
        out = {patient for part in known for patient in part.zone.excluded_patients()}
        screen = self.options.screen
        screen = replace(screen, opted_out=screen.opted_out | out)
        return export(
            request,
            self.series.folder(number),
            options=replace(
                self.options,
                fresh=False,
                screen=screen,
                allow_wider=allow_wider or self.options.allow_wider,
            ),
            patience=self.patience,
            progress=self.progress,
        )

    @property
    def _tells_members(self) -> bool:
        """Whether every patient of whom something is asked for is delivered too."""
        asked = not self.request.types or "Patient" in self.request.types
        return asked and not any(
            search.startswith("Patient?") for search in self.request.type_filters
        )

    @property
    def _has_members(self) -> bool:
        return self.request.level == "group" or bool(self.request.patients)

    def _note_members(self, number: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Who joined and who left since the step before; who belongs now is kept."""
        if not self._has_members:
            return (), ()
        before, now = self.series.members(number - 1), self._members(number)
        self.series.keep_members(number, now)
        return tuple(sorted(now - before)), tuple(sorted(before - now))

    def _members(self, number: int) -> frozenset[str]:
        """The patients asked for by name, or else those of the group: their ids alone."""
        if self.request.patients or not self._has_members:
            return frozenset(self.request.patients)
        light = replace(
            of_types(self.request, ["Patient"]),
            elements=("id",),
            type_filters=(),
            associated_data=(),
        )
        # What the server sends beyond the ids is taken away here, and never kept.
        return _patients(self._ask(light, number, allow_wider=True))

    def _step(self, parts: Sequence[Part], zone: LandingZone) -> Step:
        asked = terms_of(self.request, self.options.screen)
        return Step(tuple(parts), asked, parts[0].transaction_time, zone.sealed.path.name)


def _patients(zone: LandingZone) -> frozenset[str]:
    return frozenset(
        place(line)[1] for path in zone.paths("Patient") for _, _, line in good_lines(path)
    )


def _is_landed(request: ExportRequest, phi: Path) -> bool:
    job = JobRecord(phi, request).read()
    return job is not None and bool(job.landing) and find_landing(phi, job.landing) is not None
