"""ZIP codes: three digits are told where more than 20,000 people live, and nowhere else."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deid.geography import MOST_UNTOLD, UNTOLD, crowded_areas, zip3_sql, zip_sql
from exports.errors import FhirloomError

AREAS = st.sampled_from(
    [f"{head}{tail}" for head in ("000", "021", "039", "100") for tail in "0179"]
)
PEOPLE = st.integers(0, 30_000) | st.sampled_from([0, 10_000, 10_001, 20_000, 20_001])
WRITTEN = (
    st.from_regex(r"(000|021|039|100|999)[0-9]{2}([- ]?[0-9]{4})?", fullmatch=True)
    | st.text(max_size=12)
    | st.none()
)


def asked(sql: str, value: str | None) -> str | None:
    row = duckdb.execute(f"SELECT {sql} FROM (SELECT $1::VARCHAR AS raw)", [value]).fetchone()
    assert row is not None
    found: str | None = row[0]
    return found


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(AREAS.map(lambda area: area + "5"), PEOPLE, min_size=1), st.data())
def test_whatever_is_told_has_more_than_20_000_people(
    people: dict[str, int], data: st.DataObject
) -> None:
    living: Counter[str] = Counter()
    for area, number in people.items():
        living[area[:3]] += number
    with TemporaryDirectory() as folder:
        file = Path(folder) / "population.csv"
        file.write_text("\n".join(f"{area},{number}" for area, number in people.items()))
        try:
            told = crowded_areas(file)
        except FhirloomError:
            assert max(living.values()) <= MOST_UNTOLD
            return
    written = data.draw(WRITTEN)
    found = asked(zip3_sql("raw", told), written)
    digits = re.fullmatch(r"([0-9]{3})[0-9]{2}(?:[- ]?[0-9]{4})?", (written or "").strip())
    if digits is None:
        assert found is None
    elif living[digits[1]] > MOST_UNTOLD:
        assert found == digits[1]
    else:
        assert found == UNTOLD


@pytest.mark.parametrize(
    "lines",
    [
        ["zcta,population", "02138,20001", "03901,20000"],
        ["02138,20001", "03901,20000"],
        ["ZIP Code,Population", "02138,20001", "03901,20000"],
        ["zip3\tpopulation", "021\t20001", "039\t20000"],
        ["GEO_ID,NAME,P1_001N", "860Z200US02138,ZCTA5 02138,20001", "860Z200US03901,x,20000"],
        [
            "GEO_ID,NAME,B01003_001E,B01003_001M",
            'Geography,Geographic Area Name,Estimate!!Total,"Margin, of error"',
            "8600000US02138,ZCTA5 02138,20001,12",
            "8600000US03901,ZCTA5 03901,20000,9",
            "",
        ],
        ["P1_001N,zip code tabulation area", '"20,001",02138', "20000,03901"],
        ["GEOID|POP10|ALAND", "02138|12000|1", "02139|8001|2", "03901|20000|3"],
    ],
    ids=lambda lines: lines[0],
)
def test_the_forms_in_which_the_census_publishes_are_read(tmp_path: Path, lines: list[str]) -> None:
    file = tmp_path / "population.csv"
    file.write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    assert crowded_areas(file) == ("021",)


@pytest.mark.parametrize(
    ("content", "line", "what"),
    [
        ("place,people\n02138,99999\n", 1, "columns are not known"),
        ("02138,99999,1\n", 1, "columns are not known"),
        ("zcta,population\n02138,99999\n02138,1\n", 3, "stands twice"),
        ("zcta,population\n02138,99999\n2139,1\n", 3, "no ZIP code tabulation area"),
        ("zcta,population\n02138,99999\n601,1\n", 3, "five digits and some with three"),
        ("zcta,population\n02138,99999\n02139,n/a\n", 3, "not a whole number"),
        ("zcta,population\n02138,99999\n02139,-4\n", 3, "not a whole number"),
        ("zcta,population\n02138\n", 2, "too few columns"),
        ("GEO_ID,P1_001N\n0100000US,331449281\n", 2, "no ZIP code tabulation area"),
        ("zcta,population\n02138,20000\n", 0, "all would be 000"),
        ("", 0, "all would be 000"),
    ],
)
def test_other_files_are_refused_by_line_and_never_quoted(
    tmp_path: Path, content: str, line: int, what: str
) -> None:
    file = tmp_path / "population.csv"
    file.write_text(content)
    with pytest.raises(FhirloomError, match=what) as refused:
        crowded_areas(file)
    assert refused.value.where == "--zip3-population" + (f", line {line}" if line else "")
    for value in ("99999", "02138", "02139", "2139", "n/a", "331449281"):
        assert value not in str(refused.value)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "population.csv"
    file.write_bytes(b"zcta,population\n\xff\xfe\n")
    with pytest.raises(FhirloomError, match="no UTF-8"):
        crowded_areas(file)
    with pytest.raises(FhirloomError, match="no UTF-8"):
        crowded_areas(tmp_path / "nothing.csv")


@pytest.mark.parametrize(
    ("written", "five"),
    [
        ("02138", "02138"),
        (" 02138-1234 ", "02138"),
        ("021381234", "02138"),
        ("2138", None),
        ("K1A 0B1", None),
        ("02138-", None),
        ("", None),
        (None, None),
    ],
)
def test_a_zip_code_is_its_five_digits_or_nothing(written: str | None, five: str | None) -> None:
    assert asked(zip_sql("raw"), written) == five
