"""The aerial network, whose frozen stem sees each patch alone, under every system."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.baselines.common import pixels
from models.baselines.kd import kd
from models.baselines.pcn import pcn
from models.baselines.srgan import srgan, super_resolved, trained
from models.baselines.stn import saliency
from models.reproduce.answers import Answers
from models.reproduce.bench import Bench
from models.reproduce.learner import Plan
from models.stages.inputs import FeatureCache
from tests.models.baselines.made_up import made_up, striped


@pytest.fixture(scope="module")
def aerial(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Pictures of 128 px: larger than what is learned from whole."""
    pictures, labels, _ = striped(16, period=8)
    large = pictures.repeat(4, axis=1).repeat(4, axis=2)
    plans = {"kd": Plan(1, 6), "pcn": Plan(1, 6), "srgan": Plan(2, 6), "stn": Plan(1, 6)}
    work = tmp_path_factory.mktemp("aerial")
    return made_up(work, large, labels, plans, network="efficientnet-lite0", epochs=0)


@pytest.mark.parametrize("system", [kd, pcn, srgan])
def test_it_answers(aerial: Bench, system: Callable[[Bench], Answers]) -> None:
    said = system(aerial)
    assert said.probabilities.shape == (len(aerial.tests), 2)
    assert torch.allclose(said.probabilities.sum(dim=1), torch.ones(len(aerial.tests)), atol=1e-4)
    assert said.actions.shape == (len(aerial.tests), 16)


def test_srgan_is_measured_in_fp32(aerial: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the stems that training reads compute in bf16."""
    monkeypatch.setattr("models.stages.inputs.has_fast_bf16", lambda _: True)
    bench = Bench(replace(aerial.study, _inputs={}), aerial.part, aerial.ds)
    made = super_resolved(bench, trained(bench), pixels(bench, bench.tests))
    with torch.no_grad():
        exact = bench.system.hr.stem(bench.system.normalised(made))
    seen: list[torch.Tensor] = []
    bench.system.hr.body.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    srgan(bench)

    def error(features: torch.Tensor) -> float:
        return float((features - exact).norm() / exact.norm())

    assert error(seen[-1]) < 1e-4  # before it come the crops of training
    assert error(bench.inputs.hr_features(made)) > 1e-3


def test_without_room_on_disk_features_are_computed_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures, labels, _ = striped(8, period=8)
    large = pictures.repeat(4, axis=1).repeat(4, axis=2)
    benches = {
        name: made_up(tmp_path / name, large, labels, {}, network="efficientnet-lite0", epochs=0)
        for name in ("kept", "not kept")
    }
    wanted, views, ds = np.arange(4), np.array([0, 1, 1, 0]), np.full(4, benches["kept"].ds)
    kept = benches["kept"].inputs
    assert kept.cache is not None
    files = [file.stat().st_size for file in kept.cache.folder.glob("*.npy")]
    assert kept.cache.size() == pytest.approx(sum(files), rel=0.01)  # and a header each
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 * 10**9 + 10))
    # all of ImageNet would be read for a name that nothing gets
    monkeypatch.setattr(FeatureCache, "_key", lambda _: pytest.fail("images were read for nothing"))
    anew = benches["not kept"].inputs
    assert anew.cache is None
    assert "no room to keep features" in capsys.readouterr().out
    assert anew.variants == kept.variants
    one, other = (inputs.batch(wanted, views, ds) for inputs in (kept, anew))
    assert torch.allclose(one.hr, other.hr, rtol=1e-2, atol=1e-2)
    assert one.lr is not None
    assert other.lr is not None
    assert torch.allclose(one.lr, other.lr, rtol=1e-2, atol=1e-2)


def test_it_looks(aerial: Bench) -> None:
    assert saliency(aerial)[1].shape == (16, 16)
