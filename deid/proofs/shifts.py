"""By how many days a patient's dates may move so that nothing which may be told changes.

What may be told is the anchor year, ages, the order and the distance of events, and on which side
of the export, and of each birthday from the 90th on, each one lies.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from typing import Final

from deid.identity.crosswalk import OLDEST_AGE

FARTHEST: Final = 180
"""Days."""
SENTINELS: Final = frozenset({date(1901, 1, 1), date(1969, 12, 31), date(1970, 1, 1)})
"""What other systems write where they know no date (`plausible` in deid/engine.py)."""


def settled(written: str) -> bool:
    """Whether a FHIR date or time has a day, and one that the rules take for a real one."""
    read = _moment(written)
    return read is not None and _plausible(read)


def shift(
    moments: Sequence[str],
    births: Sequence[str],
    zeros: Sequence[datetime],
    exported: datetime,
    seed: str,
) -> int:
    """Days, not 0 if that can be; the seed decides among those that can.

    `moments` are all dates of the patient, `births` the birth dates told, `zeros` where its
    timelines begin.
    """
    born = {_moment(birth) for birth in births}
    if len(born) > 1 or not zeros:
        return 0
    birth = born.pop() if born else None
    if birth is not None and not _plausible(birth):
        return 0
    read = [moment for moment in map(_moment, moments) if moment is not None]
    days = [day for day in range(-FARTHEST, FARTHEST + 1) if day]
    days.sort(key=lambda day: hashlib.sha256(f"{seed} {day}".encode()).digest())
    for day in days:
        by = timedelta(day)
        if all((zero + by).year == zero.year for zero in zeros) and all(
            _told(moment, birth, exported) == _told(moment + by, birth and birth + by, exported)
            for moment in read
        ):
            return day
    return 0


def _told(moment: datetime, birth: datetime | None, exported: datetime) -> tuple[int, ...]:
    """What the rules ask of a moment, but for its distance from others."""
    bare_year = (moment.month, moment.day, moment.time()) == (1, 1, time())
    return (
        _plausible(moment),
        bare_year,
        moment <= exported,
        0 if birth is None else max(OLDEST_AGE - 1, _age(birth, moment)),
    )


def _age(birth: datetime, moment: datetime) -> int:
    years = moment.year - birth.year
    return years - (moment < _birthday(birth, years))


def _birthday(birth: datetime, years: int) -> datetime:
    try:
        return birth.replace(year=birth.year + years)
    except ValueError:  # born on a leap day
        return birth.replace(year=birth.year + years, day=28)


def _plausible(moment: datetime) -> bool:
    inside = datetime(1900, 1, 2) < moment < datetime(2200, 1, 1)
    return inside and moment.date() not in SENTINELS


def _moment(written: str) -> datetime | None:
    """The wall clock time that is written, as the rules read it: without fractions and zone."""
    if len(written) < len("2000-01-01"):
        return None
    try:
        return datetime.fromisoformat(written[:19]).replace(tzinfo=None)
    except ValueError:
        return None
