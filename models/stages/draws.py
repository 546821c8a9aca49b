"""Randomness that belongs to a sample: a pure function of (seed, phase, epoch, sample) and of its use.

What is drawn for an image does not depend on which batch it is in, how the batch is split, or how many
processes share it. The numbers are a counter passed through SplitMix64's finaliser (Steele et al. 2014).
"""

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Indices = np.ndarray[Any, Any]
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class Rng(Protocol):
    """What the stages ask of a source of numbers: numpy's Generator has it, and so have Draws."""

    def random(self, size: Any, /) -> Any: ...

    def integers(self, low: int, high: int, size: Any, /) -> Any: ...

    def beta(self, a: float, b: float, /) -> Any: ...


class Draws:
    """Numbers for the samples (B,) of a part of a batch; the n-th call gives each sample its n-th numbers."""

    def __init__(self, seed: int, phase: int, epoch: int, step: int, samples: Indices) -> None:
        self._key, self._step, self._calls = (seed, phase, epoch), step, 0
        self._samples = np.asarray(samples).astype(np.uint64)

    def _bits(self, count: int) -> npt.NDArray[np.uint64]:
        self._calls += 1
        base = np.random.SeedSequence([*self._key, self._calls]).generate_state(1, np.uint64)
        own = _mixed(base + self._samples * _GOLDEN)
        return _mixed(own[:, None] + np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN)

    def random(self, size: int | tuple[int, ...], /) -> npt.NDArray[np.float64]:
        """Uniform in [0, 1), (B, ...)."""
        shape = (size,) if isinstance(size, int) else tuple(size)
        bits = self._bits(int(np.prod(shape[1:], dtype=np.int64)))
        return ((bits >> np.uint64(11)).astype(np.float64) * 2.0**-53).reshape(shape)

    def integers(self, low: int, high: int, size: int | tuple[int, ...], /) -> npt.NDArray[np.int64]:
        """Whole numbers low..high - 1, (B, ...)."""
        found: npt.NDArray[np.int64] = low + np.floor(self.random(size) * (high - low)).astype(np.int64)
        return found

    def beta(self, a: float, b: float, /) -> float:
        """One number for the whole batch, the same in every part and process."""
        self._calls += 1
        return float(np.random.default_rng([*self._key, self._calls, self._step]).beta(a, b))

    def rand(self, shape: tuple[int, ...]) -> Tensor:
        """Uniform in [0, 1), float32: (K, B, ...), K numbers of each sample."""
        bits = self._bits(shape[0] * int(np.prod(shape[2:], dtype=np.int64)))
        values = (bits >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)
        return torch.from_numpy(values.reshape(shape[1], shape[0], *shape[2:]).swapaxes(0, 1).copy())


def rand(shape: tuple[int, ...], source: torch.Generator | Draws) -> Tensor:
    """Uniform numbers (K, B, ...) from either source."""
    if isinstance(source, torch.Generator):
        return torch.rand(shape, generator=source)
    return source.rand(shape)


class Dropout(nn.Dropout):
    """Dropout whose masks are the samples' own while `draws` is set."""

    draws: Draws | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.draws is None or not self.p:
            return super().forward(x)
        kept = self.draws.rand((1, *x.shape))[0].to(x.device) >= self.p
        return x * kept / (1 - self.p)


def own_dropouts(module: nn.Module) -> list[Dropout]:
    """Make every dropout of a network a Dropout of this module; returns them."""
    found = [m for m in module.modules() if isinstance(m, nn.Dropout)]
    for dropout in found:
        dropout.__class__ = Dropout
    return [m for m in found if isinstance(m, Dropout)]


def draw_from(draws: Draws, *networks: nn.Module) -> None:
    """From now on the dropout masks of these networks are the samples' own."""
    for network in networks:
        for dropout in own_dropouts(network):
            dropout.draws = draws


def _mixed(x: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))
