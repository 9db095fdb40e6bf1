"""New surrogates for everybody: releases from before and after can't be joined by surrogate.

Zeros and anchor years stay, and so do all offsets, codes and numbers: rows still look alike, and
whoever has both releases can match patients by those. The old surrogates are never given again,
and can still be looked up.
"""

from __future__ import annotations

from pathlib import Path

from deid.identity.custody import carry_out, present_crosswalks
from deid.identity.orders import order_rotation, read_orders


def rotate_surrogates(phi: Path, reason: str) -> int:
    """Renew all surrogates below `phi`; how many there are in force.

    One that was noted and then cut short is carried out, and no second one ordered. Raises
    `FhirloomError` (bad-input) without a reason, and where a crosswalk does not open.
    """
    ordered = read_orders(phi).rotations
    if all(walk.rotations >= ordered for walk in present_crosswalks(phi)):
        order_rotation(phi, reason)
    carry_out(phi)
    return sum(
        len(walk.read(name, ["surrogate"])["surrogate"].unique())
        for walk in present_crosswalks(phi)
        for name in ("patients", "encounters")
    )
