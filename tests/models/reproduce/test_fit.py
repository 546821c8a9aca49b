"""The resumable loop: in slices it ends as undisturbed, and keeps nothing that is no good."""

import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim import Optimizer

from models.reproduce.fit import fit
from models.reproduce.learner import Learner, Plan
from models.reproduce.slices import Slice, SliceOver
from models.stages.draws import Draws
from models.stages.inputs import Batch, Indices, Inputs
from models.system import System
from tests.models.scenes import tiny_recipe


class Line(Learner):
    """Something small with momentum, so that a lost optimiser would show; draws its own noise."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.net = nn.Linear(3, 3)
        self.steps = 0
        self._optimiser = torch.optim.Adam(self.net.parameters())

    def modules(self) -> dict[str, nn.Module]:
        return {"net": self.net}

    def optimisers(self) -> dict[str, Optimizer]:
        return {"adam": self._optimiser}

    def step(self, indices: Indices, batch: Batch, draws: Draws) -> dict[str, float]:
        self.steps += 1
        noise = draws.rand((1, len(indices), 3))[0]
        logits = self.net(batch.hr.mean(dim=(2, 3)) + noise)
        loss = nn.functional.cross_entropy(logits, batch.labels)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self._optimiser.step()
        return {"loss": float(loss.detach())}


class Ending(Slice):
    """Room for so many epochs."""

    def __init__(self, epochs: int) -> None:
        super().__init__()
        self.left = epochs

    def room_for(self, seconds: float) -> None:
        assert seconds >= 0
        self.left -= 1
        if self.left < 0:
            raise SliceOver


def some_inputs() -> Inputs:
    recipe = tiny_recipe()
    system = System(recipe.architecture(3)).eval()
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (24, 3, 32, 32), dtype=torch.uint8, generator=generator)
    return Inputs(system, images, torch.arange(24) % 3, recipe.images)


def test_a_training_in_slices_ends_as_the_undisturbed_one(tmp_path: Path) -> None:
    inputs, plan, learns = some_inputs(), Plan(5, 8, 1e-2), np.arange(24)
    whole = Line()
    fit(tmp_path / "whole.pt", whole, plan, inputs, learns, 3, Slice())
    for epochs in (2, 1):
        with pytest.raises(SliceOver):
            fit(tmp_path / "cut.pt", Line(), plan, inputs, learns, 3, Ending(epochs))
    cut = Line()
    fit(tmp_path / "cut.pt", cut, plan, inputs, learns, 3, Slice())
    assert all(torch.equal(a, b) for a, b in zip(whole.net.parameters(), cut.net.parameters(), strict=True))
    assert cut.steps == 2 * 3  # the two epochs that were left
    again = Line()
    fit(tmp_path / "cut.pt", again, plan, inputs, learns, 3, Slice())
    assert again.steps == 0
    assert torch.equal(again.net.weight, whole.net.weight)


def test_what_diverges_is_not_kept(tmp_path: Path) -> None:
    class Wild(Line):
        def step(self, indices: Indices, batch: Batch, draws: Draws) -> dict[str, float]:
            if self.steps == 5:  # in the second epoch of three steps
                with torch.no_grad():
                    self.net.weight.fill_(torch.inf)
            return super().step(indices, batch, draws)

    place, inputs, learns = tmp_path / "line.pt", some_inputs(), np.arange(24)
    with pytest.raises(ValueError, match="line diverged in epoch 2: loss is not finite"):
        fit(place, Wild(), Plan(5, 8, 1e-2), inputs, learns, 3, Slice())
    state = torch.load(place, weights_only=True)
    assert state["epochs"] == 1
    assert all(torch.isfinite(value).all() for value in state["modules"]["net"].values())


@pytest.mark.parametrize("left", ["nothing", "half", "zeros"])
def test_a_unit_that_cannot_be_read_is_trained_anew(
    tmp_path: Path, left: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place, inputs, plan, learns = tmp_path / "line.pt", some_inputs(), Plan(2, 8, 1e-2), np.arange(24)
    fit(place, whole := Line(), plan, inputs, learns, 3, Slice())
    data = place.read_bytes()
    place.write_bytes({"nothing": b"", "half": data[: len(data) // 2], "zeros": bytes(len(data))}[left])
    fit(place, again := Line(), plan, inputs, learns, 3, Slice())
    assert "line.pt cannot be read" in capsys.readouterr().out
    assert again.steps == whole.steps
    assert torch.equal(again.net.weight, whole.net.weight)
    assert {path.name for path in tmp_path.iterdir()} == {"line.pt", ".line.pt.lock"}
    assert torch.load(place, weights_only=True)["epochs"] == 2


def test_what_another_process_trains_is_waited_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Until the slice ends at the latest; what the other has trained is not trained again."""
    place, inputs, plan, learns = tmp_path / "line.pt", some_inputs(), Plan(2, 8, 1e-2), np.arange(24)
    fit(place, Line(), plan, inputs, learns, 3, Slice())
    (tmp_path / ".line.pt.lock").unlink()  # whoever keeps only the weights may begin anew
    hold = "import fcntl, sys; f = open(sys.argv[1], 'a'); fcntl.flock(f, 2); print(flush=True); input()"
    words = [sys.executable, "-c", hold, str(tmp_path / ".line.pt.lock")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(SliceOver):
            fit(place, Line(), plan, inputs, learns, 3, Slice(0.5))
        assert capsys.readouterr().out == "line: another process trains it; waiting\n"
        threading.Timer(0.5, other.kill).start()  # and leaves no lock behind
        fit(place, late := Line(), plan, inputs, learns, 3, Slice(60))
    assert late.steps == 0


def test_a_slice_without_room_begins_nothing() -> None:
    with pytest.raises(SliceOver):
        Slice(0).room_for(0.1)
    Slice(60).room_for(1)
    Slice().room_for(1e9)
