"""The kernel against a reference that loops over rows, and the laws that make it trustworthy."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from itertools import product
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.kernel import Index, compute
from features.spec import OF_ROWS, VIEWS, Aggregate, Feature, Membership
from features.valuesets import value_set

HOUR, DAY = 3600, 86400
CODES = value_set("some", ["loinc:2160-0", "icd10cm:I50*"])

Rows = dict[str, list[dict[str, Any]]]
TablesOf = Callable[[Mapping[str, Any]], dict[str, pa.Table]]


def feature(view: str, aggregate: Aggregate, window: int | None, **more: Any) -> Feature:
    return Feature(f"{view}_{aggregate}", view, aggregate, window, "h", "", **more)


FEATURES = [
    *(
        feature(
            "observation",
            aggregate,
            window,
            codes=CODES,
            value=None if aggregate in OF_ROWS else "value",
        )
        for aggregate, window in product(get_args(Aggregate), (6 * HOUR, 48 * HOUR, None))
    ),
    feature("observation", "mean", None, value="value"),
    feature("admission", "last", None, value="age"),
    feature("admission", "last", None, value=Membership("priority", ("EL",))),
    feature("admission", "mean", 48 * HOUR, value=Membership("priority", ("EL", "R"))),
    feature(
        "admission",
        "count",
        None,
        where=(Membership("class", ("ACUTE", "IMP")), Membership("priority", ("EL",))),
    ),
    feature("condition", "ever", None, codes=CODES),
    feature("patient", "ever", None, where=(Membership("sex", ("female",)),)),
]


# Few enough for ties, and at the very edges of the windows that FEATURES look back.
HOURS = st.sampled_from((-30, 0, 6, 12, 18, 24, 47, 48, 49, 54, 60, 102))


def events(values: st.SearchStrategy[float], patients: Sequence[int]) -> st.SearchStrategy[Rows]:
    """Rows whose times tie often, which often become known later, and of which some have none."""

    def rows(**columns: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
        lag = st.sampled_from((0, 0, 0, 1, 1, 48, None))
        row = st.tuples(HOURS, lag, st.fixed_dictionaries(columns)).map(timed)
        return st.lists(row, max_size=20)

    def timed(drawn: tuple[int, int | None, dict[str, Any]]) -> dict[str, Any]:
        hour, lag, columns = drawn
        time = None if lag is None else hour * HOUR
        return {"time": time, "known_at": (hour + (lag or 0)) * HOUR, **columns}

    patient = st.sampled_from(patients)
    code = st.sampled_from(("loinc:2160-0",) * 4 + ("icd10cm:I50.9", "icd10cm:I5", "RARE", None))
    sex = st.sampled_from(("female", "male", None))
    return st.fixed_dictionaries(
        {
            "patient": st.fixed_dictionaries(dict.fromkeys(patients, sex)).map(
                lambda sexes: [{"patient": p, "sex": s} for p, s in sexes.items()]
            ),
            "observation": rows(patient=patient, code=code, value=st.none() | values),
            "condition": rows(patient=patient, code=code),
            "admission": rows(
                patient=patient,
                age=st.none() | st.integers(0, 90),
                priority=st.sampled_from(("EL", "EM", "R", None)),
                **{"class": st.sampled_from(("IMP", "EMER", None))},
            ),
        }
    )


def index_events(patients: Sequence[int]) -> st.SearchStrategy[list[tuple[int, int]]]:
    times = HOURS.map(lambda hour: hour * HOUR)
    return st.lists(st.tuples(st.sampled_from(patients), times), max_size=8)


EIGHTHS = st.integers(-80, 80).map(lambda number: number / 8)
REALS = st.sampled_from((0.0, -0.0, 0.1, 0.7, float("nan"), float("inf"))) | st.floats(-1e6, 1e6)
PATIENTS = (7, -3, 2**62)
MINE, OTHERS = (7,), (-3, 8, 2**62)


def kernel(rows: Rows, index: list[tuple[int, int]], tables_of: TablesOf) -> Any:
    patient, time = (np.array([pair[i] for pair in index], np.int64) for i in (0, 1))
    return compute(tables_of(rows), Index(patient, time), FEATURES)


def reference(rows: Rows, patient: int, t: int, feature: Feature) -> float | Fraction:
    """One feature of one index event, in the words of the specification."""
    seen = [row for row in rows[feature.view] if row["patient"] == patient]
    if not VIEWS[feature.view].static:
        seen = [row for row in seen if row["known_at"] < t]
    if feature.window is not None or feature.aggregate not in ("count", "ever"):
        seen = [row for row in seen if row.get("time", t) is not None]
    if feature.window is not None:
        seen = [row for row in seen if t - feature.window <= row["time"]]
    if feature.codes is not None:
        seen = [row for row in seen if row["code"] in feature.codes]
    for member in feature.where:
        seen = [row for row in seen if row[member.column] in member.values]
    match feature.aggregate:
        case "count":
            return len(seen)
        case "ever":
            return bool(seen)
        case "time_since":
            latest = max((row["time"] for row in seen), default=None)
            return float("nan") if latest is None else Fraction(t - latest, HOUR)
    return summed_up(feature, [(row["time"], value_of(row, feature)) for row in seen])


def value_of(row: dict[str, Any], feature: Feature) -> Fraction | None:
    if isinstance(feature.value, Membership):
        return Fraction(row[feature.value.column] in feature.value.values)
    value = row[str(feature.value)]
    return None if value is None else Fraction(value)


def summed_up(feature: Feature, found: list[tuple[int, Fraction | None]]) -> float | Fraction:
    pairs = sorted((time, value) for time, value in found if value is not None)
    values = [value for _, value in pairs]
    if not values:
        return float("nan")
    match feature.aggregate:
        case "last":
            return values[-1]
        case "first":
            return values[0]
        case "min":
            return min(values)
        case "max":
            return max(values)
        case "mean":
            return sum(values, Fraction()) / len(values)
    days = [Fraction(time, DAY) for time, _ in pairs]
    mean_day, mean = sum(days, Fraction()) / len(days), sum(values, Fraction()) / len(values)
    spread = sum(((day - mean_day) ** 2 for day in days), Fraction())
    together = [(d - mean_day) * (v - mean) for d, v in zip(days, values, strict=True)]
    return sum(together, Fraction()) / spread if spread else float("nan")


@settings(max_examples=200, deadline=None)
@given(rows=events(EIGHTHS, PATIENTS), index=index_events(PATIENTS))
def test_equals_the_reference(
    rows: Rows, index: list[tuple[int, int]], tables_of: TablesOf
) -> None:
    got = kernel(rows, index, tables_of)
    assert got.shape == (len(index), len(FEATURES))
    for column, wanted in enumerate(FEATURES):
        expected = np.array([float(reference(rows, p, t, wanted)) for p, t in index], np.float32)
        if wanted.aggregate == "slope":
            np.testing.assert_allclose(got[:, column], expected, rtol=2e-7, atol=1e-9)
        else:
            np.testing.assert_array_equal(got[:, column], expected)


@settings(max_examples=60, deadline=None)
@given(
    rows=events(REALS, PATIENTS),
    index=index_events(PATIENTS),
    shifts=st.fixed_dictionaries(dict.fromkeys(PATIENTS, st.integers(-(10**12), 10**12))),
)
def test_the_zero_of_a_patients_times_does_not_matter(
    rows: Rows, index: list[tuple[int, int]], shifts: dict[int, int], tables_of: TablesOf
) -> None:
    shifted = {
        view: [
            row
            | {
                key: row[key] + shifts[row["patient"]]
                for key in ("time", "known_at")
                if row.get(key) is not None
            }
            for row in listed
        ]
        for view, listed in rows.items()
    }
    moved = [(patient, time + shifts[patient]) for patient, time in index]
    assert kernel(rows, index, tables_of).tobytes() == kernel(shifted, moved, tables_of).tobytes()


@settings(max_examples=60, deadline=None)
@given(
    rows=events(REALS, MINE),
    index=index_events(MINE),
    others=events(REALS, OTHERS),
    other_index=index_events(OTHERS),
)
def test_other_patients_do_not_matter(
    rows: Rows,
    index: list[tuple[int, int]],
    others: Rows,
    other_index: list[tuple[int, int]],
    tables_of: TablesOf,
) -> None:
    everyone = {view: others[view] + rows[view] for view in rows}
    alone = kernel(rows, index, tables_of)
    together = kernel(everyone, other_index + index, tables_of)[len(other_index) :]
    assert alone.tobytes() == together.tobytes()


@settings(max_examples=60, deadline=None)
@given(rows=events(REALS, MINE), more=events(REALS, MINE), t=HOURS)
def test_what_becomes_known_at_the_index_or_later_does_not_matter(
    rows: Rows, more: Rows, t: int, tables_of: TablesOf
) -> None:
    late = {
        view: [row for row in listed if row.get("known_at", t * HOUR - 1) >= t * HOUR]
        for view, listed in more.items()
    } | {"patient": []}
    index = [(7, t * HOUR)]
    both = {view: rows[view] + late[view] for view in rows}
    assert kernel(rows, index, tables_of).tobytes() == kernel(both, index, tables_of).tobytes()


@settings(max_examples=60, deadline=None)
@given(rows=events(REALS, PATIENTS), index=index_events(PATIENTS), data=st.data())
def test_the_order_of_rows_and_index_events_does_not_matter(
    rows: Rows, index: list[tuple[int, int]], data: st.DataObject, tables_of: TablesOf
) -> None:
    shuffled = {view: data.draw(st.permutations(listed)) for view, listed in rows.items()}
    order = data.draw(st.permutations(range(len(index))))
    straight = kernel(rows, index, tables_of)
    again = kernel(shuffled, [index[position] for position in order], tables_of)
    assert straight[list(order)].tobytes() == again.tobytes()


def test_long_sums_are_equal_to_the_bit_alone_and_in_company() -> None:
    rng = np.random.default_rng(11)
    size = 20_000
    time = rng.integers(0, 400 * DAY, size)
    table = pa.table(
        {
            "patient": rng.integers(0, 8, size),
            "time": time,
            "known_at": time + rng.choice([0, 0, 0, 9 * DAY], size),
            "code": pa.array(["loinc:2160-0"] * size),
            "value": rng.lognormal(size=size),
        }
    )
    index = Index(np.repeat(np.arange(8), 5), rng.integers(0, 400 * DAY, 40))
    sums = [f for f in FEATURES if f.view == "observation"]
    together = compute({"observation": table}, index, sums)
    assert np.isfinite(together).mean() > 0.8
    for row in range(40):
        own = table.filter(pa.array(table["patient"].to_numpy() == index.patient[row]))
        alone = Index(index.patient[row : row + 1], index.time[row : row + 1])
        assert compute({"observation": own}, alone, sums).tobytes() == together[row].tobytes()


@pytest.mark.parametrize("encoded", [False, True], ids=["plain", "dictionary"])
def test_chunked_and_dictionary_columns_read_the_same(encoded: bool, tables_of: TablesOf) -> None:
    rows = [
        {"patient": 1, "time": hour, "known_at": hour, "code": code, "value": 1.0}
        for hour, code in enumerate(["loinc:2160-0", None, "RARE", "loinc:2160-0"])
    ]
    table = pa.concat_tables(
        tables_of({"observation": rows[start : start + 2]})["observation"] for start in (0, 2)
    )
    if encoded:
        table = table.set_column(4, "code", table["code"].dictionary_encode())
    count = feature("observation", "count", None, codes=CODES)
    index = Index(np.array([1]), np.array([10]))
    assert compute({"observation": table}, index, [count])[0, 0] == 2


def test_zero_has_one_sign(tables_of: TablesOf) -> None:
    last = feature("observation", "last", None, value="value")
    index = Index(np.array([1]), np.array([10]))
    zeros = [{"patient": 1, "time": 1, "known_at": 1, "value": value} for value in (0.0, -0.0)]
    for rows in (zeros, zeros[::-1]):
        row = compute(tables_of({"observation": rows}), index, [last])
        assert not np.signbit(row[0, 0])
