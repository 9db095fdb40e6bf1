"""One ONNX graph from raw features to a calibrated probability.

In: `features`, float32 [rows, n], NaN where unknown. Out: `probability`, float32 [rows]. XGBoost's
trees are converted alone by onnxmltools, summed from zero; their base margin, the calibration and
all of the logistic path are plain operators in double precision, rounded once at the end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxmltools import convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType

from training.calibrate import Platt
from training.logistic import LogisticModel
from training.recipe import Model
from training.trees import TreeModel

INPUT: Final = "features"
OUTPUT: Final = "probability"
OPSET: Final = 17
ML_OPSET: Final = 3
_CONVERTER_OPSET: Final = 15  # the highest that onnxmltools writes; the trees are of ai.onnx.ml
IR_VERSION: Final = 8  # the one of opset 17: old runtimes can read it


@dataclass
class _Graph:
    """Nodes and constants in the order they were added; each value is named by its role."""

    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def add(self, operator: str, output: str, *inputs: str, **attributes: Any) -> str:
        node = helper.make_node(operator, list(inputs), [output], name=output, **attributes)
        self.nodes.append(node)
        return output

    def cast(self, output: str, value: str, kind: int = TensorProto.DOUBLE) -> str:
        return self.add("Cast", output, value, to=kind)

    def number(self, name: str, value: float) -> str:
        return self.constant(name, np.array(value, dtype=np.float64))


def build_graph(
    model: Model, platt: Platt, features: tuple[str, ...], facts: Mapping[str, str]
) -> bytes:
    """The serialised graph; the same arguments give the same bytes.

    The metadata holds the names of the features, in the columns' order, and `facts`.
    """
    graph = _Graph()
    margin = _margin(graph, model)
    scaled = graph.add("Mul", "scaled", margin, graph.number("platt_slope", platt.slope))
    shifted = graph.add("Add", "log_odds", scaled, graph.number("platt_intercept", platt.intercept))
    exact = graph.add("Sigmoid", "exact_probability", shifted)
    column = graph.cast("probability_column", exact, TensorProto.FLOAT)
    flat = graph.constant("flat", np.array([-1], dtype=np.int64))
    graph.add("Reshape", OUTPUT, column, flat)
    made = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "fhirloom",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, ["rows", len(features)])],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["rows"])],
            graph.constants,
        ),
        opset_imports=[
            helper.make_opsetid("", OPSET),
            helper.make_opsetid("ai.onnx.ml", ML_OPSET),
        ],
        ir_version=IR_VERSION,
        producer_name="fhirloom",
    )
    metadata = {**facts, "features": json.dumps(list(features))}
    helper.set_model_props(made, dict(sorted(metadata.items())))
    onnx.checker.check_model(made)
    serialised: bytes = made.SerializeToString(deterministic=True)
    return serialised


def _margin(graph: _Graph, model: Model) -> str:
    if isinstance(model, LogisticModel):
        return _logistic_margin(graph, model)
    if isinstance(model, TreeModel):
        return _tree_margin(graph, model)
    raise TypeError(f"no graph is known for {type(model).__name__}")


def _logistic_margin(graph: _Graph, model: LogisticModel) -> str:
    values = graph.cast("values", INPUT)
    unknown = graph.add("IsNaN", "unknown", values)
    known = graph.add("Where", "known", unknown, graph.constant("median", model.median), values)
    above = graph.add("Max", "above", known, graph.constant("low", model.low))
    held = graph.add("Min", "held", above, graph.constant("high", model.high))
    weights = graph.constant("weights", model.weights[:, None])
    missing_weights = graph.constant("missing_weights", model.missing_weights[:, None])
    of_values = graph.add("MatMul", "of_values", held, weights)
    of_missing = graph.add("MatMul", "of_missing", graph.cast("flags", unknown), missing_weights)
    total = graph.add("Add", "total", of_values, of_missing)
    return graph.add("Add", "margin", total, graph.number("intercept", model.intercept))


def _tree_margin(graph: _Graph, model: TreeModel) -> str:
    shape = [(INPUT, FloatTensorType([None, model.features]))]
    converted = convert_xgboost(
        model.bare_trees(), name="trees", initial_types=shape, target_opset=_CONVERTER_OPSET
    )
    (ensemble,) = converted.graph.node
    # The converter collects attributes in a set, whose order changes from process to process.
    attributes = {item.name: helper.get_attribute_value(item) for item in ensemble.attribute}
    graph.add(
        ensemble.op_type, "trees", INPUT, domain="ai.onnx.ml", **dict(sorted(attributes.items()))
    )
    total = graph.cast("total", "trees")
    return graph.add("Add", "margin", total, graph.number("base_margin", model.base_margin))
