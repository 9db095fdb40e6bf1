"""How a sandbox server behaves: which version it speaks, whom it lets in, what it gets wrong."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

Version = Literal["STU2", "STU3", "STU4"]
Login = Literal["smart", "basic", "bearer", "none"]
RELEASES: Final[Mapping[Version, str]] = {"STU2": "2.0.0", "STU3": "3.0.0", "STU4": "4.0.0-ballot"}


@dataclass(frozen=True)
class Manner:
    """The ways of one server.

    `version` is the Bulk Data Access release it speaks; `login` is how a client proves who it is;
    `token_seconds` is how long an access token is good, `retry_after` (seconds) what a client that
    polls is told to wait. Without `exports` there is FHIR search only. `one_job`: a second export
    is refused while one is being made. `page_files`: so many files on a page of a manifest, where
    the client allows pages (0: all). `rows_per_file` bounds the files made for a narrowed export.

    `faults` are names of `exports.sandbox.faults.FAULTS`. A passing fault strikes each URL once,
    or, where `rate` is given, each request with that probability, drawn from `seed`.
    """

    version: Version = "STU2"
    login: Login = "smart"
    token_seconds: int = 300
    retry_after: int = 1
    exports: bool = True
    one_job: bool = False
    page_files: int = 0
    rows_per_file: int = 50_000
    faults: tuple[str, ...] = ()
    rate: float | None = None
    seed: int = 0

    def to_json(self) -> str:
        """For a server in another process."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Manner:
        """From what `to_json` made."""
        read: dict[str, Any] = json.loads(text)
        return cls(**{**read, "faults": tuple(read["faults"])})


PLAIN: Final = Manner()
"""A server with no quirks."""
