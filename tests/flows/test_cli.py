from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from exports.errors import CODES, FhirloomError
from flows import cli, exit_codes
from flows.cli import main
from flows.exit_codes import BAD_INPUT
from flows.work import Work, at_work

Command = Callable[..., "subprocess.CompletedProcess[str]"]
HEAVY = {
    *("duckdb", "httpx", "matplotlib", "mlflow", "numpy", "onnx", "onnxruntime", "pandas"),
    *("prefect", "presidio_analyzer", "pyarrow", "rich", "sklearn", "starlette", "xgboost"),
}


def commands(group: click.Command, *path: str) -> list[tuple[str, ...]]:
    inner = group.commands if isinstance(group, click.Group) else {}
    return [path] + [
        each for name, command in inner.items() for each in commands(command, *path, name)
    ]


def invoke(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_help_of_every_command_loads_nothing_heavy() -> None:
    asked = [[*path, "--help"] for path in commands(main)]
    script = f"""
import sys
from flows.cli import main
from flows.exit_codes import BAD_INPUT
from flows.work import Work, at_work
for arguments in {asked!r}:
    main(arguments, standalone_mode=False)
print("LOADED", *sorted({HEAVY!r} & sys.modules.keys()))
"""
    shown = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert shown.count("Usage:") == len(asked)
    assert shown.splitlines()[-1] == "LOADED"


def test_every_exit_code_is_told_by_the_help() -> None:
    shown = invoke("--help").output
    for code, meaning in exit_codes.MEANINGS.items():
        assert f"{code}  {meaning}" in shown
    assert set(exit_codes.OF_ERROR) == set(CODES)
    assert set(exit_codes.OF_ERROR.values()) <= set(exit_codes.MEANINGS)


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", "--ndjson", "there", "--server", "https://ehr.example/fhir"),
        ("run", "--group", "g1"),
        ("export", "--ndjson", "there", "--seed", "0"),
        ("run", "--patients", "0"),
        ("score", "--at", "2026-01-31T14:00:00"),
        ("fly",),
    ],
)
def test_a_misused_command_is_a_usage_error(
    arguments: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = invoke(*arguments)
    assert found.exit_code == exit_codes.USAGE
    assert "Usage:" in found.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "where"),
    [
        (("run", "--ndjson", "absent"), "--ndjson"),
        (("export", "--server", "ftp://ehr.example"), "server"),
        (("export", "--server", "https://ehr.example", "--group", "a/b"), "group"),
        (("export", "--server", "https://ehr.example", "--client-id", "me"), "client id"),
        (
            ("run", "--server", "https://ehr.example", "--client-id", "me", "--key", "absent"),
            "--key",
        ),
        (("export", "--ndjson", ".", "--exported-at", "2026-01-31"), "--exported-at"),
        (("schedule", "--cron", "at night"), "--cron"),
        (("deid", "--work", "new"), "phi/landing"),
        (("features", "build", "--work", "new"), "phi/settings.json"),
        (("train", "--work", "new"), "settings.json"),
        (("score", "--bundle", ".", "--prefetch", "absent", "--at", "2026-01-31"), "--prefetch"),
        (("score", "--bundle", ".", "--prefetch", "absent", "--at", "now"), "--at"),
    ],
)
def test_bad_input_is_told_in_a_line_with_what_where_and_fix(
    arguments: tuple[str, ...], where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = invoke(*arguments)
    assert found.exit_code == exit_codes.BAD_INPUT, found.stderr
    told = found.stderr.splitlines()[-1]
    assert told.startswith("fhirloom: ")
    assert where in told
    assert "Traceback" not in found.stderr
    assert found.stdout == ""


def test_an_error_is_json_for_scripts(tmp_path: Path) -> None:
    found = invoke("deid", "--work", tmp_path / "new", "--json")
    error = json.loads(found.stderr.splitlines()[-1])["error"]
    assert error["code"] == "bad-input"
    assert error["where"].endswith("phi/landing")
    assert error["fix"]


@pytest.mark.parametrize("code", CODES)
def test_each_kind_of_error_has_its_exit_code(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(work: Path, name: str) -> None:
        raise FhirloomError(code, "It broke", where="here", fix="Mend it.")  # type: ignore[arg-type]

    monkeypatch.setattr(cli, "alone", fail)
    found = invoke("train", "--work", tmp_path)
    assert found.exit_code == exit_codes.OF_ERROR[code]  # type: ignore[index]
    assert found.stderr == "fhirloom: It broke, in here. Mend it.\n"


def test_a_defect_shows_neither_a_traceback_nor_a_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(work: Path, name: str) -> None:
        raise ValueError("Hamanová, Åsa")

    monkeypatch.setattr(cli, "alone", fail)
    found = invoke("train", "--work", tmp_path)
    assert found.exit_code == exit_codes.INTERNAL
    assert "Hamanová" not in found.output
    assert "Traceback" not in found.output
    (detail,) = (tmp_path / "phi" / "logs").glob("*.log")
    assert "Hamanová" in detail.read_text()
    assert detail.stem in found.stderr


def test_scoring_tells_nothing_of_the_patient_when_it_fails(
    fhirloom: Command, tmp_path: Path
) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "manifest.json").write_text("{")
    (tmp_path / "prefetch.json").write_text('{"prefetch": {}}')
    arguments = ("--bundle", tmp_path / "bundle", "--prefetch", tmp_path / "prefetch.json")
    done = fhirloom("score", *arguments, "--at", "2024-05-01T10:00:00")
    assert done.returncode == BAD_INPUT
    assert "Traceback" not in done.stderr
    assert "The manifest of a sealed folder is damaged" in done.stderr


def test_a_refused_run_leaves_the_settings_of_the_folder_alone(
    fhirloom: Command, few_patients: Path, work: Path
) -> None:
    assert fhirloom("export", "--ndjson", few_patients, "--work", work).returncode == 0
    before = (work / "phi" / "settings.json").read_text()
    arguments = ("run", "--ndjson", few_patients, "--work", work)
    assert fhirloom(*arguments, "--task", "no-such-task").returncode == BAD_INPUT
    with at_work(Work(work)):
        assert fhirloom(*arguments).returncode == BAD_INPUT
    assert (work / "phi" / "settings.json").read_text() == before
