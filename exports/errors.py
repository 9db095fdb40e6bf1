"""The one error that may cross a stage: it says what, where and the fix, and holds no value."""

from __future__ import annotations

import errno
import traceback
import uuid
from pathlib import Path
from typing import Final, Literal

Code = Literal[
    "bad-input",  # what the user gave is unusable: a file, a folder, a key, a setting
    "server",  # the FHIR server refused, or answered what the protocol does not allow
    "incomplete",  # rows that the server counted did not arrive
    "proof-failed",  # a de-identification proof did not hold: nothing was released
    "parity-failed",  # the exported graph and the native model disagree
    "internal",  # a defect of ours: the detail lies in phi/logs under `ref`
]

CODES: Final[tuple[Code, ...]] = (
    "bad-input",
    "server",
    "incomplete",
    "proof-failed",
    "parity-failed",
    "internal",
)


NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What the system calls a full disk, a used-up quota and a file that may not grow."""


class FhirloomError(Exception):
    """A failure told without any patient's value.

    `where` names a file, a stage, a column or a URL path; `fix` is the next thing to do; `ref`
    finds the full detail in `phi/logs`, which is the only place that may hold values.
    """

    def __init__(self, code: Code, what: str, *, where: str, fix: str, ref: str = "") -> None:
        self.code: Code = code
        self.what = what
        self.where = where
        self.fix = fix
        self.ref = ref
        super().__init__(what)

    @property
    def facts(self) -> dict[str, str]:
        """The error as JSON tells it."""
        return {
            "code": self.code,
            "what": self.what,
            "where": self.where,
            "fix": self.fix,
            "ref": self.ref,
        }

    def __str__(self) -> str:
        detail = f" (detail: phi/logs/{self.ref}.log)" if self.ref else ""
        return f"{self.what}, in {self.where}. {self.fix}{detail}"


def value_free(error: Exception, *, stage: str, phi: Path) -> FhirloomError:
    """Turn any exception into a `FhirloomError`, its detail kept in `phi/logs` alone."""
    if isinstance(error, FhirloomError):
        return error
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        return FhirloomError(
            "bad-input",
            "There is no room on the disk",
            where=stage,
            fix="Free some space, then run again: it goes on from there.",
        )
    ref = f"{stage}-{uuid.uuid4().hex[:8]}"
    logs = phi / "logs"
    logs.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = logs / f"{ref}.log"
    log.touch(mode=0o600)
    log.write_text("".join(traceback.format_exception(error)))
    return FhirloomError(
        "internal",
        f"{type(error).__name__} in stage {stage}",
        where=stage,
        fix="Read the detail, and report it without patient data.",
        ref=ref,
    )
