"""When a file is taken, when it is fetched again, and when that has been tried enough."""

from __future__ import annotations

from typing import Final, Literal

from exports.bulk.manifest import RemoteFile
from exports.download.fetching import Broken, Damaged, Refused
from exports.errors import FhirloomError
from exports.landing.delivery import Delivered
from exports.landing.judging import Judged

MOST: Final = 4
AGREEING: Final = 3
"""Equal deliveries after which what looks wrong is the server's error, and no damage."""
RENEWALS: Final = 2
WORTHWHILE: Final = 2**20
"""Bytes that a broken attempt must have gained, not to be counted as one."""
NOTHING: Final = frozenset({"not-json", "not-utf8", "not-object", "no-type"})
"""What all lines are of an answer that is no file of resources: a page, an error's JSON."""


class Attempts:
    """The attempts at one file; each method raises `FhirloomError` where there were enough."""

    def __init__(self, remote: RemoteFile) -> None:
        self._remote = remote
        self._refusals = 0
        self._last: Delivered | None = None
        self._alike = 0
        self.made = 0

    def damaged(self, damage: Damaged) -> None:
        """An attempt brought no whole file."""
        if not (isinstance(damage, Broken) and damage.gained >= WORTHWHILE):
            self._fail(
                "incomplete",
                f"A file arrived {MOST} times and never whole: {damage}",
                "Run again to continue; if it stays so, the server's own file is wrong.",
            )

    def refused(self, refusal: Refused) -> None:
        """The server doesn't give the file at the URL that the manifest names."""
        self._refusals += 1
        if self._refusals > RENEWALS:
            raise self._error(
                "server", str(refusal), "Run again with --fresh; the server's files are gone."
            )

    def too_busy(self) -> FhirloomError:
        """What to say where the server never stops being busy."""
        return self._error(
            "server", "The server stays busy", "Run again later: the export continues there."
        )

    def satisfied(self, delivered: Delivered) -> bool:
        """Whether to take this whole file: False to fetch it again, since it may be wrong.

        A count that differs from the manifest's, or where it has none, fewer bytes; an end in
        the middle of a line; a file without a single resource: they are believed once the same
        lines came three times.
        """
        judged = delivered.judged
        if self._is_something_else(judged):
            self._fail(
                "server",
                "The server sent something else instead of a file of resources",
                "Run again later; if it stays so, tell the server's operator.",
            )
            return False
        if not self._is_doubtful(delivered):
            return True
        alike = self._last is not None and self._last.judged == judged
        self._alike, self._last = self._alike + 1 if alike else 1, delivered
        if self._alike == AGREEING:
            return True
        self._fail(
            "incomplete",
            f"A file arrived {MOST} times, each time with other lines",
            "Run again to continue; if it stays so, the server's own file is wrong.",
        )
        return False

    def _is_something_else(self, judged: Judged) -> bool:
        wanted = self._remote.kind == "errors" or self._remote.type == "OperationOutcome"
        if judged.rows.keys() == {"OperationOutcome"} and not wanted:
            return True
        return bool(judged.bad) and not judged.rows and NOTHING.issuperset(judged.bad)

    def _is_doubtful(self, delivered: Delivered) -> bool:
        judged, count = delivered.judged, self._remote.count
        if judged.cut:
            return True
        if count is not None and count not in (judged.lines, judged.lines - judged.headers):
            return True
        if count is None and delivered.unpacked < (self._remote.size or 0):
            return not delivered.unwrapped
        return self._remote.kind == "files" and not judged.rows and count != 0

    def _fail(self, code: Literal["incomplete", "server"], what: str, fix: str) -> None:
        self.made += 1
        if self.made == MOST:
            raise self._error(code, what, fix)

    def _error(self, code: Literal["incomplete", "server"], what: str, fix: str) -> FhirloomError:
        return FhirloomError(code, what, where=self._remote.stem, fix=fix)
