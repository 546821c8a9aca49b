"""LR-CNN trained as its rivals are: at one ds alone, from the start of KD's student and for as long.

The LR classifier that the dropping rows and ours share may have learned several ds at once, each for a part
of its epochs; beside it KD and PCN would look better than they are.
"""

from torch import nn
from torch.nn import functional
from torch.optim import Optimizer

from models.baselines.common import descend, optimiser, student
from models.reproduce.answers import Answers
from models.reproduce.bench import Bench
from models.reproduce.learner import Learner
from models.stages.draws import Draws, draw_from
from models.stages.inputs import Batch, Indices


class Alone(Learner):
    """f_cl^l on x_l and the labels."""

    def __init__(self, bench: Bench, rate: float) -> None:
        self.bench, self.body = bench, student(bench)
        self._optimiser = optimiser(bench, (self.body.parameters(), rate))

    def modules(self) -> dict[str, nn.Module]:
        return {"body": self.body}

    def optimisers(self) -> dict[str, Optimizer]:
        return {"body": self._optimiser}

    def step(self, indices: Indices, batch: Batch, draws: Draws) -> dict[str, float]:
        del indices
        self.body.train()
        draw_from(draws, self.body)
        with self.bench.autocast():
            said = self.body(batch.lr)
        loss = functional.cross_entropy(said.float(), batch.labels)
        descend(self._optimiser, loss)
        right = (said.argmax(dim=1) == batch.labels).float().mean()
        return {"loss": float(loss.detach()), "accuracy": float(right)}


def alone(bench: Bench) -> Answers:
    """Its answers on the unseen images, S = 0."""
    plan = bench.plan("kd")
    learner = Alone(bench, plan.lr)
    bench.fit("lr-alone", learner, plan)
    return bench.without(learner.body)
