"""`fhirloom run` with a stage that fails as a careless library would, quoting what it read.

`python failing_stage.py CANARY ARGUMENT...` runs `fhirloom ARGUMENT...`.
"""

from __future__ import annotations

import sys
from typing import NoReturn

import features.build
from flows.cli import main


class MalformedRecordError(ValueError):
    """What a parser might raise."""


def main_with_failure(canary: str, arguments: list[str]) -> None:
    def build(*_: object, **__: object) -> NoReturn:
        try:
            raise MalformedRecordError(f"cannot parse {canary!r}")
        except MalformedRecordError as error:
            raise RuntimeError(f"bad record: {canary}") from error

    features.build.build = build
    main(arguments)


if __name__ == "__main__":
    main_with_failure(sys.argv[1], sys.argv[2:])
