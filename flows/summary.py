"""The closing summary: the same facts for a person, 80 columns wide, and as JSON."""

from __future__ import annotations

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from textwrap import wrap
from typing import Any, Final, TypeAlias

from flows.exit_codes import COMPLETE, MEANINGS, NOT_TRAINED, OF_ERROR

Facts: TypeAlias = dict[str, Any]

WIDTH: Final = 80
LABEL: Final = 12
FILE: Final = "summary.json"


def exit_code(facts: Facts) -> int:
    """What the command answers to the shell."""
    if "error" in facts:
        return OF_ERROR[facts["error"]["code"]]
    return NOT_TRAINED if "not_trained" in facts else COMPLETE


def as_json(facts: Facts) -> str:
    """The facts for a script, with the exit code and what it means."""
    code = exit_code(facts)
    outcome = {"exit_code": code, "outcome": MEANINGS[code]}
    return json.dumps({**outcome, **facts}, indent=1, ensure_ascii=False)


def save_summary(facts: Facts, research: Path) -> None:
    """Keep the JSON as `research/summary.json`, also for runs that nobody watches.

    For a limited data set, `research` is `phi/limited`.
    """
    research.mkdir(parents=True, exist_ok=True)
    aside = research / f".{FILE}-{os.getpid()}"
    aside.write_text(as_json(facts))
    aside.replace(research / FILE)


def as_text(facts: Facts) -> str:
    """The facts for a person: whichever sections the facts have."""
    sections = {
        "Policy": _policy,
        "Landed": _landed,
        "Kept": _views,
        "Proven": _proofs,
        "Notes": _notes,
        "Cohort": _cohort,
        "Model": _model,
        "Cost": _costs,
        "Where": _places,
    }
    lines = []
    for title, section in sections.items():
        for number, line in enumerate(section(facts)):
            lines.append(f"{'' if number else title:<{LABEL}}{line}".rstrip())
        if lines and lines[-1]:
            lines.append("")
    return "\n".join([*lines, f"{MEANINGS[exit_code(facts)]}."])


def _policy(facts: Facts) -> Iterator[str]:
    if "policy" in facts:
        yield from wrap(facts["policy"]["label"], WIDTH - LABEL)


def _landed(facts: Facts) -> Iterator[str]:
    landing = facts.get("landing")
    if landing is None:
        return
    parts = {
        "landed": landing["landed_rows"],
        "quarantined": sum(landing["quarantined"].values()),
        "left out": sum(landing["left_out"].values()),
    }
    told_parts = " + ".join(f"{rows:,} {part}" for part, rows in parts.items() if rows) or "0"
    if landing["server_rows"] is None:
        yield f"rows: {told_parts}; nobody counted them at the source"
    else:
        sign = "=" if landing["equal"] else "≠"
        yield f"{landing['server_rows']:,} rows on the server {sign} {told_parts}"
    yield from _folded(landing["rows"], "")
    yield from _folded(landing["quarantined"], "quarantined lines: ")
    yield from _folded(landing["left_out"], "left out: ")
    if landing["applied_here"]:
        refused = ", ".join(landing["applied_here"])
        yield from wrap(f"rejected by the server, applied here: {refused}", WIDTH - LABEL)
    disagreements: defaultdict[str, Facts] = defaultdict(dict)
    for found in landing["findings"]:
        if found["severity"] != "info":
            of = f" of {found['expected']:,}" if found["expected"] else ""
            amount = f"{found['found']:,}{of}"
            disagreements[f"{found['severity']}, {found['kind']}: "][found["type"]] = amount
    for about, amounts in disagreements.items():
        yield from _folded(amounts, about)


def _views(facts: Facts) -> Iterator[str]:
    views = facts.get("views")
    if not views:
        return
    widest = max(len(view["view"]) for view in views) + 1
    yield f"{'view':<{widest}}{'resources':>10}{'kept':>11}{'dropped':>9}{'quarantined':>12}"
    for view in views:
        dropped, quarantined = sum(view["dropped"].values()), sum(view["quarantined"].values())
        sign = "" if view["adds_up"] else "  ✗"
        yield (
            f"{view['view']:<{widest}}{view['rows']:>10,}{view['kept']:>11,}"
            f"{dropped:>9,}{quarantined:>12,}{sign}"
        )
    together = all(view["adds_up"] for view in views)
    yield f"kept + dropped + quarantined {'=' if together else '≠'} resources, in every view"
    reasons: Counter[str] = Counter()
    for view in views:
        reasons.update(view["dropped"])
        reasons.update(view["quarantined"])
    for reason, rows in reasons.most_common():
        yield f"  {reason:<44}{rows:>11,}"


def _proofs(facts: Facts) -> Iterator[str]:
    for proof in facts.get("proofs", []):
        detail = dict(proof["detail"])
        yield f"{'✓' if proof['passed'] else '✗'} {proof['name']}"
        if "lines_of_the_input" in detail:
            hits = sum(sum(detail.pop(name).values()) for name in ("string_hits", "number_hits"))
            yield f"  {hits:,} identifiers of the input found in the output"
            found = "found" if detail.pop("negative_control_found") else "NOT found"
            yield f"  the planted identifier (negative control) was {found}"
        # By class, by location and by type they fill pages: the attestation's.
        short = {
            name: sum(value.values()) if isinstance(value, Mapping) else value
            for name, value in detail.items()
            if not name.startswith("by_")
        }
        yield from (f"  {line}" for line in wrap(told(short), WIDTH - LABEL - 2))
    if facts.get("stated") is False:
        yield "! no actual knowledge: not stated yet (fhirloom attest state)"


def _notes(facts: Facts) -> Iterator[str]:
    notes = facts.get("notes")
    if notes is None:
        return
    yield from wrap(f"! {notes['label']}", WIDTH - LABEL)
    yield f"{notes['notes']:,} notes"
    yield from _folded(notes["left_out"], "left out: ")
    yield from _folded(notes["replaced"], "replaced: ")
    for proof in notes["proofs"]:
        yield f"{'✓' if proof['passed'] else '✗'} {proof['name']}"
    measured = notes["measured"]
    if measured and measured["recall"]["all"]["planted"]:
        recall = measured["recall"]["all"]
        yield f"planted identifiers: {recall['planted']:,}, left {recall['left']:,}"
        yield f"recall {recall['share']:.2%} (at least {recall['at_least']:.2%})"
        yield f"precision {measured['precision']:.1%}"


def _cohort(facts: Facts) -> Iterator[str]:
    cohort = facts.get("cohort")
    if cohort is None:
        return
    share = cohort["events"] / cohort["index_events"] if cohort["index_events"] else 0.0
    index = f"{cohort['task']}: {cohort['index_events']:,} index events"
    yield f"{index}, {cohort['features']} features"
    yield f"{cohort['events']:,} with the event ({share:.1%}), {cohort['died_first']:,} died first"
    yield f"{'step':<44}{'stays':>11}{'patients':>12}"
    for step in cohort["attrition"]:
        first, *rest = wrap(str(step["step"]), 43) or [""]
        yield f"{first:<44}{step['stays']:>11,}{step['patients']:>12,}"
        yield from (f"  {line}" for line in rest)


def _model(facts: Facts) -> Iterator[str]:
    if "not_trained" in facts:
        yield from wrap(facts["not_trained"], WIDTH - LABEL)
    model = facts.get("model")
    if model is None:
        return
    train, test = model["train"], model["test"]
    yield f"{model['recipe']}, trained on {train['rows']:,} stays with {train['events']:,} events,"
    yield f"tested on {test['rows']:,} stays with {test['events']:,} events of later years"
    yield f"AUROC  model      {_interval(model['auroc'])}"
    for name, area in model["comparators"].items():
        called = name if name == "oracle" else name.upper()
        yield f"       {called:<11}{_interval(area)}"
    parity = model["parity"]
    rows, made = parity["rows"], parity["adversarial_rows"]
    yield f"ONNX = native: at most {parity['largest']:.2g} apart on {rows:,} test rows,"
    yield f"{parity['adversarial_largest']:.2g} on {made:,} rows made to differ"
    registered = facts["registered"]
    yield f"registered {registered['name']} version {registered['version']}, {registered['alias']}"


def _costs(facts: Facts) -> Iterator[str]:
    if not facts.get("stages"):
        return
    yield f"{'stage':<14}{'seconds':>12}{'peak MB':>13}{'input MB':>12}{'MB/CPU s':>14}"
    for cost in facts["stages"]:
        if cost["skipped"]:
            yield f"{cost['stage']:<14}{cost['seconds']:>12,.1f}  sealed by an earlier run"
            continue
        yield (
            f"{cost['stage']:<14}{cost['seconds']:>12,.1f}{cost['peak_mb']:>13,}"
            f"{cost['input_mb']:>12,.1f}{cost['mb_per_cpu_second']:>14,.2f}"
        )


def _places(facts: Facts) -> Iterator[str]:
    for name in ("report", "attestation", "tables", "text", "matrix", "bundle"):
        if name in facts:
            yield f"{name:<13}{_near(facts[name])}"
    if "mlflow_ui" in facts:
        yield facts["mlflow_ui"]


def _near(path: str) -> str:
    """The path as seen from here, where that is shorter: it is there to be copied."""
    return min(path, os.path.relpath(path), key=len)


def _interval(estimate: Mapping[str, Any]) -> str:
    if estimate["value"] is None:
        return "not known"
    if estimate["low"] is None:
        return f"{estimate['value']:.3f}"
    return f"{estimate['value']:.3f}  ({estimate['low']:.3f} to {estimate['high']:.3f})"


def _folded(counts: Mapping[str, Any], lead: str, *, width: int = WIDTH - LABEL) -> list[str]:
    """`lead` and the counts, folded at the width; nothing where there are no counts."""
    return wrap(lead + told(counts), width, subsequent_indent="  ") if counts else []


def told(value: Any) -> str:
    """A count, a setting or a mapping of them, as a person reads it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        named = (f"{name.replace('_', ' ')} {told(inner)}" for name, inner in value.items())
        return ", ".join(named) or "none"
    return f"{value:,}" if isinstance(value, int) else str(value)
