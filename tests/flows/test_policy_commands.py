"""The choice of a policy on the command line, and where it leads the later commands."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from deid.policy import LIMITED_DATA_SET, SAFE_HARBOR
from deid.research import open_tables
from exports.errors import FhirloomError
from flows.cli import main
from flows.options import settings_of, with_policy
from flows.settings import Settings, kept_settings, load_settings
from flows.summary import as_text
from tests.flows.conftest import Command

GIVEN = {"patients": 20, "seed": 7}


@pytest.fixture
def population(tmp_path: Path) -> Path:
    file = tmp_path / "population.csv"
    file.write_text("zip3,population\n021,20001\n039,20000\n")
    return file


def test_the_help_explains_both_policies() -> None:
    for command in (["deid"], ["run"], ["schedule"]):
        told = CliRunner().invoke(main, [*command, "--help"]).output
        assert "--limited-data-set / --safe-harbor" in told
        assert "--zip3-population FILE" in told


def test_a_limited_data_set_goes_to_phi_with_all_that_is_made_of_it(
    fhirloom: Command, few_patients: Path, tmp_path: Path
) -> None:
    work = tmp_path / "work"

    def done(*arguments: str | Path) -> dict[str, object]:
        ran = fhirloom(*arguments, "--work", work, "--json")
        assert ran.returncode in (0, 3), ran.stderr
        facts: dict[str, object] = json.loads(ran.stdout)
        return facts

    done("export", "--ndjson", few_patients, "--exported-at", "2024-07-03T00:00:00Z")
    limited = LIMITED_DATA_SET.released(work)
    for command in (["deid", "--limited-data-set"], ["features", "build"], ["train"]):
        facts = done(*command)
        assert facts["policy"] == LIMITED_DATA_SET.facts()
        assert LIMITED_DATA_SET.label in " ".join(as_text(facts).split())
    assert {"tables", "features", "reports"} <= {path.name for path in limited.iterdir()}
    # Where matplotlib knows the machine's fonts from; nothing of any patient.
    written = [path for path in (work / "research").rglob("*") if path.is_file()]
    assert {path.parent.name for path in written} <= {".matplotlib"}
    assert load_settings(work / "phi").policy == "limited-data-set"
    told = fhirloom("mlflow-ui", "--work", work).stdout
    assert "/phi/limited/mlflow/" in told

    # And back: the de-identified tables are others, and stand where they did.
    again = done("deid", "--safe-harbor")
    assert again["policy"] == SAFE_HARBOR.facts()
    assert open_tables(work / "research").policy["name"] == "safe-harbor"
    assert open_tables(limited).policy["name"] == "limited-data-set"


@pytest.mark.parametrize(
    ("options", "where"),
    [
        (["--limited-data-set", "--zip3-population", "population.csv"], "--zip3-population"),
        (["--zip3-population", "nothing.csv"], "--zip3-population"),
        (["--limited-data-set", "--notes"], "--notes"),
        (["--zip3-population", "wrong.csv"], "--zip3-population, line 2"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_starts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    population: Path,
    options: list[str],
    where: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "wrong.csv").write_text("zcta,population\n02138,many\n")
    refused = CliRunner().invoke(main, ["run", "--work", "work", *options])
    assert refused.exit_code == 5
    assert where in refused.output
    assert "many" not in refused.output
    assert not (tmp_path / "work").exists()


def test_a_server_has_a_policy_of_its_own(population: Path) -> None:
    given = GIVEN | {
        "patients": None,
        "seed": None,
        "url": "https://ehr.example.org/fhir",
        "policy": "duplicate=fail",
        "limited": None,
        "zip3_population": str(population),
    }
    settings = settings_of(given)
    assert settings.server is not None
    assert settings.server.policy == "duplicate=fail"
    assert (settings.policy, settings.privacy.zip3) == ("safe-harbor", ("021",))
    limited = settings_of(given | {"limited": True, "zip3_population": None})
    assert (limited.policy, limited.privacy) == ("limited-data-set", LIMITED_DATA_SET)


def test_another_policy_is_kept_until_it_is_changed(population: Path, tmp_path: Path) -> None:
    with_zip3 = with_policy(Settings(), limited=None, zip3_population=str(population))
    assert with_zip3.zip3_population == str(population)
    assert with_policy(with_zip3, limited=False, zip3_population=None) == with_zip3
    assert with_policy(with_zip3, limited=None, zip3_population="") == Settings()
    with_notes = replace(with_zip3, notes=True)
    limited = with_policy(with_notes, limited=True, zip3_population=None)
    assert limited == Settings(policy="limited-data-set")
    with pytest.raises(FhirloomError, match="no population file cuts them"):
        with_policy(Settings(), limited=True, zip3_population=str(population))
    assert kept_settings(tmp_path) == Settings()
