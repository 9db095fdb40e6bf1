"""One patient's feature row, now: the same views, vocabulary and kernel as the training matrix.

The promise: the same resource bytes give the same row, to the bit. It holds because there is no
second implementation: `deid.live` runs the views' own SQL, `features.rows` the one kernel.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import numpy as np

from deid.live import LiveReader
from deid.rules import Rules
from deid.vocabulary import Vocabulary
from exports.errors import FhirloomError
from features.kernel import Index
from features.rows import FeatureRows, compute_rows
from features.spec import FeatureSpec


class OnlineFeatures:
    """Feature rows from prefetched resources; keep one for many requests."""

    def __init__(self, rules: Rules, vocabulary: Vocabulary, spec: FeatureSpec) -> None:
        read = {feature.view for feature in spec.features}
        self._reader = LiveReader(rules.only(read), vocabulary)
        self._spec = spec

    def row(self, request: Mapping[str, Any], at: datetime) -> FeatureRows:
        """The features ([1, features], float32) of the request's patient at `at`.

        `request` is a CDS Hooks request or a Bundle; `at` is facility wall clock time. What became
        known at `at` itself is not seen. Raises `FhirloomError` (bad-input) for anything else.
        """
        live = self._reader.read(prefetched(request), at)
        index = Index(np.array([live.patient]), np.array([live.time]))
        return compute_rows(live.tables, index, self._spec)


def prefetched(request: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The resources in a CDS Hooks request's prefetch map (CDS Hooks 2.0), or in a Bundle."""
    if request.get("resourceType") == "Bundle":
        yield from _in_bundle(request)
        return
    prefetch = request.get("prefetch")
    if not isinstance(prefetch, Mapping):
        raise FhirloomError(
            "bad-input",
            "Neither a Bundle nor a CDS Hooks request with a prefetch",
            where="the prefetch",
            fix='Send {"prefetch": {...}} as the bundle\'s prefetch.json asks for it, or a Bundle.',
        )
    for value in prefetch.values():
        if isinstance(value, Mapping) and value.get("resourceType") == "Bundle":
            yield from _in_bundle(value)
        elif isinstance(value, Mapping):
            yield value


def _in_bundle(bundle: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for entry in bundle.get("entry") or []:
        resource = entry.get("resource") if isinstance(entry, Mapping) else None
        if not isinstance(resource, Mapping):
            continue
        if resource.get("resourceType") == "Bundle":
            yield from _in_bundle(resource)
        else:
            yield resource
