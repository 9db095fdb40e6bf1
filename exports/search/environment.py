"""Where fhir-kindling lives: in an environment of its own, made at set-up."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

from exports.errors import FhirloomError

NAMED_BY: Final = "FHIRLOOM_SEARCH_PYTHON"
FOLDER: Final = ".venv-search"


def search_python() -> Path:
    """The interpreter that has fhir-kindling: the one that the environment names, or the one that
    `make setup` puts beside this interpreter's own environment.

    Raises `FhirloomError` (bad-input) where there is none.
    """
    named = os.environ.get(NAMED_BY, "")
    python = Path(named) if named else Path(sys.prefix).parent / FOLDER / "bin" / "python"
    if not python.is_file():
        raise FhirloomError(
            "bad-input",
            "The environment that searches run in isn't there",
            where=NAMED_BY if named else FOLDER,
            fix=f"Run `make setup`, or name its interpreter in {NAMED_BY}.",
        )
    return python
