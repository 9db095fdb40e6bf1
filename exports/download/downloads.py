"""All files of an export, each whole or the export ends: in parallel, and never twice.

Source: FHIR Bulk Data Access STU2, "File Requests". A file that was completed once is on the disk
and recorded; whatever stops the process, the next one goes on from there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from exports.bulk.manifest import ExportManifest, RemoteFile
from exports.connection.session import Session
from exports.connection.transport import Patience
from exports.download.attempts import Attempts
from exports.download.crew import work_off
from exports.download.disk import check_space, telling_when_full
from exports.download.expiring import Renew, Whereabouts
from exports.download.fetching import Busy, Damaged, Refused, fetch
from exports.download.pace import Pace
from exports.download.partial import Partial
from exports.download.receipts import Receipts
from exports.download.wrapped import unwrap
from exports.landing.delivery import Delivered, take
from exports.landing.export_log import EventLog
from exports.progress import Progress, silent
from exports.sealed import hash_file

ITEM_TYPES: Final[Mapping[str, str]] = {"files": "output", "errors": "error", "deleted": "deleted"}


@dataclass(frozen=True)
class Downloaded:
    """A file that is whole, on the disk at `path`, the hashes of its ids at `identities`."""

    remote: RemoteFile
    path: Path
    delivered: Delivered

    @property
    def identities(self) -> Path:
        """What `exports.landing.identities.repeated` compares."""
        return self.path.with_name(f"{self.path.name}.ids")


def download_all(
    session: Session,
    manifest: ExportManifest,
    folder: Path,
    *,
    patience: Patience,
    progress: Progress = silent,
    log: EventLog,
    renew: Renew,
    parallel: int = 4,
) -> list[Downloaded]:
    """Fetch every file of `manifest` into `folder/<kind>`, unless an earlier run has.

    At most `parallel` at once, fewer while the server says that it is too much. A file that
    arrives damaged is fetched again, three times at most, from where it broke if the server can
    do that; `renew` gets the manifest anew when URLs have expired. Where whole files disagree
    with the manifest's counts, they are returned: whoever reconciles decides.

    Raises `FhirloomError`: `incomplete` where a file never arrives whole, `server` where the
    server refuses it or gives something else instead, `bad-input` where the disk is too small.
    What has arrived stays for the next run.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    pace, where = Pace(parallel, patience), Whereabouts(manifest, renew)
    snapshot = manifest.transaction_time.isoformat()
    downloads = _Downloads(session, folder, snapshot, patience, log, pace, where)
    kept = {file: found for file in manifest.files if (found := downloads.kept(file))}
    missing = [file for file in manifest.files if file not in kept]
    check_space(folder, missing)
    progress(len(kept), len(manifest.files), "files")
    missing.sort(key=lambda file: -(file.size or file.count or 0))
    with closing(work_off(downloads.bring, missing, parallel, pace.stop)) as arriving:
        for found in arriving:
            kept[found.remote] = found
            progress(len(kept), len(manifest.files), "files")
    return [kept[file] for file in manifest.files]


class _Downloads:
    """What the threads of one export share."""

    def __init__(
        self,
        session: Session,
        folder: Path,
        snapshot: str,
        patience: Patience,
        log: EventLog,
        pace: Pace,
        where: Whereabouts,
    ) -> None:
        self._session = session
        self._folder = folder
        self._snapshot = snapshot
        self._patience = patience
        self._log = log
        self._pace = pace
        self._where = where
        self._receipts = Receipts(folder)

    def kept(self, remote: RemoteFile) -> Downloaded | None:
        """The file as an earlier run has recorded it, or None."""
        record = self._receipts.get(f"{remote.kind}/{remote.stem}")
        if record is None or self._where.address(remote) not in record["urls"]:
            return None
        if record.get("snapshot") != self._snapshot:
            # A job that the server ran anew may give other files under the same URLs.
            return None
        delivered = Delivered.from_json(record["delivered"])
        found = Downloaded(remote, self._path(remote, delivered), delivered)
        if not found.path.is_file() or found.path.stat().st_size != delivered.bytes:
            return None
        if not found.identities.is_file() or hash_file(found.identities) != delivered.identities:
            # No fsync waits for the hashes: they can be made again.
            take((), found.path, stored=delivered.bytes, identities=found.identities)
        return found

    def bring(self, remote: RemoteFile) -> Downloaded:
        """Fetch one file until it is whole, and record it."""
        target = self._folder / remote.kind
        target.mkdir(mode=0o700, exist_ok=True)
        partial, attempts = Partial(target, remote.stem), Attempts(remote)
        with telling_when_full(remote.stem):
            while True:
                found = self._try(remote, partial, attempts)
                if found is not None:
                    return found

    def _try(self, remote: RemoteFile, partial: Partial, attempts: Attempts) -> Downloaded | None:
        current, with_token, edition = self._where.find(remote)
        self._tell("download_request", current, resourceType=remote.type)
        try:
            with self._pace.turn():
                delivered = fetch(
                    self._session, current, partial, with_token=with_token, pace=self._pace
                )
                delivered = unwrap(partial, delivered, remote.type)
        except (Busy, Refused, Damaged) as failure:
            self._tell("download_error", current, message=str(failure))
            if isinstance(failure, Refused):
                attempts.refused(failure)
                self._where.renew(edition)
            elif isinstance(failure, Damaged):
                attempts.damaged(failure)
                self._pace.wait(self._patience.wait(attempts.made))
            elif not self._pace.slow_down(failure.seconds):
                raise attempts.too_busy() from None
            return None
        self._pace.succeeded()
        if not attempts.satisfied(delivered):
            self._tell("download_error", current, message="It is not what the manifest promises")
            partial.discard()
            self._pace.wait(self._patience.wait(attempts.made))
            return None
        counted = sum(delivered.judged.rows.values())
        self._tell("download_complete", current, resourceCount=counted, fileSize=delivered.unpacked)
        return self._keep(remote, current, partial, delivered)

    def _keep(
        self, remote: RemoteFile, current: RemoteFile, partial: Partial, delivered: Delivered
    ) -> Downloaded:
        found = Downloaded(remote, self._path(remote, delivered), delivered)
        with partial.path.open("rb") as file:
            os.fsync(file.fileno())
        partial.keep_as(found.path, found.identities)
        record = {
            "urls": sorted({self._where.address(remote), self._where.address(current)}),
            "snapshot": self._snapshot,
            "delivered": delivered.to_json(),
        }
        self._receipts.add(f"{remote.kind}/{remote.stem}", record)
        return found

    def _path(self, remote: RemoteFile, delivered: Delivered) -> Path:
        return self._folder / remote.kind / (remote.stem + delivered.suffix)

    def _tell(self, event: str, remote: RemoteFile, **detail: Any) -> None:
        told = {"fileUrl": remote.identity, "itemType": ITEM_TYPES[remote.kind], **detail}
        self._log.event(event, told)
