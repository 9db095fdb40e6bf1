"""`fhirloom attest`: exit codes, the statement, the key, and what is told of all that."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from deid.attestation.canonical import canonical
from flows.cli import main
from flows.exit_codes import BAD_INPUT, COMPLETE, FAILED_PROOF, UNSTATED
from tests.deid.attestation.conftest import attest, stays

WHO = ("--name", "Ada Officer", "--role", "Privacy officer")


def invoke(*arguments: object, typed: str | None = None) -> Result:
    return CliRunner().invoke(main, ["attest", *map(str, arguments)], input=typed)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("attested") / "work"
    attest(work, stays())
    return work


@pytest.fixture
def work(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "work", symlinks=True)
    return tmp_path / "work"


def page(work: Path) -> Path:
    return work / "research" / "attestation" / "current" / "attestation.html"


def test_a_sound_attestation_is_told_with_what_it_does_not_prove(work: Path) -> None:
    done = invoke("verify", work / "research")
    assert done.exit_code == COMPLETE
    assert "only --key proves" in done.output
    assert "warning: not stated" in done.output
    key = work / "key.pem"
    shown = invoke("key", "--out", key, "--work", work)
    done = invoke("verify", work, "--key", key)
    assert done.exit_code == COMPLETE
    assert "Signed by the key that was given." in done.output
    assert shown.output.startswith(done.output.partition("  key ")[2].partition("\n")[0])
    assert shown.output.endswith(key.read_text())


def test_a_broken_attestation_ends_with_its_own_exit_code(work: Path) -> None:
    page(work).write_text("another page")
    done = invoke("verify", work)
    assert done.exit_code == FAILED_PROOF
    assert "✗ attestation.html: changed" in done.output
    told = json.loads(invoke("verify", work, "--json").output)
    assert (told["exit_code"], told["sound"]) == (FAILED_PROOF, False)
    assert told["mismatches"][0] == "attestation.html: changed"


@pytest.mark.parametrize("lacking", ["attestation", "tables", "key"])
def test_what_cannot_be_checked_is_bad_input(lacking: str, work: Path) -> None:
    if lacking == "key":
        done = invoke("verify", work, "--key", work / "none.pem")
    else:
        shutil.rmtree(work / "research" / lacking)
        done = invoke("verify", work)
    assert done.exit_code == BAD_INPUT


def test_the_statement_is_asked_for_and_recorded(work: Path) -> None:
    required = ("verify", work, "--require-statement")
    assert invoke(*required).exit_code == UNSTATED
    assert invoke("state", *WHO, "--work", work).exit_code == BAD_INPUT, "nobody was asked"
    assert invoke(*required).exit_code == UNSTATED
    done = invoke("state", *WHO, "--work", work, "--yes", "--json")
    assert done.exit_code == COMPLETE
    assert json.loads(done.output)["statement"]["name"] == "Ada Officer"
    assert invoke(*required).exit_code == COMPLETE
    assert "Ada Officer" in page(work).read_text()


@pytest.mark.parametrize(("answer", "stated"), [("yes", True), ("y", False), ("no", False)])
def test_at_a_terminal_only_yes_is_a_statement(
    answer: str, stated: bool, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.attest_commands._at_terminal", lambda: True)
    done = invoke("state", *WHO, "--work", work, typed=f"{answer}\n")
    assert "does not have actual knowledge" in done.output
    assert (done.exit_code == COMPLETE) is stated
    assert ("Ada Officer" in page(work).read_text()) is stated


def test_what_changed_is_listed(work: Path, tmp_path: Path) -> None:
    first = page(work).resolve().parent
    assert invoke("diff", first, work).output == "Nothing changed.\n"
    second = tmp_path / "second"
    shutil.copytree(first, second)
    attested = json.loads((second / "attestation.json").read_bytes())
    attested["content"]["tables"]["rows"]["patient"] += 1
    attested["content"]["code"] = None
    (second / "attestation.json").write_bytes(canonical(attested))
    codes = json.loads((second / "vocabulary.json").read_text())
    codes["codes"].append("loinc:1-8")
    (second / "vocabulary.json").write_text(json.dumps(codes))
    done = invoke("diff", first, second)
    assert done.exit_code == COMPLETE
    assert "  patient: 12 → 13\n" in done.output
    assert "  1 added: loinc:1-8\n" in done.output
    assert "… → none\n" in done.output
    told = json.loads(invoke("diff", second, first, "--json").output)
    assert told["rows"]["patient"] == {"before": 13, "after": 12}
    assert invoke("diff", first, tmp_path).exit_code == BAD_INPUT
    (first / "vocabulary.json").unlink()
    assert invoke("diff", first, second).exit_code == BAD_INPUT


def test_another_key_signs_once_it_is_named(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named = work.parent / "other.pem"
    shutil.copyfile(work / "phi" / "keys" / "attestation.pem", named)
    named.chmod(0o600)
    (work / "phi" / "keys" / "attestation.pem").unlink()
    before, other = (invoke("key", "--work", work, *more).output for more in _both(named))
    assert before != other
    assert invoke("key", "--work", work).output == other
    assert invoke("key", "--work", work, "--signing-key", "env:NONE").exit_code == BAD_INPUT


def _both(named: Path) -> tuple[tuple[()], tuple[str, str]]:
    return (), ("--signing-key", f"file:{named}")
