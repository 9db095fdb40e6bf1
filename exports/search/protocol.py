"""What is said between this process and the one that searches: a JSON object a line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from exports.connection.login import Login
from exports.connection.outcomes import ISSUE_CODES
from exports.errors import Code, FhirloomError

NOT_OFFERED: Final = frozenset({403, 404, 405, 501})
NOT_UNDERSTOOD: Final = frozenset({400, 414, 422})


class _Nobody:
    def authorization(self) -> str:
        """No header."""
        return ""

    def refused(self, authorization: str) -> None:
        """Nothing to forget."""


NOBODY: Final[Login] = _Nobody()
"""Who asks a server that asks nobody who they are."""


@dataclass(frozen=True)
class Way:
    """How the server is reached; paths of PEM files, "" for what is not used."""

    base: str
    proxy: str = ""
    ca: str = ""
    certificate: str = ""
    certificate_key: str = ""


@dataclass(frozen=True)
class Query:
    """A FHIR search of one type; `parameters` are (name, value) as FHIR has them, not quoted."""

    type: str
    parameters: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Answer:
    """What a search brought.

    `rows` are lines in its file, `matches` the distinct resources of the type asked for, `total`
    the server's own count (None: it told none), `unasked` what came along and was not kept.
    `date` is the server's clock when it began (an HTTP date), "" where it told none.
    """

    rows: int
    matches: int
    unasked: int
    pages: int
    total: int | None
    date: str


class Refused(Exception):  # noqa: N818 - an answer, told where the question is known
    """The server's answer to a query is no; `trouble` says why."""

    def __init__(self, trouble: Mapping[str, Any]) -> None:
        super().__init__()
        self.trouble = trouble

    @property
    def status(self) -> int:
        """The HTTP status, or 0 where there was no answer to have one."""
        return int(self.trouble.get("status", 0))

    @property
    def disowns(self) -> bool:
        """Whether the server says that it has no such search, rather than that it failed."""
        unknown = self.status in NOT_UNDERSTOOD and self.trouble.get("code") == "not-supported"
        return unknown or self.status in NOT_OFFERED

    def told(self, resource_type: str) -> FhirloomError:
        """The error to end with."""
        what, fix = _WORDS.get(self.trouble["kind"], _WORDS["defect"])
        if self.trouble["kind"] == "status":
            code = self.trouble.get("code", "")
            code = code if code in ISSUE_CODES else ""
            what = f"The server answered {self.status}" + (f" ({code})" if code else "")
        if self.status in NOT_UNDERSTOOD:
            fix = (
                "Leave out what narrows this type, or give a type filter that the server asks for, "
                f"like `{resource_type}?category=...`."
            )
        kind: Code = "internal" if self.trouble["kind"] == "defect" else "server"
        return FhirloomError(kind, what, where=f"the search for {resource_type}", fix=fix)


_CONTINUES: Final = "then run again: the export continues where it stopped."
_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "status": ("", "Check what this client may read on that server, " + _CONTINUES),
    "unreachable": ("The server can't be reached", "Check its address, " + _CONTINUES),
    "damaged": (
        "The server's answers are no search results, or don't arrive whole",
        "Check that its URL is the FHIR base, " + _CONTINUES,
    ),
    "foreign-page": (
        "The next page lies on another server, which must not see this one's token",
        "Have the server's operator set its public address.",
    ),
    "endless": (
        "The server's next page is one that it gave before",
        "Tell the server's operator: its paging never ends.",
    ),
    "defect": (
        "The search broke off",
        "Read phi/logs/search.log, and report it without patient data.",
    ),
}
