"""Every system goes on from a checkpoint to the weights it would have had."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from models.baselines.kd import Distillation
from models.baselines.pcn import PartiallyCoupled
from models.baselines.srgan import Adversarial, Generator
from models.baselines.stn import Zoom
from models.reproduce.bench import Bench
from models.reproduce.fit import fit
from models.reproduce.learner import Learner, Plan
from models.reproduce.slices import Slice, SliceOver
from tests.models.baselines.made_up import same, weights


def adversarial(bench: Bench) -> Learner:
    torch.manual_seed(3)
    return Adversarial(bench, Generator(bench.ds, width=4, blocks=1), 1e-3)


SYSTEMS: dict[str, Callable[[Bench], Learner]] = {
    "kd": lambda bench: Distillation(bench, 1e-3),
    "pcn": lambda bench: PartiallyCoupled(bench, 1e-3),
    "srgan": adversarial,
    "stn": lambda bench: Zoom(bench, 1e-3),
}


class OneEpoch(Slice):
    """Over before the second epoch."""

    begun = False

    def room_for(self, seconds: float) -> None:
        if self.begun:
            raise SliceOver
        self.begun = True


@pytest.mark.parametrize("name", SYSTEMS)
def test_stopped_after_an_epoch_it_ends_the_same(coarse: Bench, tmp_path: Path, name: str) -> None:
    learns, plan = coarse.learns[:48], Plan(2, 16, 1e-3)

    def trained(place: str, work: Slice) -> Learner:
        torch.manual_seed(len(place))  # what was drawn before must make no difference
        learner = SYSTEMS[name](coarse)
        fit(tmp_path / place, learner, plan, coarse.inputs, learns, 7, work)
        return learner

    undisturbed = trained("undisturbed", Slice())
    with pytest.raises(SliceOver):
        trained("stopped", OneEpoch())
    resumed = trained("stopped", Slice())
    for part, module in undisturbed.modules().items():
        assert same(weights(module), weights(resumed.modules()[part])), part
