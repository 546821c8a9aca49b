"""One bench for all: the classifiers are trained once."""

import pytest

from models.reproduce.bench import Bench
from models.reproduce.learner import Plan
from tests.models.baselines.made_up import made_up, striped

PLANS = {
    "kd": Plan(6, 16, 1e-2),
    "pcn": Plan(6, 16, 1e-2),
    "srgan": Plan(6, 16, 3e-3),
    "stn": Plan(0, 16, 1e-2),
}


@pytest.fixture(scope="session")
def coarse(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Stripes of which something is left at ds 4."""
    pictures, labels, _ = striped(192, period=8)
    return made_up(tmp_path_factory.mktemp("coarse"), pictures, labels, PLANS, epochs=12)
