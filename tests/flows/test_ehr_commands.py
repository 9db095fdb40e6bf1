"""The commands that have to do with an EHR, against a sandbox server in a process of its own."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from deid.rules import load_rules
from exports.connection.keys import public_jwks
from exports.errors import FhirloomError
from exports.sandbox.faults import FAULTS
from exports.sandbox.manner import Manner
from exports.sandbox.server import Sandbox, running_folder
from features.necessary import necessary
from flows import study
from flows.cli import main
from flows.options import settings_of
from flows.settings import Settings, load_settings, save_settings
from flows.sources import check_recognisable, options_of, request_of
from tests.exports.ward import write_ward
from tests.flows.conftest import FHIRLOOM

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ROWS = {"Encounter": 36, "Observation": 120, "Patient": 12, "Practitioner": 1}


@pytest.fixture(scope="module")
def ehr(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    folder = tmp_path_factory.mktemp("ehr")
    write_ward(folder / "ward")
    with running_folder(folder / "ward", NOW, data=folder / "data") as sandbox:
        yield sandbox


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def at(ehr: Sandbox) -> list[object]:
    return ["--server", ehr.base_url, "--client-id", ehr.client_id, "--key", ehr.key]


def landed(*arguments: object) -> dict[str, Any]:
    done = invoke("export", *arguments, "--json")
    assert done.exit_code == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)["landing"]
    return told


def test_an_export_lands_all_that_a_server_has_or_what_was_asked_for(
    ehr: Sandbox, tmp_path: Path
) -> None:
    assert landed(*at(ehr), "--level", "system", "--work", tmp_path / "all")["rows"] == ROWS
    few = landed(*at(ehr), "--type", "Patient,Encounter", "--work", tmp_path / "few")
    assert few["rows"] == {name: ROWS[name] for name in ("Encounter", "Patient")}


def test_a_search_lands_the_same_patients(ehr: Sandbox, tmp_path: Path) -> None:
    types = ["--type", "Patient", "--type", "Observation"]
    found = landed(*at(ehr), *types, "--source", "search", "--work", tmp_path)
    assert found["source"] == "search"
    assert found["rows"] == {name: ROWS[name] for name in ("Observation", "Patient")}


def test_the_same_command_goes_on_from_the_last_export(ehr: Sandbox, tmp_path: Path) -> None:
    asked = [*at(ehr), "--since", "auto", "--work", tmp_path]
    first, second = landed(*asked), landed(*asked)
    assert (first["source"], second["source"]) == ("bulk", "merged")
    assert first["rows"] == second["rows"]


def test_an_export_under_way_can_be_given_up(tmp_path: Path) -> None:
    write_ward(tmp_path / "ward")
    slow = Manner(retry_after=60, faults=("retry-after-hours",))
    work = tmp_path / "work"
    with running_folder(tmp_path / "ward", NOW, data=tmp_path / "data", manner=slow) as ehr:
        asked = ["--elements", "id", *at(ehr), "--work", work]
        with subprocess.Popen([str(part) for part in (FHIRLOOM, "export", *asked)]) as export:
            deadline = time.monotonic() + 30
            while not list((work / "phi").glob("export-job/*.json")):
                assert time.monotonic() < deadline
                time.sleep(0.05)
            export.kill()
        given_up = invoke("export", "cancel", "--work", work, "--json")
        assert json.loads(given_up.stdout) == {"cancelled": True, "confirmed": True}
        again = invoke("export", "cancel", "--work", work)
        assert again.exit_code == 5
        assert "under way" in again.stderr


def test_keys_are_made_once_and_shown_for_registration(tmp_path: Path) -> None:
    made, shown = invoke("keys", tmp_path), invoke("keys", tmp_path)
    assert json.loads(made.stdout) == json.loads(shown.stdout)
    assert json.loads(made.stdout) == public_jwks(tmp_path / "private-key.pem")
    assert '"d"' not in made.stdout
    assert (tmp_path / "private-key.pem").stat().st_mode & 0o777 == 0o600


def test_the_faults_of_the_sandbox_are_told() -> None:
    assert set(json.loads(invoke("sandbox", "faults", "--json").stdout)) == set(FAULTS)
    assert all(name in invoke("sandbox", "faults").stdout for name in FAULTS)


def given(**chosen: Any) -> dict[str, Any]:
    return {"url": "https://ehr.example/fhir", "seed": None, **chosen}


def asked(settings: Settings) -> dict[str, Any]:
    assert settings.server is not None
    request = request_of(settings, settings.server)
    return {name: getattr(request, name) for name in ("types", "type_filters", "elements")}


def test_a_study_asks_for_no_more_than_it_needs_and_a_user_may_widen_it(tmp_path: Path) -> None:
    settings = settings_of(given())
    needed = necessary(study.task(settings), study.features(settings), load_rules())
    assert asked(settings) == asdict(needed)
    wider = asked(settings_of(given(types=("Observation", "Immunization"))))
    assert set(wider["types"]) == {*needed.types, "Immunization"}
    assert wider["type_filters"] == ()
    nothing = {"types": (), "type_filters": (), "elements": ()}
    assert asked(settings_of(given(everything=True))) == nothing
    assert asked(settings_of(given(), study=False)) == nothing
    assert asked(settings_of(given(task="readmission_30d"), study=False)) == asdict(needed)
    (tmp_path / "opted-out").write_text("p-1\n")
    told_apart = asked(settings_of(given(leave_out=str(tmp_path / "opted-out"))))
    assert "Patient.identifier" in told_apart["elements"]


@pytest.mark.parametrize(
    ("narrowed", "listed", "refused"),
    [
        ({"types": ("Observation",)}, "urn:mrn|7", True),
        ({"type_filters": ("Patient?gender=male",)}, "urn:mrn|7", True),
        ({"since": "2026-01-31T02:00:00+00:00"}, "urn:mrn|7", True),
        ({"types": ("Observation",)}, "p-1", False),
        ({"types": ("Observation", "Patient"), "since": "auto"}, "urn:mrn|7", False),
    ],
)
def test_whoever_opted_out_by_identifier_must_be_known_by_it(
    tmp_path: Path, narrowed: dict[str, Any], listed: str, refused: bool
) -> None:
    (tmp_path / "out").write_text(f"{listed}\n")
    settings = settings_of(given(leave_out=str(tmp_path / "out"), **narrowed), study=False)
    assert settings.server is not None
    request = request_of(settings, settings.server)
    with pytest.raises(FhirloomError, match="by identifier") if refused else nullcontext():
        check_recognisable(request, options_of(settings, settings.server).screen)


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ((), ()),
        (("birthDate",), ("birthDate", "Patient.identifier")),
        (("Observation.code",), ("Observation.code",)),
        (("Patient.identifier",), ("Patient.identifier",)),
    ],
)
def test_identifiers_are_asked_for_where_they_tell_who_opted_out(
    tmp_path: Path, elements: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    (tmp_path / "out").write_text("urn:mrn|7\n")
    chosen = given(leave_out=str(tmp_path / "out"), elements=elements, everything=True)
    assert asked(settings_of(chosen))["elements"] == expected


def test_a_proxys_password_stands_in_a_file_of_its_own(tmp_path: Path) -> None:
    kept = tmp_path / "proxy"
    kept.write_text("http://weaver:SECRET@proxy.example:3128\n")
    settings = settings_of(given(proxy=str(kept)))
    assert settings.server is not None
    assert settings.server.access.proxy == "http://weaver:SECRET@proxy.example:3128"
    save_settings(settings, tmp_path)
    assert "SECRET" not in (tmp_path / "settings.json").read_text() + repr(settings)
    with pytest.raises(FhirloomError, match="seen by all") as raised:
        settings_of(given(proxy=kept.read_text().strip()))
    assert "SECRET" not in str(raised.value)
    with pytest.raises(FhirloomError, match="no secret"):
        settings_of(given(proxy=str(tmp_path / "missing")))
    plain = settings_of(given(proxy="http://proxy.example:3128"))
    assert plain.server is not None
    assert plain.server.access.proxy == "http://proxy.example:3128"


def test_whatever_is_chosen_is_kept_and_reaches_the_export(tmp_path: Path) -> None:
    (tmp_path / "opted-out").write_text("p-1\n")
    chosen = given(
        group="g",
        types=("Patient", "Observation"),
        since="2026-01-31T02:00:00+00:00",
        allow_wider=True,
        vendor="hapi",
        edition="STU3",
        parallel=2,
        policy="duplicate=fail",
        file_origins=("https://files.example",),
        keep_test_patients=True,
        leave_out=str(tmp_path / "opted-out"),
        labels=("part2",),
    )
    settings = settings_of(chosen, study=False)
    save_settings(settings, tmp_path)
    assert load_settings(tmp_path) == settings
    assert settings.server is not None
    request = request_of(settings, settings.server)
    options = options_of(settings, settings.server)
    assert (request.level, request.group_id) == ("group", "g")
    assert request.since == datetime(2026, 1, 31, 2, tzinfo=UTC)
    assert request.access.file_origins == ("https://files.example",)
    assert (options.vendor, options.edition) == ("hapi", "STU3")
    assert (options.allow_wider, options.parallel) == (True, 2)
    assert "duplicate" in options.policy.fail
    assert not options.screen.test_patients
    assert options.screen.opted_out == {"p-1"}
    assert options.screen.labels
