"""Where the landing zone comes from: the sandbox EHR, a real server, or a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from exports.progress import Progress
from flows.server import ServerSettings
from flows.settings import Settings
from flows.work import Work

if TYPE_CHECKING:
    from exports.landing import LandingZone


def land(settings: Settings, work: Work, progress: Progress) -> LandingZone:
    """Land the patients that the settings name in `phi/landing`."""
    if settings.server is not None:
        return _from_server(settings.server, work, progress)
    if settings.ndjson:
        return _from_folder(settings, work, progress)
    return _from_sandbox(settings, work, progress)


def _from_sandbox(settings: Settings, work: Work, progress: Progress) -> LandingZone:
    from exports.access import Access
    from exports.bulk import export
    from exports.request import ExportRequest
    from exports.sandbox.population import Hospital
    from exports.sandbox.server import running_sandbox

    hospital, truth = Hospital(settings.seed, settings.patients), work.truth(settings)
    with running_sandbox(hospital, truth, data=work.sandbox) as ehr:
        request = ExportRequest(ehr.base_url, Access(ehr.client_id, ehr.key))
        return export(request, work.phi, progress=progress)


def _from_server(asked: ServerSettings, work: Work, progress: Progress) -> LandingZone:
    from exports.bulk import export

    return export(asked.request, work.phi, fresh=asked.fresh, progress=progress)


def _from_folder(settings: Settings, work: Work, progress: Progress) -> LandingZone:
    from exports.landing import land_folder

    folder, exported = Path(settings.ndjson), settings.exported
    return land_folder(folder, work.phi, transaction_time=exported, progress=progress)
