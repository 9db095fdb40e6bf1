"""The only door to MLflow: a verified bundle becomes a registered model version.

The store is SQLite, `research/mlflow/mlflow.db`, with artifacts beside it. Nothing of a patient,
a user or a host goes in: what is logged are the bundle's files and the evaluation's numbers.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from deid.policy import check_place
from training.bundle import verify_bundle

CHALLENGER: Final = "challenger"
DIGEST_TAG: Final = "fhirloom.bundle_digest"
POLICY_TAG: Final = "fhirloom.policy"
"""By which policy the data were made, and what has to be said of the model therefore."""
_REQUIREMENTS: Final = ("onnx", "onnxruntime", "numpy")
# What MLflow would otherwise fill in from the machine: the user, the script's path, the commit.
_NO_ONE: Final = {
    "mlflow.user": "fhirloom",
    "mlflow.source.name": "fhirloom",
    "mlflow.source.type": "JOB",
    "mlflow.source.git.commit": "",
}


@dataclass(frozen=True)
class RegisteredModel:
    """A version in the registry, and the alias that points to it."""

    name: str
    version: int
    alias: str


def tracking_uri(research: Path) -> str:
    """Where the MLflow store of a work folder is: for `mlflow ui --backend-store-uri`."""
    return f"sqlite:///{(research / 'mlflow' / 'mlflow.db').resolve()}"


def register(
    bundle_path: Path, evaluation: Mapping[str, Any], *, name: str, research: Path
) -> RegisteredModel:
    """Verify and register a bundle under `name`, and point the alias `challenger` at it.

    A bundle whose digest the registry knows is not registered again. Raises `FhirloomError` where
    the bundle does not verify, and where `research` is no place for it.
    """
    sealed = verify_bundle(bundle_path)
    check_place(sealed.facts, research)
    tags = {DIGEST_TAG: sealed.digest, POLICY_TAG: str(sealed.facts["policy"]["label"])}
    with _mlflow(research) as mlflow:
        client = mlflow.MlflowClient()
        number = _known_version(client, name, sealed.digest)
        if number is None:
            uri = _log(mlflow, client, sealed.path, tags, evaluation, name, research)
            if not client.search_registered_models(f"name = '{name}'"):
                client.create_registered_model(name)
            made = client.create_model_version(name, uri, tags=tags)
            number = int(made.version)
        client.set_registered_model_alias(name, CHALLENGER, str(number))
    return RegisteredModel(name, number, CHALLENGER)


@contextmanager
def _mlflow(research: Path) -> Iterator[Any]:
    """MLflow, imported late (it takes seconds) with telemetry off, on this work folder's store."""
    os.environ.update(
        MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="true", MLFLOW_LOGGING_LEVEL="WARNING"
    )
    artifacts = _artifacts(research)
    artifacts.mkdir(parents=True, exist_ok=True)
    # Else MLflow notes the folder that the process runs in, as the default experiment's.
    os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = artifacts.as_uri()
    import mlflow
    import mlflow.onnx

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(tracking_uri(research))
    try:
        yield mlflow
    finally:
        mlflow.set_tracking_uri(before)
        del os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"]


def _artifacts(research: Path) -> Path:
    return (research / "mlflow" / "artifacts").resolve()


def _known_version(client: Any, name: str, digest: str) -> int | None:
    versions = client.search_model_versions(f"name = '{name}'")
    known = [int(found.version) for found in versions if found.tags.get(DIGEST_TAG) == digest]
    return max(known, default=None)


def _log(
    mlflow: Any,
    client: Any,
    folder: Path,
    tags: Mapping[str, str],
    evaluation: Mapping[str, Any],
    name: str,
    research: Path,
) -> str:
    """Log one run with the graph, the bundle, parameters and metrics; the graph's model URI."""
    import onnx

    experiment = _experiment(client, name, research)
    graph = onnx.load(folder / "model.onnx")
    digest, tags = tags[DIGEST_TAG], {**_NO_ONE, **tags}
    # What a killed process began to log, and never registered.
    for left in client.search_runs([experiment], f"tags.`{DIGEST_TAG}` = '{digest}'"):
        client.delete_run(left.info.run_id)
    with mlflow.start_run(experiment_id=experiment, run_name=digest[:12], tags=tags):
        mlflow.log_params(_parameters(evaluation))
        mlflow.log_metrics(_metrics(evaluation))
        mlflow.log_artifacts(str(folder), artifact_path="bundle")
        logged = mlflow.onnx.log_model(
            graph,
            name="graph",
            signature=_signature(mlflow, graph),
            pip_requirements=[f"{package}=={version(package)}" for package in _REQUIREMENTS],
            onnx_execution_providers=["CPUExecutionProvider"],
            tags=tags,
        )
    uri: str = logged.model_uri
    return uri


def _experiment(client: Any, name: str, research: Path) -> str:
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    location = _artifacts(research).as_uri()
    return str(client.create_experiment(name, artifact_location=location))


def _signature(mlflow: Any, graph: Any) -> Any:
    """One float32 tensor in and one out, read off the graph."""
    import numpy as np
    from mlflow.types import Schema, TensorSpec

    (given,), (result,) = graph.graph.input, graph.graph.output
    width = given.type.tensor_type.shape.dim[1].dim_value
    float32 = np.dtype(np.float32)
    return mlflow.models.ModelSignature(
        inputs=Schema([TensorSpec(float32, (-1, width), given.name)]),
        outputs=Schema([TensorSpec(float32, (-1,), result.name)]),
    )


def _parameters(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    split = evaluation["split"]
    return {
        "recipe": evaluation["recipe"],
        "task": evaluation["population"]["task"],
        "embargo_year": split["embargo_year"],
        "train_rows": split["train"]["rows"],
        "test_rows": split["test"]["rows"],
        **evaluation["candidates"][evaluation["recipe"]]["settled"],
    }


def _metrics(evaluation: Mapping[str, Any]) -> dict[str, float]:
    intervals = {
        name: value for name, value in evaluation["model"].items() if isinstance(value, dict)
    }
    intervals.pop("settled", None)
    for comparator, found in evaluation["comparators"].items():
        intervals[f"{comparator}_auroc"] = found["auroc"]
        intervals[f"auroc_minus_{comparator}"] = found["model_minus_this"]
    return {
        f"{name}_{end}".removesuffix("_value"): value
        for name, estimate in intervals.items()
        for end, value in estimate.items()
        if value is not None
    }
