"""What a service must fetch to make a live row: CDS Hooks prefetch templates, from the features.

The minimum necessary (45 CFR 164.502(b)): only resource types that a feature reads, and of
observations only the codes that one names. Spec: CDS Hooks 2.0, prefetch template.
"""

from __future__ import annotations

from typing import Final

from deid.rules import Rules
from features.spec import FeatureSpec

PATIENT: Final = "{{context.patientId}}"
ALWAYS: Final = ("Patient", "Encounter")
"""Who it is, and the stays that date what has no date of its own."""


def prefetch_templates(spec: FeatureSpec, rules: Rules) -> dict[str, str]:
    """A template for each resource type that the spec's features need, by its prefetch key."""
    resources = {
        *ALWAYS,
        *(rules.view(feature.view).view.resource for feature in spec.features),
    }
    return {resource.lower(): _template(resource, spec, rules) for resource in sorted(resources)}


def _included(resource: str, rules: Rules) -> str:
    """What brings the Medications along to which orders and doses refer for the drug."""
    refers = any(view.of("resolves") for view in rules.views if view.view.resource == resource)
    return f"&_include={resource}:medication" if refers else ""


def _template(resource: str, spec: FeatureSpec, rules: Rules) -> str:
    if resource == "Patient":
        return f"Patient/{PATIENT}"
    query = f"{resource}?patient={PATIENT}{_included(resource, rules)}"
    if resource != "Observation":
        return query
    named = [feature.codes for feature in spec.features if feature.view == "observation"]
    if any(codes is None or codes.prefixes for codes in named):
        return query
    systems = {short: uri for uri, short in list(rules.systems.items())[::-1]}
    codes = sorted({code for codes in named if codes is not None for code in codes.exact})
    tokens = (code.split(":", 1) for code in codes)
    return f"{query}&code={','.join(f'{systems[system]}|{code}' for system, code in tokens)}"
