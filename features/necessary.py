"""What to ask a server for, so that the features in use can be computed, and no more.

The minimum necessary (45 CFR 164.502(b)) of a FHIR Bulk Data export, derived from a task and a
feature spec by way of the research views that they read:

    types          the views' resource types, and those that they refer to for a code;
                   Patient and Encounter are always among them
    type_filters   for a type of which every reader names exact codes: a search for these codes
    elements       of each type the root elements on its views' paths, and what tells merges

Over the same crosswalk, what is asked for so gives the same feature matrix as a whole export, to
the bit. A fresh crosswalk is another matter: a patient's zero is the first plausible record of
what was delivered, so that times may count from a later zero than in a whole export, and the
observed window may be shorter. A zero that was issued stays, whatever a later request leaves out.

A search sees the newest version of a resource alone. A result whose code is corrected to one that
nobody asks for is not sent again, and no increment can tell; a full export can.

Source: FHIR Bulk Data Access STU2, "Query Parameters"; FHIR R4, "Search".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from deid.rules import Rules
from deid.sql_on_fhir import fhir_types
from deid.sql_on_fhir.compiler import compile_view
from features.spec import Feature, FeatureSpec
from features.task import Task

MERGES: Final = ("Patient.active", "Patient.link")
"""What tells that two patients are one person (`exports.increments.links`); no view reads it."""
CODE_PARAMETERS: Final = {"Observation": "combo-code", "DocumentReference": "type"}
"""The search parameter that looks wherever a type's view reads codes, if it isn't `code`.

An Observation's view reads those of its components too: `code` would miss a blood pressure.
"""
REWRITTEN: Final = "icd10cm"
"""Codes that a view reads in other spellings too (without the dot, in lower case), which no search
for the one spelling finds."""


@dataclass(frozen=True)
class Necessity:
    """What narrows an `ExportRequest`, under the names that it has there; all in order.

    A type without a filter is asked for in all its resources, a type without elements in all of
    its elements. A choice such as `value[x]` stands in `elements` by both of its names (`value`
    and `valueQuantity`), for servers differ in which of the two they know.
    """

    types: tuple[str, ...]
    type_filters: tuple[str, ...]
    elements: tuple[str, ...]

    def widened(self, *, types: Collection[str] = (), elements: Collection[str] = ()) -> Necessity:
        """The same with these types whole (no filter, all elements), and these elements.

        Whoever must be recognised by an identifier (an opt-out list) needs `Patient.identifier`.
        """

        def narrow(search_or_element: str) -> bool:
            return re.split(r"[?.]", search_or_element)[0] not in types

        return Necessity(
            tuple(sorted({*self.types, *types})),
            tuple(filter(narrow, self.type_filters)),
            tuple(sorted({*filter(narrow, self.elements), *elements})),
        )


def necessary(task: Task, spec: FeatureSpec, rules: Rules) -> Necessity:
    """What the cohort and labels of `task`, its scores and the features of `spec` read."""
    features = [*spec.features, *(feature for score in task.scores for feature in score.features)]
    # The cohort's views are those that place a patient in time: `only` always keeps them.
    read = rules.only({feature.view for feature in features})
    types = sorted({view.view.resource for view in (*read.views, *read.auxiliary)})
    searches = (_search(resource_type, features, rules) for resource_type in types)
    elements = {element for resource_type in types for element in _elements(resource_type, rules)}
    return Necessity(
        tuple(types),
        tuple(search for search in searches if search),
        tuple(sorted({*elements, *MERGES})),
    )


def _search(resource_type: str, features: Sequence[Feature], rules: Rules) -> str:
    """A search of the type for the codes in use; "" where all of the type is needed.

    Whose code may stand in another resource, a Medication, is found by no search for it.
    """
    if any(view.of("resolves") for view in rules.views if view.view.resource == resource_type):
        return ""
    readers = [
        feature for feature in features if rules.view(feature.view).view.resource == resource_type
    ]
    tokens: set[str] = set()
    for reader in readers:
        if reader.codes is None or reader.codes.prefixes:
            return ""
        for code in reader.codes.exact:
            spellings = _tokens(code, rules)
            if not spellings:
                return ""
            tokens.update(spellings)
    if not tokens:
        return ""
    return (
        f"{resource_type}?{CODE_PARAMETERS.get(resource_type, 'code')}={','.join(sorted(tokens))}"
    )


def _tokens(word: str, rules: Rules) -> list[str]:
    """A code of the research tables under each URI of its system; none where that is not all."""
    system, _, code = word.partition(":")
    formed = re.fullmatch(rules.code_forms.get(system, ""), code)
    if system == REWRITTEN or not formed:
        return []
    return [f"{uri}|{code}" for uri, short in rules.systems.items() if short == system]


def _elements(resource_type: str, rules: Rules) -> set[str]:
    """The root elements that any view of the type reads: every view is run over what landed."""
    names = {
        name
        for view in (*rules.views, *rules.auxiliary)
        if view.view.resource == resource_type
        for name in compile_view(view.view).columns
    }
    return {
        f"{resource_type}.{spelling}"
        for name in names
        for spelling in (name, _stem(resource_type, name))
    }


def _stem(resource_type: str, name: str) -> str:
    """`value` for `valueQuantity`; the name itself where it is no choice."""
    if fhir_types.element(resource_type, name) is not None:
        return name
    ends = (place for place, letter in enumerate(name) if letter.isupper())
    return next(name[:end] for end in ends if fhir_types.has_choice(resource_type, name[:end]))
