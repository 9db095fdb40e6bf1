"""k-anonymity of the released tables: how many patients share what others may know of a person.

The quasi-identifiers are the ten-year age band at the latest admission (90 and above are one), the
year of the anchor, and every closed list that describes a patient: sex, race, ethnicity, state;
the ZIP code, its three digits and the birth date where the policy writes them.
Patients who agree in all of them are a class; a class of k hides each of its members among k, which
is the prosecutor's risk of 1/k (El Emam, Guide to the De-Identification of Personal Health
Information, 2013). Safe Harbor asks for no k: it is reported, and nothing is suppressed by it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from deid.engine import connect, fetch
from deid.identity.crosswalk import OLDEST_AGE
from deid.proofs.proof import Evidence, Verdict
from deid.rules import OPTIONAL, ResearchView, Rules
from deid.sql_on_fhir.compiler import name, text

QUASI_IDENTIFIERS: Final = OPTIONAL | {"enum"}
"""Kinds of the patient's columns that others may know of a person."""
SMALL: Final = 11
"""Classes with fewer patients are counted as small: the least cell that CMS lets be published."""


def k_anonymity(folder: Path, rules: Rules) -> dict[str, Any]:
    """The facts about research tables that stand in `folder`.

    `patients` and `classes` are counts, `smallest_k` the least class, `in_classes_below_11` the
    patients in small classes and `share_below_11` their share, the risks probabilities.
    """
    person = rules.view("patient")
    lists = [column.name for column in person.columns if column.kind in QUASI_IDENTIFIERS]
    known = ", ".join(["anchor_year", "band", *map(name, lists)])
    with connect() as connection:
        found = fetch(
            connection,
            f"WITH bands AS ({_bands(folder, rules)}), classes AS (SELECT count(*) AS k FROM "
            f"{_source(folder, person)} LEFT JOIN bands USING (patient) GROUP BY {known}) "
            "SELECT count(*) AS classes, coalesce(sum(k), 0)::BIGINT AS patients, "
            "coalesce(min(k), 0) AS smallest, "
            f"coalesce(sum(k) FILTER (k < {SMALL}), 0)::BIGINT AS small FROM classes",
        ).to_pylist()[0]
    patients, classes, smallest = found["patients"], found["classes"], found["smallest"]
    return {
        "over": ", ".join(["age band", "anchor year", *lists]),
        "patients": patients,
        "classes": classes,
        "smallest_k": smallest,
        f"in_classes_below_{SMALL}": found["small"],
        f"share_below_{SMALL}": _share(found["small"], patients),
        "highest_prosecutor_risk": _share(1, smallest),
        # Each class adds k patients at 1/k.
        "mean_prosecutor_risk": _share(classes, patients),
    }


def _bands(folder: Path, rules: Rules) -> str:
    """Each patient's age band at the latest moment at which a view tells an age."""
    ages = [
        f"SELECT patient, {name(column.name)} AS age FROM {_source(folder, view)}"
        for view in rules.views
        for column in view.of("age")
    ]
    told = " UNION ALL ".join(ages) or "SELECT NULL::BIGINT AS patient, NULL::SMALLINT AS age"
    band = f"least(max(age) // 10 * 10, {OLDEST_AGE})"
    return f"SELECT patient, {band} AS band FROM ({told}) GROUP BY patient"


def _source(folder: Path, view: ResearchView) -> str:
    files = ", ".join(text(str(path)) for path in sorted((folder / view.name).glob("*.parquet")))
    return f"read_parquet([{files}], hive_partitioning = false)"


def _share(part: int, whole: int) -> float:
    return float(f"{part / whole:.4g}") if whole else 0.0


def verdict(evidence: Evidence) -> Verdict:
    """It is reported, and never fails."""
    detail = k_anonymity(evidence.folder, evidence.rules)
    return Verdict("k-anonymity, reported only", True, detail)
