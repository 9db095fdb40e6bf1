"""A nasty folder goes through: each line is kept, dropped or set apart, and counted once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from deid.deidentify import Deidentified, deidentify
from deid.live import LiveReader
from deid.proofs.canary import canaries
from deid.proofs.metamorphic import compare
from deid.rules import Rules, load_rules
from exports.errors import FhirloomError
from exports.landing.ndjson import load
from exports.landing.zone import LandingZone, land_folder
from tests.deid.nasty import bases, misshapen, nasty_folder

EXPORTED = datetime(2024, 7, 3, tzinfo=UTC)
VIEWS = ("medication", "note")


def rules() -> Rules:
    return load_rules().only({"patient", "condition", "observation", *VIEWS})


@pytest.fixture(scope="module")
def lines_and_work(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, Path]:
    folder = tmp_path_factory.mktemp("nasty")
    return nasty_folder(folder / "source"), folder


@pytest.fixture(scope="module")
def landing(lines_and_work: tuple[int, Path]) -> LandingZone:
    _, folder = lines_and_work
    return land_folder(folder / "source", folder / "work" / "phi", transaction_time=EXPORTED)


@pytest.fixture(scope="module")
def done(landing: LandingZone, lines_and_work: tuple[int, Path]) -> Deidentified:
    work = lines_and_work[1] / "work"
    return deidentify(landing, work, declared=frozenset({"loinc:2160-0"}), rules=rules())


def test_every_line_is_landed_or_quarantined(
    landing: LandingZone, lines_and_work: tuple[int, Path]
) -> None:
    lines, _ = lines_and_work
    assert sum(landing.rows().values()) + sum(landing.quarantined.values()) == lines


def test_rows_are_kept_dropped_or_quarantined_in_every_view(
    landing: LandingZone, done: Deidentified
) -> None:
    for counts in done.counts:
        fates = counts.kept + sum(counts.dropped.values()) + sum(counts.quarantined.values())
        assert fates == counts.rows, counts.view
        assert min([counts.kept, *counts.dropped.values(), *counts.quarantined.values()]) >= 0
    apart = {counts.view: sum(counts.quarantined.values()) for counts in done.counts}
    assert apart["observation"] > 20
    kept = {counts.view: counts.kept for counts in done.counts}
    assert all(kept[view] > 0 for view in ("patient", "admission", "observation", "condition"))


def test_the_attested_rows_of_every_file_add_up(landing: LandingZone, done: Deidentified) -> None:
    told = done.tables.sealed.facts["origin"]["files"]
    assert sum(file["rows"] for file in told) == sum(landing.rows().values())
    for file in told:
        for view, counted in file["views"].items():
            dropped, apart = (sum(counted[fate].values()) for fate in ("dropped", "quarantined"))
            assert counted["rows"] == file["rows"], view
            assert counted["out"] + dropped + apart == file["rows"], view


def test_what_nobody_shaped_like_fhir_breaks_no_rehearsal(
    landing: LandingZone, done: Deidentified
) -> None:
    few = rules()
    assert canaries(landing, few, done.vocabulary).variants > 100
    assert compare(landing, few, done.vocabulary, EXPORTED.replace(tzinfo=None)).holds


def test_live_takes_whatever_shape_a_resource_has(done: Deidentified) -> None:
    good = bases()
    reader = LiveReader(rules(), done.vocabulary)
    for line in [*misshapen()][::40]:
        wrong = load(line.encode())
        others = [each for each in good if each["resourceType"] != wrong["resourceType"]]
        given = [wrong, *others] if wrong["resourceType"] == "Patient" else [wrong, *good]
        try:
            reader.read(given, datetime(2024, 1, 1))
        except FhirloomError as refused:
            assert refused.code == "bad-input"
