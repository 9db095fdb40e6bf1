"""ONNX Runtime's telemetry, where it is on, begins with a device id in the user's home."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnx
from onnx import TensorProto, helper

OPEN = "import sys; from pathlib import Path; {imported}; {opened}(Path(sys.argv[1]).read_bytes())"


def files_left_in_home(home: Path, imported: str, opened: str) -> list[Path]:
    home.mkdir()
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("x", "y")]
    node = helper.make_node("Identity", ["x"], ["y"])
    graph = helper.make_graph([node], "one", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, home.parent / "one.onnx")
    # Nothing else of the environment: on build servers (CI=true) it keeps still by itself.
    environment = {"PATH": os.environ["PATH"], "HOME": str(home)}
    code = OPEN.format(imported=imported, opened=opened)
    subprocess.run(
        [sys.executable, "-c", code, home.parent / "one.onnx"], env=environment, check=True
    )
    return [path for path in home.rglob("*") if path.is_file()]


def test_a_session_of_ours_reports_to_nobody(tmp_path: Path) -> None:
    ours = ("from training.runtime import open_graph", "open_graph")
    assert files_left_in_home(tmp_path / "ours", *ours) == []


def test_without_our_door_it_would(tmp_path: Path) -> None:
    bare = ("import onnxruntime", "onnxruntime.InferenceSession")
    assert files_left_in_home(tmp_path / "bare", *bare)
