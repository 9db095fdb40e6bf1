"""Removed patients stay away, in what is made from now on and, on request, in what was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from deid.engine import connect, fetch
from deid.identity.custody import Crosswalk, open_crosswalk
from deid.identity.holders import find_holders
from deid.identity.orders import REMOVED, removed_at_landing
from deid.identity.persons import GONE, bind_persons
from deid.identity.removal import remove_patients
from deid.identity.revision import given_surrogates
from deid.identity.rotation import rotate_surrogates
from deid.tables import write_tables
from deid.vocabulary import Vocabulary
from exports.errors import FhirloomError
from exports.sealed import CURRENT, Sealed, Stage, sealing
from tests.deid.identity.small_world import World, ledger, rules, table, world

WHY = "asked for it"
NAMING = ("patients", "issued", "encounters", "links", "retired")


def present(work: Path) -> Crosswalk:
    walk = open_crosswalk(work / "phi" / "crosswalk")
    assert walk is not None
    return walk


def ids(walk: Crosswalk, *names: str) -> set[str | None]:
    return {row["patient_id"] for name in names for row in table(walk, name)} - {None}


def numbers(walk: Crosswalk, who: str) -> set[int]:
    return {
        row["surrogate"]
        for name in ("issued", "encounters")
        for row in table(walk, name)
        if row["patient_id"] == who
    }


def sealed_rows(root: Path, inputs: dict[str, str], **columns: pa.Array) -> Sealed:
    with sealing(root, Stage(root.name, 1, inputs)) as draft:
        pq.write_table(pa.table(columns or {"x": [1.5]}), draft.path / "bucket-000.parquet")
    return draft.result


def test_the_tables_have_nobody_who_was_removed_and_count_their_rows(tmp_path: Path) -> None:
    before, facts = written(world(tmp_path), tmp_path / "before")
    theirs = numbers(present(tmp_path), "p2")
    assert theirs <= before
    assert facts["outcomes"]["admission"] == {"kept": 8}
    remove_patients(tmp_path, ["p2"], WHY)
    # The same delivery once more, and a later one that brings more of theirs.
    for name, years in (("one", (2020, 2022)), ("more", (2020, 2021, 2022))):
        after, facts = written(world(tmp_path, name, years=years), tmp_path / name)
        assert after.isdisjoint(theirs)
        assert facts["outcomes"]["patient"] == {"kept": 3, GONE: 1}
        assert facts["outcomes"]["admission"] == {"kept": 3 * len(years), GONE: len(years)}


def written(made: World, folder: Path) -> tuple[set[int], dict[str, Any]]:
    """Every number in the tables that are written of it, and what became of its rows."""
    folder.mkdir()
    words = Vocabulary(folder, frozenset())
    spill = made.phi / "spill"
    facts = write_tables(folder, made.extracted, made.crosswalk(), words, rules(), spill=spill)
    tables = [pq.read_table(path) for path in sorted(folder.rglob("*.parquet"))]
    columns = [
        table[name]
        for table in tables
        for name in ("patient", "encounter")
        if name in table.column_names
    ]
    return {number for column in columns for number in column.to_pylist()}, facts


def test_the_crosswalk_names_them_no_more_and_never_gives_their_numbers_again(
    tmp_path: Path,
) -> None:
    made = world(tmp_path)
    before = made.crosswalk()
    theirs = numbers(before, "p2")
    others = [row for row in table(before, "issued") if row["patient_id"] != "p2"]
    remove_patients(tmp_path, ["p2"], WHY)
    after = present(tmp_path)
    assert "p2" not in ids(after, *NAMING)
    assert ids(after, "removed") == {"p2"}
    nameless = {r["surrogate"] for r in table(after, "retired") if r["patient_id"] is None}
    assert nameless == theirs
    assert theirs <= set(given_surrogates({name: after.read(name) for name in NAMING}).tolist())
    assert table(after, "issued") == others
    assert not before.sealed.path.exists()
    assert made.crosswalk().sealed.digest == after.sealed.digest
    assert made.crosswalk().sealed.digest != before.sealed.digest


def test_whoever_is_the_same_person_goes_too_and_stays_away_when_parted(tmp_path: Path) -> None:
    world(tmp_path, told={"p2": "p1"}).crosswalk()
    done = remove_patients(tmp_path, ["p2"], WHY)
    assert done.ordered == 2
    [entry] = ledger(tmp_path / "phi" / REMOVED)
    assert entry["ids"] == ["p1", "p2"]
    assert entry["reason"] == WHY
    assert (tmp_path / "phi" / REMOVED).stat().st_mode & 0o777 == 0o600
    parted = world(tmp_path, "parted").crosswalk()
    assert ids(parted, *NAMING) == {"p3", "p4"}


def test_a_record_that_is_merged_with_a_removed_one_is_out_while_it_is(tmp_path: Path) -> None:
    world(tmp_path).crosswalk()
    remove_patients(tmp_path, ["p2"], WHY)
    merged = world(tmp_path, "merged", told={"p1": "p2"})
    walk = merged.crosswalk()
    assert ids(walk, *NAMING) == {"p3", "p4"}
    with connect() as connection:
        links, removed = walk.read("links"), walk.read("removed")
        bind_persons(connection, merged.extracted, rules(), links, removed)
        found = fetch(connection, "SELECT DISTINCT patient_id FROM admission WHERE dropped IS NULL")
    assert set(found["patient_id"].to_pylist()) == {"p3", "p4"}
    assert ids(world(tmp_path, "parted").crosswalk(), *NAMING) == {"p1", "p3", "p4"}


def test_a_patient_is_known_by_identifier_also_when_landed_no_more(tmp_path: Path) -> None:
    world(tmp_path).crosswalk()
    done = remove_patients(tmp_path, ["urn:mrn|mrn-p3", "urn:mrn|nobody", "p9"], WHY)
    assert (done.ordered, done.unknown) == (2, 2)
    assert ids(present(tmp_path), *NAMING) == {"p1", "p2", "p4"}
    later = world(tmp_path, "later", ids=("p1", "p2"))
    assert ids(later.crosswalk(left_out=["urn:mrn|mrn-p4"]), *NAMING) == {"p1", "p2"}
    # What is ordered meanwhile leaves them out too, and changes nothing that was not ordered.
    digest = present(tmp_path).sealed.digest
    remove_patients(tmp_path, [], WHY)
    assert present(tmp_path).sealed.digest == digest
    rotate_surrogates(tmp_path / "phi", WHY)
    assert ids(present(tmp_path), "removed") == {"p3", "p4", "p9"}
    assert later.crosswalk(left_out=["urn:mrn|mrn-p4"]).rotations == 1
    # Whoever is on the list no longer is nobody that was seen before.
    assert ids(world(tmp_path, "again").crosswalk(), *NAMING) == {"p1", "p2", "p4"}


def test_sealed_folders_that_hold_them_are_found_and_purged(tmp_path: Path) -> None:
    made = world(tmp_path)
    walk = made.crosswalk()
    theirs, other = min(numbers(walk, "p2")), min(numbers(walk, "p1"))
    research = tmp_path / "research"
    tables = sealed_rows(research / "tables", {"a": "1"}, patient=pa.array([theirs, other]))
    free = sealed_rows(research / "tables", {"a": "2"}, patient=pa.array([other]))
    oracle = sealed_rows(research / "oracle", {}, encounter=pa.array([max(numbers(walk, "p2"))]))
    model = sealed_rows(research / "models", {"tables": tables.digest})
    bundle = sealed_rows(research / "bundles", {"model": model.digest})
    spared = sealed_rows(research / "models", {"tables": free.digest})
    leftover = research / "tables" / ".building-abc"
    leftover.mkdir()
    done = remove_patients(tmp_path, ["p2"], WHY)
    names = {path.path.relative_to(tmp_path).as_posix() for path in (tables, oracle)}
    extract = made.extracted.path
    assert set(done.holding) == names | {extract.relative_to(tmp_path).as_posix()}
    assert set(done.made_from) == {
        path.path.relative_to(tmp_path).as_posix() for path in (model, bundle)
    }
    assert tables.path.exists()
    purged = remove_patients(tmp_path, [], WHY, purged=True)
    assert purged.holding == done.holding
    gone = (tables.path, oracle.path, extract, leftover, research / "oracle" / CURRENT)
    assert not any(path.exists() for path in gone)
    assert all(each.path.exists() for each in (free, model, bundle, spared))
    assert find_holders(tmp_path).holding == ()
    assert len(ledger(tmp_path / "phi" / REMOVED)) == 1


def test_they_are_left_out_at_landing_where_that_was_asked_for(tmp_path: Path) -> None:
    world(tmp_path).crosswalk()
    remove_patients(tmp_path, ["p2"], WHY)
    assert removed_at_landing(tmp_path / "phi") == frozenset()
    remove_patients(tmp_path, ["p2"], WHY, at_landing=True)
    assert removed_at_landing(tmp_path / "phi") == {"p2"}
    assert len(ledger(tmp_path / "phi" / REMOVED)) == 2
    remove_patients(tmp_path, ["p2"], WHY)
    assert len(ledger(tmp_path / "phi" / REMOVED)) == 2


def test_nothing_happens_without_a_reason(tmp_path: Path) -> None:
    made = world(tmp_path)
    before = made.crosswalk().sealed
    with pytest.raises(FhirloomError, match="No reason"):
        remove_patients(tmp_path, ["p2"], "  ")
    assert present(tmp_path).sealed.digest == before.digest


def test_an_order_that_a_crash_cut_short_is_none(made: World) -> None:
    made.crosswalk()
    remove_patients(made.work, ["p2"], WHY)
    with (made.phi / REMOVED).open("ab") as file:
        file.write(b'{"entry": "x", "ids": ["p3"]')
    assert ids(made.crosswalk(), "removed") == {"p2"}
    remove_patients(made.work, ["p4"], WHY)
    assert ids(made.crosswalk(), "removed") == {"p2", "p4"}


@pytest.fixture
def made(tmp_path: Path) -> World:
    return world(tmp_path)
