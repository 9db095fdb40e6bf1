"""When a code was in use: what a code tells of the calendar, and what is done about it.

A row that was known at an offset k has been written at the patient's zero plus k, and the zero lies
in the anchor year: its earliest moment is the year's first plus k, its latest a year later. A code
that came into use between these two tells on which side of that date the zero lies. Such a code is
RARE for that patient there. Whether it is so is decided by what is released alone (the anchor year
and the offset), so its absence tells nothing either.

A code that came into use after even the latest moment was mapped onto an older record, as ICD-10-CM
is onto problem lists from before October 2015: it tells nothing, and stays.

A code that went out of use is the same the other way round: it tells on which side of its last day
the zero lies, but on a record that is later altogether.

A code of its own thing, such as a vaccine's, dates the event as well as the record: there the
event's time is held to the same. A whole system's first or last day dates records alone.
"""

from __future__ import annotations

import calendar
from datetime import date
from typing import Final

import pyarrow as pa

from deid.rules import Rules
from deid.vocabulary import Vocabulary

WORDS: Final = pa.schema(
    {
        "word": pa.string(),
        "in_use_from": pa.int64(),
        "in_use_until": pa.int64(),
        "own": pa.bool_(),
    }
)
DAY: Final = 86_400
"""Seconds: what is dated by a day alone is known at the end of it."""


def dated_words(vocabulary: Vocabulary, rules: Rules) -> pa.Table:
    """The frozen vocabulary: `word`, `in_use_from`, and `in_use_until` (before which it was in
    use), seconds from 1970 (wall clock), or null; `own` where a date is not its whole system's.

    `rules.code_dates` holds words, and prefixes with a `*`, with the day from which they are in
    use, or two days as an interval of ISO 8601: `/2015-10-01` has an end alone. Of all that fit a
    word the latest start and the earliest end count.
    """
    exact = {word: day for word, day in rules.code_dates.items() if not word.endswith("*")}
    prefixes = [(word[:-1], day) for word, day in rules.code_dates.items() if word.endswith("*")]
    rows = []
    for word in sorted(vocabulary.codes):
        fitting = [(prefix, days) for prefix, days in prefixes if word.startswith(prefix)]
        fitting += [(word, exact[word])] if word in exact else []
        spans = [days.partition("/") for _, days in fitting]
        starts = [start for start, _, _ in spans if start]
        ends = [end for _, _, end in spans if end]
        own = any(not fits.endswith(":") for fits, _ in fitting)
        rows.append((word, _seconds(max(starts, default="")), _seconds(min(ends, default="")), own))
    columns = zip(*rows, strict=True) if rows else ((),) * len(WORDS)
    return pa.table(dict(zip(WORDS.names, map(list, columns), strict=True)), WORDS)


def _seconds(day: str) -> int | None:
    return calendar.timegm(date.fromisoformat(day).timetuple()) if day else None


def tells_the_date(entry: str, known_at: str, time: str) -> str:
    """SQL: whether a code that is in use between its days narrows the zero of a row.

    `entry` is what `dated_words` has of the code; `known_at` and `time` are the row's seconds.
    Expects the anchor year's first and last moment as `w.year_begins` and `w.year_ends`.
    """
    cases = [
        f"({extra}{entry}.{day} > w.year_begins + {moment} - {DAY} "
        f"AND {entry}.{day} < w.year_ends + {moment})"
        for day in ("in_use_from", "in_use_until")
        for moment, extra in ((known_at, ""), (time, f"{entry}.own AND "))
    ]
    return f"coalesce({' OR '.join(cases)}, false)"
