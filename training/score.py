"""Score one patient with a bundle: from a CDS Hooks request or a Bundle to the probability.

Everything comes from the bundle: views, domains, vocabulary, feature spec and graph.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from deid.research import RULES
from deid.rules import load_rules
from deid.vocabulary import FILE as VOCABULARY_FILE
from deid.vocabulary import load_vocabulary
from features.online import OnlineFeatures
from features.spec import parse_spec
from training.bundle import verify_bundle
from training.graph import INPUT, OUTPUT
from training.runtime import open_graph


@dataclass(frozen=True)
class Score:
    """`probability` of the label, and the feature row behind it (None where unknown)."""

    probability: float
    features: Mapping[str, float | None]


class Scorer:
    """A verified bundle, ready for many requests."""

    def __init__(self, bundle: Path) -> None:
        """Open a bundle; raises `FhirloomError` where `verify_bundle` does."""
        folder = verify_bundle(bundle).path
        self.spec = parse_spec("features.json", json.loads((folder / "features.json").read_text()))
        rules = load_rules(folder / RULES)
        self._features = OnlineFeatures(rules, load_vocabulary(folder / VOCABULARY_FILE), self.spec)
        self._session = open_graph(folder / "model.onnx")

    def score(self, request: Mapping[str, Any], at: datetime) -> Score:
        """The score of the request's patient at facility wall clock time `at`.

        Raises `FhirloomError` (bad-input) for a request without exactly one patient.
        """
        row = self._features.row(request, at).features
        [probability] = self._session.run([OUTPUT], {INPUT: row})[0]
        values = (None if math.isnan(value) else float(value) for value in row[0])
        return Score(float(probability), dict(zip(self.spec.names, values, strict=True)))
