"""By which rule of HIPAA the tables are made, where they may stand, and what is said of them.

Safe Harbor (45 CFR 164.514(b)(2)) is the one that everybody gets. A limited data set (164.514(e))
is the other, for those who need dates: identified still, lent under a data use agreement alone, and
never let out of `phi/`. Both write the same views in the same columns, so that features and models
are made of either by the same code. They differ in what follows:

                     Safe Harbor                          limited data set
    zero             the first plausible record           1970-01-01T00:00:00, everybody's
    seconds          from the patient's own zero          wall clock, so to say Unix time
    anchor_year      the year of the zero                 the year of the zero: 1970
    observed_until   the export's moment minus the end    the export's moment
                     of the anchor year
    ages             89 at most, or 90 in a timeline      as they are
                     of its own
    birth date, ZIP  none; or three digits by choice      the day, and five digits
    surrogates       phi/crosswalk                        others: phi/limited-crosswalk

The surrogates have nothing in common: whoever has both could date the one by the other. City and
town, which 164.514(e)(2)(ii) would let stay, are free text, and are written by neither.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from deid.geography import crowded_areas
from exports.errors import FhirloomError
from exports.sealed import hash_file

PolicyName = Literal["safe-harbor", "limited-data-set"]
FILE: Final = "policy.json"
LIMITED: Final = ("phi", "limited")
"""Where a limited data set stands in a work folder, and whatever is made of it."""


@dataclass(frozen=True)
class Policy:
    """One of the two; `zip3` holds the areas that may be named, or is None: no ZIP at all.

    `population` is the SHA-256 of the file that `zip3` was computed from.
    """

    name: PolicyName = "safe-harbor"
    zip3: tuple[str, ...] | None = None
    population: str = ""

    @property
    def dated(self) -> bool:
        """Whether dates, ages and ZIP codes stay as they are."""
        return self.name == "limited-data-set"

    @property
    def optional_kinds(self) -> frozenset[str]:
        """Of the kinds of columns that not every policy writes, those that this one does."""
        if self.dated:
            return frozenset({"date", "zip"})
        return frozenset() if self.zip3 is None else frozenset({"zip3"})

    @property
    def label(self) -> str:
        """What has to be said of the tables and of everything that is made from them."""
        if self.dated:
            return (
                "limited data set: not de-identified; data use agreement needed "
                "(45 CFR 164.514(e)(4))"
            )
        return "de-identified by Safe Harbor (45 CFR 164.514(b)(2))"

    @property
    def crosswalk(self) -> str:
        """The folder of `phi/` that holds the surrogates."""
        return "limited-crosswalk" if self.dated else "crosswalk"

    def released(self, work: Path) -> Path:
        """Where in a work folder the tables stand, and all that is made from them."""
        return work.joinpath(*LIMITED) if self.dated else work / "research"

    def facts(self) -> dict[str, Any]:
        """The policy as manifests tell it."""
        told: dict[str, Any] = {"name": self.name, "label": self.label}
        if self.zip3 is not None:
            told |= {"zip3_areas": len(self.zip3), "zip3_population": self.population}
        return told

    def save(self, folder: Path) -> None:
        """Write `policy.json` into a folder of rules; `load_policy` reads it."""
        (folder / FILE).write_text(json.dumps(asdict(self) | {"label": self.label}, indent=1))


SAFE_HARBOR: Final = Policy()
LIMITED_DATA_SET: Final = Policy("limited-data-set")


def choose_policy(name: PolicyName = "safe-harbor", population: Path | None = None) -> Policy:
    """The policy of that name; with a population file, Safe Harbor that tells a ZIP's three digits.

    Raises `FhirloomError` (bad-input) for a file that can't be read, and for one that is given for
    a limited data set, which has ZIP codes without it.
    """
    if name == "limited-data-set":
        if population is not None:
            raise FhirloomError(
                "bad-input",
                "A limited data set keeps ZIP codes of five digits: no population file cuts them",
                where="--zip3-population",
                fix="Leave it out; or leave out --limited-data-set, for Safe Harbor with ZIP3.",
            )
        return LIMITED_DATA_SET
    if population is None:
        return SAFE_HARBOR
    return Policy("safe-harbor", crowded_areas(population), hash_file(population))


def load_policy(rules: Path) -> Policy:
    """The policy that goes with a folder of rules: Safe Harbor where the folder names none."""
    if not (rules / FILE).is_file():
        return SAFE_HARBOR
    kept = json.loads((rules / FILE).read_text())
    zip3 = kept["zip3"]
    return Policy(kept["name"], None if zip3 is None else tuple(zip3), kept["population"])


def check_place(facts: Mapping[str, Any], root: Path) -> None:
    """Refuse what stands where its policy does not let it stand; `facts` are a manifest's.

    Raises `FhirloomError` (bad-input): a limited data set outside of `phi/limited`, other data
    inside of it, and what does not say by which policy it was made.
    """
    policy = facts.get("policy", {})
    limited = root.absolute().parts[-len(LIMITED) :] == LIMITED
    if policy.get("name") == ("limited-data-set" if limited else "safe-harbor"):
        return
    told = policy.get("label", "made by nobody knows which policy")
    raise FhirloomError(
        "bad-input",
        f"What stands here may not stand here: it is {told}",
        where=str(root),
        fix="Take it away, and run `fhirloom deid`: a limited data set stands in phi/limited.",
    )
