"""Knowledge distillation: an LR student learns from what an HR teacher says of the same image.

Su & Maji 2016 ("Adapting models to signal degradation using distillation") on Hinton et al. 2015, whose soft
targets these are. Both leave the figures to the task; here a temperature of 4 and nine tenths of the loss on
the soft targets, the rest on the labels. The student starts where the LR classifier started and is that
network; where LR-CNN learns from several ds at once, the student still learns from its own alone, without
mixup and smoothing.
"""

import torch
from torch import Tensor
from torch.nn import functional

from models.baselines.common import Student, frozen
from models.reproduce.answers import Answers
from models.reproduce.bench import Bench
from models.stages.inputs import Batch

TEMPERATURE = 4.0
SOFT = 0.9


def distillation_loss(
    said: Tensor, teacher: Tensor, labels: Tensor, temperature: float = TEMPERATURE, soft: float = SOFT
) -> Tensor:
    """Student's and teacher's logits (B, N), labels (B,) -> the mean loss, 0 or more.

    The divergence between both softmaxes at the temperature T has gradients of 1 / T^2 the size (Hinton et
    al., section 2), so it is multiplied by T^2; `soft` is its share, the rest is the labels' cross-entropy.
    """
    log, wanted = ((logits.float() / temperature).log_softmax(dim=1) for logits in (said, teacher))
    apart = functional.kl_div(log, wanted, reduction="batchmean", log_target=True) * temperature**2
    return soft * apart + (1 - soft) * functional.cross_entropy(said.float(), labels)


class Distillation(Student):
    """The student f_cl^l on x_l; the teacher f_cl^h on x_h does not change."""

    def __init__(self, bench: Bench, rate: float) -> None:
        super().__init__(bench, rate)
        self.teacher = frozen(bench.system.hr.body)

    def loss(self, said: Tensor, batch: Batch) -> Tensor:
        with self.bench.autocast(), torch.no_grad():
            teacher = self.teacher(batch.hr)
        return distillation_loss(said, teacher, batch.labels)


def kd(bench: Bench) -> Answers:
    """The student's answers on the unseen images, S = 0."""
    plan = bench.plan("kd")
    learner = Distillation(bench, plan.lr)
    bench.fit("kd", learner, plan)
    return bench.without(learner.body)
