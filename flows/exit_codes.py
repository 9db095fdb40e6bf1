"""What the `fhirloom` command answers to the shell, in one place."""

from __future__ import annotations

from typing import Final

from exports.errors import Code

COMPLETE: Final = 0
INTERNAL: Final = 1
USAGE: Final = 2  # click's own
NOT_TRAINED: Final = 3
FAILED_PROOF: Final = 4
BAD_INPUT: Final = 5
SERVER: Final = 6
UNSTATED: Final = 7
INTERRUPTED: Final = 130  # as shells have it

OF_ERROR: Final[dict[Code, int]] = {
    "bad-input": BAD_INPUT,
    "server": SERVER,
    "incomplete": SERVER,
    "proof-failed": FAILED_PROOF,
    "parity-failed": FAILED_PROOF,
    "internal": INTERNAL,
}

MEANINGS: Final[dict[int, str]] = {
    COMPLETE: "complete",
    INTERNAL: "a defect of fhirloom: the detail lies in WORK/phi/logs",
    USAGE: "usage: an unknown command or option",
    NOT_TRAINED: "complete, but no model trained: too few events or years",
    FAILED_PROOF: "a proof failed and nothing was released, or an attestation is broken",
    BAD_INPUT: "bad input: a file, a folder, a key or a setting is unusable",
    SERVER: "the FHIR server refused, or its rows did not all arrive",
    UNSTATED: "nobody has made the statement that the attestation was to have",
    INTERRUPTED: "stopped by Ctrl-C; the same command goes on from there",
}
