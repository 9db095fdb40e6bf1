from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from exports.errors import FhirloomError
from tests.training.synthetic_stays import FEATURES, Hospital
from training.graph import build_graph
from training.logistic import Floats
from training.parity import Parity, adversarial_rows, check_parity, run_graph
from training.recipe import Candidate, fit_candidate, load_recipes
from training.split import splitmix64

RECIPES = {recipe.name: recipe for recipe in load_recipes()}


@pytest.fixture(scope="module", params=sorted(RECIPES))
def candidate(request: pytest.FixtureRequest, hospital: Hospital) -> Candidate:
    return fit(RECIPES[request.param].name, hospital)


@pytest.fixture(scope="module")
def trees(hospital: Hospital) -> Candidate:
    return fit("xgboost", hospital)


def fit(name: str, hospital: Hospital) -> Candidate:
    fold = (splitmix64(hospital.patient, 5) % np.uint64(3)).astype(np.int64)
    return fit_candidate(RECIPES[name], hospital.values, hospital.label, fold)


def check(candidate: Candidate, graph: bytes, rows: Floats) -> Parity:
    made = adversarial_rows(rows[:32], candidate.model.cut_points())
    return check_parity(graph, candidate.probability, rows, made)


def exported(candidate: Candidate) -> bytes:
    return build_graph(candidate.model, candidate.platt, FEATURES, {"task": "readmission_30d"})


def edited(candidate: Candidate, edit: Callable[[onnx.ModelProto], None]) -> bytes:
    model = onnx.load_from_string(exported(candidate))
    edit(model)
    return bytes(model.SerializeToString())


def test_the_graph_is_the_model_on_every_row(candidate: Candidate, hospital: Hospital) -> None:
    parity = check(candidate, exported(candidate), hospital.values)
    assert parity.rows == len(hospital.values)
    assert parity.adversarial_rows > 200
    assert max(parity.largest, parity.adversarial_largest) <= 1e-6


def test_adversarial_rows_tie_with_every_split(trees: Candidate, hospital: Hospital) -> None:
    cuts = trees.model.cut_points()
    made = adversarial_rows(hospital.values[:32], cuts)
    assert sum(points.size for points in cuts) > 100
    for feature, points in enumerate(cuts):
        assert set(points) <= set(made[:, feature])
    assert np.isnan(made).all(axis=1).any()
    assert np.isposinf(made).all(axis=1).any()


def test_a_row_alone_equals_the_row_in_a_batch(candidate: Candidate, hospital: Hospital) -> None:
    graph = exported(candidate)
    batch = run_graph(graph, hospital.values[:20])
    alone = [run_graph(graph, row[None, :])[0] for row in hospital.values[:20]]
    assert batch.tolist() == alone


def wrong_base_score(model: onnx.ModelProto) -> None:
    for constant in model.graph.initializer:
        if constant.name == "base_margin":
            moved = numpy_helper.to_array(constant) + np.float64(1e-4)
            constant.CopyFrom(numpy_helper.from_array(moved, constant.name))


def ties_go_left(model: onnx.ModelProto) -> None:
    set_trees(model, "nodes_modes", lambda modes: [m.replace(b"_LT", b"_LEQ") for m in modes])


def unknown_goes_the_other_way(model: onnx.ModelProto) -> None:
    tracks = "nodes_missing_value_tracks_true"
    set_trees(model, tracks, lambda values: [1 - value for value in values])


def set_trees(model: onnx.ModelProto, name: str, change: Callable[[list], list]) -> None:  # type: ignore[type-arg]
    (trees,) = (node for node in model.graph.node if node.name == "trees")
    for index, attribute in enumerate(trees.attribute):
        if attribute.name == name:
            changed = change(onnx.helper.get_attribute_value(attribute))
            trees.attribute[index].CopyFrom(onnx.helper.make_attribute(name, changed))


@pytest.mark.parametrize("fault", [wrong_base_score, ties_go_left, unknown_goes_the_other_way])
def test_a_broken_graph_is_caught(
    fault: Callable[[onnx.ModelProto], None], trees: Candidate, hospital: Hospital
) -> None:
    broken = edited(trees, fault)
    with pytest.raises(FhirloomError) as caught:
        check(trees, broken, hospital.values)
    assert caught.value.code == "parity-failed"


def test_the_graph_says_what_it_takes(candidate: Candidate) -> None:
    model = onnx.load_from_string(exported(candidate))
    assert {item.key: item.value for item in model.metadata_props}["task"] == "readmission_30d"
    assert [(given.name, given.type.tensor_type.elem_type) for given in model.graph.input] == [
        ("features", onnx.TensorProto.FLOAT)
    ]
    assert {opset.domain: opset.version for opset in model.opset_import} == {
        "": 17,
        "ai.onnx.ml": 3,
    }


def test_a_recipe_that_is_not_one_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FhirloomError, match="no recipes"):
        load_recipes(tmp_path)
    (tmp_path / "mine.yaml").write_text("name: mine\nlearner: crystal ball\nsettings: {}\n")
    with pytest.raises(FhirloomError, match="unknown learner"):
        load_recipes(tmp_path)
