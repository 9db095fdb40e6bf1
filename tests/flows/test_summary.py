from __future__ import annotations

import json
from typing import Any

from flows import exit_codes, summary


def view(kept: int, *, adds_up: bool) -> dict[str, Any]:
    return {
        "view": "condition",
        "rows": 10,
        "kept": kept,
        "dropped": {"entered-in-error": 2},
        "quarantined": {"breaks the view's types": 1},
        "adds_up": adds_up,
    }


def test_rows_that_do_not_add_up_are_marked() -> None:
    balanced = summary.as_text({"views": [view(7, adds_up=True)]})
    assert "kept + dropped + quarantined = resources" in balanced
    assert "✗" not in balanced
    lost = summary.as_text({"views": [view(7, adds_up=True), view(6, adds_up=False)]})
    assert "kept + dropped + quarantined ≠ resources" in lost
    assert lost.count("✗") == 1


def test_reasons_are_added_up_over_the_views() -> None:
    text = summary.as_text({"views": [view(7, adds_up=True)] * 3})
    reasons = [line.split() for line in text.splitlines() if "entered-in-error" in line]
    assert reasons == [["entered-in-error", "6"]]


def test_rows_lost_on_the_way_show() -> None:
    landing = {
        "server_rows": 7,
        "landed_rows": 4,
        "equal": False,
        "rows": {"Patient": 4},
        "quarantined": {},
        "left_out": {"opted-out": 2},
        "applied_here": ["_elements"],
        "findings": [
            {
                "severity": "warning",
                "kind": "duplicate",
                "type": "Patient",
                "expected": 3,
                "found": 4,
            }
        ],
    }
    text = summary.as_text({"landing": landing})
    assert "7 rows on the server ≠ 4 landed + 2 left out" in text
    assert "left out: opted-out 2" in text
    assert "rejected by the server, applied here: _elements" in text
    assert "warning, duplicate: Patient 4 of 3" in text


def test_a_run_without_a_model_says_why_and_has_its_own_exit_code() -> None:
    facts = {"not_trained": "Too few events to train on (3, where 50 are needed)."}
    assert summary.exit_code(facts) == exit_codes.NOT_TRAINED
    told = json.loads(summary.as_json(facts))
    assert told["outcome"] == exit_codes.MEANINGS[exit_codes.NOT_TRAINED]
    assert "Too few events to train on (3, where 50 are needed)." in summary.as_text(facts)


def test_a_stage_that_an_earlier_run_did_shows_no_rate() -> None:
    cost = {"stage": "deid", "seconds": 0.3, "peak_mb": 1, "input_mb": 2, "mb_per_cpu_second": 9}
    fresh = summary.as_text({"stages": [{**cost, "skipped": False}]})
    again = summary.as_text({"stages": [{**cost, "skipped": True}]})
    assert "9.00" in fresh
    assert "9.00" not in again
    assert "sealed by an earlier run" in again
