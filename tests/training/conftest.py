from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.synthetic_stays import Hospital
from training.train import TrainedModel, train


@pytest.fixture(scope="session")
def hospital() -> Hospital:
    return Hospital()


@pytest.fixture(scope="session")
def research(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work") / "research"


@pytest.fixture(scope="session")
def trained(hospital: Hospital, research: Path) -> TrainedModel:
    matrix = hospital.write(research)
    result = train(matrix, research, oracle=hospital.write_oracle(research))
    assert isinstance(result, TrainedModel)
    return result
