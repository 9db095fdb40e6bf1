"""The shape of the house: its rooms, the size of its modules, and which way imports run."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("deid", "exports", "features", "flows", "training")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
LONGEST_MODULE = 260
"""Lines of code: blank lines, comments and docstrings do not count."""


def code_lines(source: str) -> int:
    """Lines that hold code, docstrings left out."""
    tree = ast.parse(source)
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    prose: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, documented):
            for child in node.body:
                if isinstance(child, ast.Expr) and isinstance(child.value, ast.Constant):
                    prose |= set(range(child.lineno, (child.end_lineno or child.lineno) + 1))
    return sum(
        1
        for number, line in enumerate(source.splitlines(), start=1)
        if line.strip() and not line.strip().startswith("#") and number not in prose
    )


def test_the_rooms_are_there_and_no_others() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    folders = {name.split("/")[0] for name in tracked if "/" in name}
    assert folders == {*PACKAGES, ".ci", "docs", "notebooks", "tests"}
    assert {"pyproject.toml", "requirements.txt", "README.md", "Makefile"} <= set(tracked)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_is_one_concept_with_a_docstring(path: Path) -> None:
    source = path.read_text()
    assert ast.get_docstring(ast.parse(source)), "say what the module is for"
    assert code_lines(source) <= LONGEST_MODULE
    assert path.stem not in {"utils", "common", "helpers", "manager", "misc"}


def test_imports_run_one_way() -> None:
    """The contracts in pyproject.toml: the layers, Prefect's room, and MLflow's only door."""
    linted = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert linted.returncode == 0, linted.stdout


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_are_entered_by_their_modules(package: str) -> None:
    """An `__init__` that imports would make every command load what it does not need."""
    body = ast.parse((ROOT / package / "__init__.py").read_text()).body
    assert all(isinstance(node, ast.Expr) for node in body)
