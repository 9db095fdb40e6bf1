"""Where each file of an export is to be had: URLs expire, and the manifest is asked for again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from threading import Lock

from exports.bulk.manifest import ExportManifest, RemoteFile

Renew = Callable[[], ExportManifest]


class Whereabouts:
    """The newest URLs; safe in many threads, of which one at a time asks for the manifest."""

    def __init__(self, manifest: ExportManifest, renew: Renew) -> None:
        self._renew = renew
        self._lock = Lock()
        self._edition = -1
        self._take(manifest)

    def find(self, remote: RemoteFile) -> tuple[RemoteFile, bool, int]:
        """Where `remote` is now, whether it takes the token, and the edition that says so."""
        with self._lock:
            named = self._by_name.get((remote.kind, remote.stem), remote)
            if (named.count, named.size) != (remote.count, remote.size):
                # The files come in another order now: a place in it tells nothing.
                named = remote
            current = self._by_address.get(self.address(remote), named)
            return current, self._with_token, self._edition

    def address(self, remote: RemoteFile) -> str:
        """What of its URL tells a file from the others: all but the query, if that is enough."""
        return remote.url if remote.identity in self._shared else remote.identity

    def renew(self, edition: int) -> None:
        """Ask for the manifest again, unless a later edition than the one that failed is here."""
        with self._lock:
            if self._edition == edition:
                self._take(self._renew())

    def _take(self, manifest: ExportManifest) -> None:
        self._by_name = {(file.kind, file.stem): file for file in manifest.files}
        paths = Counter(file.identity for file in manifest.files)
        self._shared = {path for path, files in paths.items() if files > 1}
        self._by_address = {self.address(file): file for file in manifest.files}
        self._with_token = manifest.with_token
        self._edition += 1
