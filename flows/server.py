"""What is asked of a real server, and the way to it, as the command line and a schedule keep it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from exports.errors import FhirloomError

if TYPE_CHECKING:
    from exports.access import Access
    from exports.options import Edition
    from exports.request import ExportRequest, Level

AUTO: Final = "auto"
"""A `since` that continues from the last sealed export of the same server, level and client."""
FILES: Final = ("key", "password_file", "bearer_file", "ca", "certificate", "certificate_key")


@dataclass(frozen=True)
class ServerSettings:
    """One server, what is asked of it and as whom; names of files, never a secret.

    `since` is an ISO instant with zone or `auto`; `minimum` asks for no more than the task and the
    features in use need, `types` added; `allow_wider` takes more from a server that rejects a
    narrowing parameter, and narrows here; `method` is Bulk Data or FHIR search; `full_every` (days)
    is how often a server that reports no deletions is exported whole; `proxy` is a URL, or the name
    of a file that holds it where there is a password in it; the rest is as in
    `exports.request.ExportRequest` and `exports.access.Access`.
    """

    url: str
    method: Literal["bulk", "search"] = "bulk"
    level: Level = "patient"
    group: str = ""
    types: tuple[str, ...] = ()
    since: str = ""
    until: str = ""
    type_filters: tuple[str, ...] = ()
    elements: tuple[str, ...] = ()
    patient_ids: tuple[str, ...] = ()
    associated_data: tuple[str, ...] = ()
    organize_by: str = ""
    partial_manifests: bool = False
    minimum: bool = False
    allow_wider: bool = False
    fresh: bool = False
    full_every: int = 30
    vendor: str = ""
    edition: Edition = ""
    parallel: int = 4
    policy: str = ""
    client_id: str = ""
    key: str = ""
    scopes: tuple[str, ...] = ()
    token_url: str = ""
    user: str = ""
    password_file: str = ""
    bearer_file: str = ""
    proxy: str = field(default="", repr=False)
    ca: str = ""
    certificate: str = ""
    certificate_key: str = ""
    plain_http: bool = False
    file_origins: tuple[str, ...] = ()

    @property
    def access(self) -> Access:
        """The way to the server; raises `FhirloomError` (bad-input)."""
        from exports.access import Access

        return Access(
            client_id=self.client_id,
            key=_path(self.key),
            scopes=self.scopes,
            token_url=self.token_url,
            user=self.user,
            password_file=_path(self.password_file),
            bearer_file=_path(self.bearer_file),
            proxy=_proxy(self.proxy),
            ca=_path(self.ca),
            certificate=_path(self.certificate),
            certificate_key=_path(self.certificate_key),
            plain_http=self.plain_http,
            file_origins=self.file_origins,
        )

    @property
    def request(self) -> ExportRequest:
        """What is asked, before the minimum is worked out; raises `FhirloomError` (bad-input)."""
        from exports.request import ExportRequest

        return ExportRequest(
            server=self.url,
            access=self.access,
            level="group" if self.group else self.level,
            group_id=self.group,
            types=self.types,
            since=None if self.since == AUTO else instant(self.since, "--since"),
            until=instant(self.until, "--until"),
            type_filters=self.type_filters,
            elements=self.elements,
            patients=self.patient_ids,
            associated_data=self.associated_data,
            organize_by=self.organize_by,
            partial_manifests=self.partial_manifests,
        )

    @property
    def full_interval(self) -> timedelta:
        """How often a server that reports no deletions is exported whole."""
        return timedelta(days=self.full_every)


def instant(written: str, option: str) -> datetime | None:
    """An ISO instant with zone, None for ""; raises `FhirloomError` (bad-input)."""
    if not written:
        return None
    try:
        read = datetime.fromisoformat(written)
    except ValueError:
        read = None
    if read is None or read.tzinfo is None:
        raise FhirloomError(
            "bad-input",
            "That is no instant with a zone",
            where=option,
            fix="Write it like 2026-01-31T02:00:00+00:00.",
        )
    return read


def _proxy(given: str) -> str:
    """The proxy's URL. Raises `FhirloomError` (bad-input) for a password that everybody can see."""
    if given and "://" not in given:
        from exports.connection.login import read_secret

        return read_secret(Path(given), "--proxy").strip()
    if "@" in given:
        raise FhirloomError(
            "bad-input",
            "A password on the command line is seen by all who use this machine",
            where="--proxy",
            fix="Write the proxy's URL into a file, and name that.",
        )
    return given


def _path(name: str) -> Path | None:
    return Path(name) if name else None
