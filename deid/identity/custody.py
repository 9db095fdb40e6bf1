"""The crosswalk at rest: encrypted and sealed, opened by its key, and kept in no second copy."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from deid.identity.keys import key_in_force
from deid.identity.orders import Orders, all_ids_of, read_orders
from deid.identity.persons import LINKS, REMOVED
from deid.identity.revision import RETIRED, rotated, without
from deid.identity.vault import damaged, is_encrypted, read_encrypted, write_encrypted
from deid.policy import LIMITED_DATA_SET, SAFE_HARBOR
from exports.landing.zone import LandingZone, landed_zones
from exports.sealed import CURRENT, MANIFEST, Sealed, Stage, hash_json, open_sealed, sealing

VERSION: Final = 4
PATIENTS: Final = pa.schema(
    {
        "patient_id": pa.string(),
        "birth": pa.date32(),
        "surrogate": pa.int64(),
        "zero": pa.timestamp("us"),
        "anchor_year": pa.int16(),
        "old": pa.int16(),
        "begins": pa.timestamp("us"),
        "ends": pa.timestamp("us"),
    }
)
ENCOUNTERS: Final = pa.schema(
    {"patient_id": pa.string(), "encounter_id": pa.string(), "surrogate": pa.int64()}
)
TABLES: Final = {
    "patients": PATIENTS,
    "issued": PATIENTS,
    "encounters": ENCOUNTERS,
    "links": LINKS,
    "retired": RETIRED,
    "removed": REMOVED,
}


@dataclass(frozen=True)
class Crosswalk:
    """The sealed crosswalk, and the moment (wall clock) up to which the export is whole.

    There is no key to one that was written before crosswalks were encrypted.
    """

    sealed: Sealed
    exported: datetime
    key: bytes | None = field(repr=False)

    def read(self, name: str, columns: Sequence[str] | None = None) -> pa.Table:
        """One of its tables; some of the columns, or all.

        Raises `FhirloomError` (bad-input) where the key is another one, or the file is damaged.
        """
        path = self.sealed.path / f"{name}.parquet"
        if self.key is not None:
            found = read_encrypted(path, self.key, columns)
            return found.cast(pa.schema([TABLES[name].field(each) for each in found.column_names]))
        if not path.exists() and name == "issued":
            # Before links were followed, each id was served by what was issued to it.
            path = self.sealed.path / "patients.parquet"
        if not path.exists() and name not in ("patients", "encounters"):
            return TABLES[name].empty_table().select(columns or TABLES[name].names)
        try:
            found = pq.read_table(path)
        except (OSError, ValueError):
            raise damaged(path) from None
        return found.cast(TABLES[name]).select(columns or TABLES[name].names)

    @property
    def rotations(self) -> int:
        """How often all surrogates were renewed."""
        return int(self.sealed.facts.get("rotations", 0))

    @property
    def left_out(self) -> str:
        """The hash of the list of whom the landing left out."""
        return self.sealed.inputs.get("left_out", "")

    def obeys(self, orders: Orders) -> bool:
        """Whether all that was ordered has been carried out."""
        told = self.sealed.inputs
        return told.get("orders") == orders.digest and self.left_out == orders.left_out


def open_crosswalk(root: Path, key: bytes | None = None) -> Crosswalk | None:
    """The crosswalk in a folder of `phi/`, by this key or the one in force; None if there is none.

    Raises `FhirloomError` (bad-input) for a key that is missing, and for a crosswalk that is
    damaged: as if there were none, everybody would get a new surrogate.
    """
    current = root / CURRENT
    sealed = open_sealed(current)
    if sealed is None:
        if current.is_symlink():
            raise damaged(current / MANIFEST)
        return None
    if not any(is_encrypted(sealed.path / f"{table}.parquet") for table in TABLES):
        key = None
    elif key is None:
        key = key_in_force(root.parent)
    return Crosswalk(sealed, datetime.fromisoformat(sealed.facts["exported"]), key)


def revised(
    present: Crosswalk | None, orders: Orders, landings: Iterable[LandingZone]
) -> dict[str, pa.Table]:
    """The present tables, without those who are removed, and rotated where that was ordered since.

    The landing zones tell who is the same person, as do the links that were followed so far.
    """
    if present is None:
        tables = {name: schema.empty_table() for name, schema in TABLES.items()}
    else:
        tables = {name: present.read(name) for name in TABLES}
    replaced, survivors = (tables["links"][name].to_pylist() for name in LINKS.names)
    links = dict(zip(replaced, survivors, strict=True))
    tables = without(tables, all_ids_of(orders.removed, landings, links))
    if present is not None and present.rotations < orders.rotations:
        tables = rotated(tables)
    return tables


def present_crosswalks(phi: Path) -> list[Crosswalk]:
    """Those that there are: by Safe Harbor, and of a limited data set."""
    roots = (phi / policy.crosswalk for policy in (SAFE_HARBOR, LIMITED_DATA_SET))
    return [walk for root in roots if (walk := open_crosswalk(root)) is not None]


def ids_in(walks: Iterable[Crosswalk], *names: str) -> set[str]:
    """The patients' ids in tables of these names."""
    return {
        key
        for walk in walks
        for name in names
        for key in walk.read(name, ["patient_id"])["patient_id"].to_pylist()
    }


def carry_out(phi: Path) -> None:
    """Bring every crosswalk to what was ordered; the next de-identification would do so too."""
    ordered = read_orders(phi)
    for present in present_crosswalks(phi):
        root = present.sealed.path.parent
        # Whoever is out stays out, also where no landing zone is left that says why: only the next
        # one can tell otherwise.
        kept = ordered.removed | ids_in([present], "removed")
        orders = replace(ordered, removed=kept, left_out=present.left_out)
        if present.obeys(orders):
            forget_former(root)
        else:
            tables = revised(present, orders, landed_zones(phi))
            extract = present.sealed.inputs["extract"]
            seal_crosswalk(root, tables, present.exported, extract, present, orders)


def seal_crosswalk(
    root: Path,
    tables: Mapping[str, pa.Table],
    exported: datetime,
    extract: str,
    present: Crosswalk | None,
    orders: Orders,
) -> Crosswalk:
    """Seal the tables in place of the present ones, encrypted; what was superseded is removed."""
    key = key_in_force(root.parent, make=present is None or present.key is None)
    previous = "" if present is None else present.sealed.digest
    inputs = {
        "extract": extract,
        "previous": previous,
        "orders": orders.digest,
        "left_out": orders.left_out,
    }
    with sealing(root, Stage("crosswalk", VERSION, inputs), mode=0o700) as draft:
        hashes = {
            name: write_encrypted(tables[name].cast(schema), draft.path / f"{name}.parquet", key)
            for name, schema in TABLES.items()
        }
        # The hash of a list of ids could be guessed, if it were not mixed with all surrogates'.
        draft.contents |= {
            f"{name}.parquet": hash_json([name, *hashes.values()]) for name in hashes
        }
        draft.facts |= {
            "exported": exported.isoformat(),
            "patients": len(tables["patients"]["surrogate"].unique()),
            "links": tables["links"].num_rows,
            "rotations": orders.rotations,
        }
    forget_former(root)
    return Crosswalk(draft.result, exported, key)


def forget_former(root: Path) -> None:
    """Remove superseded crosswalks: they may name whoever was removed, or lie there in clear."""
    current = (root / CURRENT).resolve()
    for folder in root.iterdir():
        if folder.is_dir() and not folder.is_symlink() and folder != current:
            shutil.rmtree(folder)
