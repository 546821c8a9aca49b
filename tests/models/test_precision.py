"""bf16 is chosen where the processor multiplies it, and nowhere else."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from models.evaluate import outcomes
from models.precision import autocast, exact, has_fast_bf16
from models.release import Release, tiny_release
from models.system import System

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


def test_what_is_measured_in_fp32_is_not_tf32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The switch is there without a GPU too."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    allowed: list[bool] = []
    whole = System.hr_answer

    def watched(system: System, *args: Any) -> torch.Tensor:
        allowed.append(torch.backends.cudnn.allow_tf32)
        return whole(system, *args)

    monkeypatch.setattr(System, "hr_answer", watched)
    tiny_release(tmp_path / "r", ["a", "b"])
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    outcomes(Release.load(tmp_path / "r"), images, torch.zeros(2, dtype=torch.long), [2])
    assert allowed
    assert not any(allowed)
    assert torch.backends.cudnn.allow_tf32
    with pytest.raises(KeyError), exact():
        raise KeyError
    assert torch.backends.cudnn.allow_tf32
