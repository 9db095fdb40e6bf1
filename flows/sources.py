"""Where the landing zone comes from: the sandbox EHR, a real server, or a folder."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exports.errors import FhirloomError
from exports.progress import Progress
from flows.server import AUTO, ServerSettings
from flows.settings import Settings
from flows.work import Work

if TYPE_CHECKING:
    from exports.landing.screening import Screen
    from exports.landing.zone import LandingZone
    from exports.options import ExportOptions
    from exports.request import ExportRequest

IDENTIFIER: Final = "Patient.identifier"


def land(settings: Settings, work: Work, progress: Progress) -> LandingZone:
    """Land the patients that the settings name in `phi/landing`."""
    if settings.server is not None:
        return _from_server(settings, settings.server, work, progress)
    if settings.ndjson:
        return _from_folder(settings, work, progress)
    return _from_sandbox(settings, work, progress)


def request_of(settings: Settings, asked: ServerSettings) -> ExportRequest:
    """What the server is asked: all that is named, or the minimum that the study needs.

    Types and elements that are named are asked for beside the minimum, the types whole; filters
    of its own a user names without it. Raises `FhirloomError` (bad-input).
    """
    request = asked.request
    told_apart = (IDENTIFIER,) if settings.leave_out else ()
    if not asked.minimum:
        of_patients = {element.rpartition(".")[0] for element in request.elements} & {"", "Patient"}
        missing = of_patients and IDENTIFIER not in request.elements
        return replace(request, elements=(*request.elements, *told_apart)) if missing else request
    from deid.rules import load_rules
    from features.necessary import necessary
    from flows import study

    rules = load_rules(policy=settings.privacy)
    needed = necessary(study.task(settings), study.features(settings), rules)
    widened = needed.widened(types=request.types, elements=(*request.elements, *told_apart))
    filters = {
        "type_filters": tuple(sorted({*widened.type_filters, *request.type_filters})),
    }
    return replace(request, **(asdict(widened) | filters))


def options_of(
    settings: Settings, asked: ServerSettings, removed: frozenset[str] = frozenset()
) -> ExportOptions:
    """How the server is asked, and who is not landed; raises `FhirloomError` (bad-input)."""
    from exports.landing.reconcile import Policy
    from exports.options import ExportOptions

    return ExportOptions(
        fresh=asked.fresh,
        vendor=asked.vendor,
        edition=asked.edition,
        allow_wider=asked.allow_wider,
        parallel=asked.parallel,
        policy=Policy.of(asked.policy),
        screen=screen_of(settings, removed),
    )


def check_recognisable(request: ExportRequest, screen: Screen) -> None:
    """Refuse a request by which those who opted out would not be known by their identifiers.

    These stand in a Patient, so every one has to come. Raises `FhirloomError` (bad-input).
    """
    typed = not request.types or "Patient" in request.types
    filtered = any(search.startswith("Patient?") for search in request.type_filters)
    bounded = request.since is not None or request.until is not None
    if any("|" in listed for listed in screen.opted_out) and (filtered or bounded or not typed):
        raise FhirloomError(
            "bad-input",
            "Patients to leave out can't be known by identifier: their own records need not come",
            where="--leave-out",
            fix="List logical ids; or ask for Patient too, without a filter or bounds of time.",
        )


def _from_server(
    settings: Settings, asked: ServerSettings, work: Work, progress: Progress
) -> LandingZone:
    request, options = request_of(settings, asked), options_of(settings, asked, _removed(work))
    check_recognisable(request, options.screen)
    if asked.method == "search":
        from exports.search.source import search

        return search(request, work.phi, options=options, progress=progress)
    if asked.since == AUTO:
        from exports.increments.increment import export_increment

        return export_increment(
            request, work.phi, options=options, progress=progress, full_every=asked.full_interval
        )
    from exports.bulk.export import export

    return export(request, work.phi, options=options, progress=progress)


def _from_sandbox(settings: Settings, work: Work, progress: Progress) -> LandingZone:
    from exports.access import Access
    from exports.bulk.export import export
    from exports.options import ExportOptions
    from exports.request import ExportRequest
    from exports.sandbox.population import Hospital
    from exports.sandbox.server import running_sandbox

    hospital, truth = Hospital(settings.seed, settings.patients), work.truth(settings)
    with running_sandbox(hospital, truth, data=work.sandbox) as ehr:
        request = ExportRequest(ehr.base_url, Access(ehr.client_id, ehr.key))
        options = ExportOptions(screen=screen_of(settings, _removed(work)))
        return export(request, work.phi, options=options, progress=progress)


def _from_folder(settings: Settings, work: Work, progress: Progress) -> LandingZone:
    from exports.landing.sieve import Sieve
    from exports.landing.zone import land_folder

    return land_folder(
        Path(settings.ndjson),
        work.phi,
        transaction_time=settings.exported,
        sieve=Sieve(screen_of(settings, _removed(work))),
        progress=progress,
    )


def screen_of(settings: Settings, removed: frozenset[str] = frozenset()) -> Screen:
    """Whom and what the settings leave out; of `removed` patients also those with logical ids."""
    from exports.landing.screening import Screen

    screen = Screen.of(
        test_patients=not settings.keep_test_patients,
        patients_file=Path(settings.leave_out) if settings.leave_out else None,
        labels=settings.labels,
    )
    # Their orders name every logical id: an identifier would have to be asked of the server.
    logical = frozenset(listed for listed in removed if "|" not in listed)
    return replace(screen, opted_out=screen.opted_out | logical)


def _removed(work: Work) -> frozenset[str]:
    from deid.identity.orders import removed_at_landing

    return removed_at_landing(work.phi)
