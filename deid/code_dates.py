"""From when on a code was in use: what a code tells of the calendar, and what is done about it.

A row that was known at an offset k has been written at the patient's zero plus k, and the zero lies
in the anchor year: its earliest moment is the year's first plus k, its latest a year later. A code
that came into use between these two tells on which side of that date the zero lies. Such a code is
RARE for that patient there. Whether it is so is decided by what is released alone (the anchor year
and the offset), so its absence tells nothing either.

A code that came into use after even the latest moment was mapped onto an older record, as ICD-10-CM
is onto problem lists from before October 2015: it tells nothing, and stays.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from deid.rules import Rules
from deid.vocabulary import Vocabulary

WORDS: Final = pa.schema({"word": pa.string(), "in_use_from": pa.int64()})


def dated_words(vocabulary: Vocabulary, rules: Rules) -> pa.Table:
    """The frozen vocabulary: `word`, and `in_use_from`, seconds from 1970 (wall clock), or null.

    `rules.code_dates` holds words, and prefixes with a `*`; the latest date that fits counts.
    """
    words = pa.array(sorted(vocabulary.codes), pa.string())
    exact = {word: day for word, day in rules.code_dates.items() if not word.endswith("*")}
    prefixes = [(word[:-1], day) for word, day in rules.code_dates.items() if word.endswith("*")]
    days = [
        max(
            (
                *(day for prefix, day in prefixes if word.startswith(prefix)),
                *([exact[word]] if word in exact else []),
            ),
            default=None,
        )
        for word in words.to_pylist()
    ]
    seconds = pa.array(days, pa.string()).cast(pa.timestamp("s")).cast(pa.int64())
    return pa.table({"word": words, "in_use_from": seconds}, WORDS)


def tells_the_date(in_use_from: str, known_at: str) -> str:
    """SQL: whether a code that is in use from then on narrows the zero of a row known at that time.

    Expects the anchor year's first and last moment as `w.year_begins` and `w.year_ends`.
    """
    return (
        f"coalesce({in_use_from} > w.year_begins + {known_at} "
        f"AND {in_use_from} < w.year_ends + {known_at}, false)"
    )
