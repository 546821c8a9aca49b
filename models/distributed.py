"""Several processes share each batch: ranks, sums over them, batch norm over all of them, and their launch.

Started by torchrun or by `launch`, a trainer finds its rank in the environment (RANK, WORLD_SIZE). Gradients
are summed by one all-reduce a step; see decision 0046.
"""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from models.parent import LAUNCHER

_PATIENCE = timedelta(days=7)
"""How long a process waits for the others. The leader decodes for hours while they stand still, where torch's
own limits are ten minutes on GPUs and half an hour on CPUs; of one that died torchrun tells.
"""


class Group:
    """The processes of one training; alone, everything costs nothing."""

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def alone(self) -> bool:
        return self.size == 1

    @property
    def leads(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Make every gradient the sum over all processes, in one message."""
        if self.alone:
            return
        # the same ones in every process; Adam would move those without by their momentum
        grads = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([g.reshape(-1) for g in grads])
        dist.all_reduce(flat)
        for grad, summed in zip(grads, torch.split(flat, [g.numel() for g in grads]), strict=True):
            grad.copy_(summed.view_as(grad))

    def summed(self, values: Tensor) -> Tensor:
        """A tensor of one shape everywhere, summed over all processes."""
        if not self.alone:
            dist.all_reduce(values)
        return values

    def sums(self, values: dict[str, float]) -> dict[str, float]:
        """Each value summed over all processes; the keys are the same everywhere."""
        if self.alone or not values:
            return values
        keys = sorted(values)
        device = "cuda" if dist.get_backend() == "nccl" else "cpu"
        total = torch.tensor([values[key] for key in keys], dtype=torch.float64, device=device)
        dist.all_reduce(total)
        return dict(zip(keys, total.tolist(), strict=True))

    @contextlib.contextmanager
    def leader_first(self) -> Iterator[None]:
        """The leader does the block before the others, who then find what it left on disk."""
        if not self.leads:
            dist.barrier()
        yield
        if self.leads and not self.alone:
            dist.barrier()


@contextlib.contextmanager
def joined(device: str) -> Iterator[Group]:
    """The group that the environment names: nccl on GPUs, gloo on CPUs; or this process alone.

    Raises ValueError where there is no GPU for each process of this machine.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield Group()
        return
    if device == "cuda":
        own, there = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if own >= there:
            raise ValueError(f"every process needs a GPU of its own, and there are {there}")
        torch.cuda.set_device(own)
    dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=_PATIENCE)
    try:
        yield Group(dist.get_rank(), size)
    finally:
        dist.destroy_process_group()


def synchronise(module: nn.Module, group: Group) -> None:
    """Let every batch norm see the whole batch. torch's own SyncBatchNorm works on GPUs only."""
    if group.alone:
        return
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.__class__ = SyncBatchNorm2d


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch norm whose mean and variance in training are those of the batch of all processes together."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        self._check_input_dim(x)
        count = _summed(x.new_tensor([x.numel() / x.shape[1]], dtype=torch.float32))
        wide = x.float()
        mean = _summed(wide.sum(dim=(0, 2, 3))) / count
        centred = wide - mean[None, :, None, None]
        variance = _summed(centred.square().sum(dim=(0, 2, 3))) / count
        if self.track_running_stats and self.running_mean is not None and self.running_var is not None:
            self._follow(mean.detach(), variance.detach(), float(count))
        y = centred * (variance + self.eps).rsqrt()[None, :, None, None]
        if self.affine:
            y = y * self.weight[None, :, None, None] + self.bias[None, :, None, None]
        return y.to(x.dtype)

    def _follow(self, mean: Tensor, variance: Tensor, count: float) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = self.momentum if self.momentum is not None else 1.0 / float(self.num_batches_tracked)
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * (count / (count - 1)), share)


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(_ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone()
        dist.all_reduce(grad)
        return grad


def _summed(x: Tensor) -> Tensor:
    found: Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]
    return found


def launch(processes: int, module: str, arguments: Sequence[str]) -> int:
    """Run `python -m module arguments` in so many processes of this machine; the first bad exit status."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    os.environ[LAUNCHER] = str(os.getpid())
    own = ["--standalone", "--nproc-per-node", str(processes), "--max-restarts", "0", "-m", module]
    try:
        torchrun([*own, *arguments])
    except ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        return next((code for code in codes if code > 0), codes[0] if codes else 1)
    return 0
