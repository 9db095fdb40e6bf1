"""ONNX Runtime, with its telemetry off: the only place that imports it.

Its releases report to their maker from the first session on unless this variable is set before the
import; that would be traffic from inside a hospital, and a device id in the user's home.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"

import onnxruntime


def open_graph(graph: bytes | Path) -> Any:
    """An inference session of a graph on one CPU thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
