"""Where bf16 pays: on GPUs that have it, on CPUs with AMX tiles (3 to 4 times the images a second) and on
those with AVX-512's products of bf16 (half as many again, up to twice; docs/lab-notes.md).
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch


def has_fast_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        # unasked it says yes to what older GPUs only emulate
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    try:
        # torch has no public question
        return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())  # noqa: SLF001
    except AttributeError:
        return False


def autocast(device: torch.device, precision: str = "auto") -> contextlib.AbstractContextManager[Any]:
    """Autocast to bf16 where `precision` is bf16, or auto and the device gains; else nothing."""
    if precision == "bf16" or (precision == "auto" and has_fast_bf16(device)):
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return contextlib.nullcontext()


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """fp32 that is fp32, for measuring: the convolutions of GPUs otherwise round it to TF32's 10 bits."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def stay_exact() -> None:
    """The same for the rest of this process and all of its threads: what answers on a GPU says what a
    processor would, and what the card's figures were measured with.
    """
    torch.backends.cudnn.allow_tf32 = False


def best_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
