"""LR-CNN trained as its rivals are: at one ds alone, from the start of KD's student and for as long.

The LR classifier that the dropping rows and ours share may have learned several ds at once, each for a part
of its epochs; beside it KD and PCN would look better than they are.
"""

from torch import Tensor
from torch.nn import functional

from models.baselines.common import Student
from models.reproduce.answers import Answers
from models.reproduce.bench import Bench
from models.stages.inputs import Batch


class Alone(Student):
    """f_cl^l on x_l and the labels."""

    def loss(self, said: Tensor, batch: Batch) -> Tensor:
        return functional.cross_entropy(said.float(), batch.labels)


def alone(bench: Bench) -> Answers:
    """Its answers on the unseen images, S = 0."""
    plan = bench.plan("kd")
    learner = Alone(bench, plan.lr)
    bench.fit("lr-alone", learner, plan)
    return bench.without(learner.body)
