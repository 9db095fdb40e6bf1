"""Which code de-identified: its hash as it is installed, its versions, and those of its engines."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from deid import extract, tables, vocabulary
from deid.identity import crosswalk
from exports.landing import zone
from exports.sealed import hash_file, hash_json

PACKAGE: Final = Path(__file__).parent.parent
PARTS: Final = frozenset({".py", ".json", ".j2"})
STAGES: Final = (zone, extract, crosswalk, vocabulary, tables)
ENGINES: Final = ("duckdb", "pyarrow")


def code_facts() -> dict[str, Any]:
    """`sha256` over every file of `deid/`, the versions of package, stages, engines and Python."""
    files = {
        path.relative_to(PACKAGE).as_posix(): hash_file(path)
        for path in sorted(PACKAGE.rglob("*"))
        if path.suffix in PARTS
    }
    return {
        "sha256": hash_json(files),
        "files": len(files),
        "fhirloom": version("fhirloom"),
        "python": platform.python_version(),
        "engines": {name: version(name) for name in ENGINES},
        "stages": {stage.__name__.rpartition(".")[2]: stage.VERSION for stage in STAGES},
    }
