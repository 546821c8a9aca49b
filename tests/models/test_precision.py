"""bf16 is chosen where the processor multiplies it, and nowhere else."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from models.precision import autocast, has_fast_bf16

CPU = torch.device("cpu")
CPUINFO = Path("/proc/cpuinfo")


@pytest.mark.skipif(not CPUINFO.is_file(), reason="the processor's own flags are Linux's to tell")
def test_it_goes_by_what_the_processor_says_of_itself() -> None:
    flags = set(CPUINFO.read_text(encoding="utf-8").split())
    assert has_fast_bf16(CPU) == bool(flags & {"amx_tile", "avx512_bf16"})


@pytest.mark.parametrize("precision", ["auto", "bf16", "fp32"])
def test_a_step_runs_in_the_precision_that_is_asked_for(precision: str) -> None:
    expected = {"bf16": True, "fp32": False, "auto": has_fast_bf16(CPU)}[precision]
    with autocast(CPU, precision):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if expected else torch.float32)


def test_a_gpu_that_only_emulates_bf16_is_not_fast_at_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Turing's, as torch sees them: no such card is at hand."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(major=7))
    monkeypatch.setattr(torch.cuda, "_check_bf16_tensor_supported", lambda _: True)
    assert torch.cuda.is_bf16_supported()
    assert not has_fast_bf16(torch.device("cuda"))
