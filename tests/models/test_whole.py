"""Weights of their own for whole images: who learns them how, and when they answer (decision 69)."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from models.architecture import Architecture
from models.card import ClassName
from models.evaluate import outcomes
from models.recipe import Recipe, RecipeError
from models.release import Release, save, tiny_release
from models.stages import classify
from models.stages.inputs import Batch
from models.stages.members import Judges, Member, Members
from models.stages.place import phases
from models.system import System
from tests.models.scenes import CLASSES, tiny_recipe, write_scenes
from tests.models.test_training import trainer, weights

PLAIN = Architecture(3, 8, 32, "answer-curve", "tiny", "tiny", fill="lr", lr_views=2, hr_views=2)
WHOLE = dataclasses.replace(PLAIN, whole=True)
CURVE = {"epochs": 1, "batch": 16, "lr": 0.0, "policy_lr": 1e-2, "samples": 3, "estimator": "curve"}


def recipe(*, whole: bool, **training: object) -> Recipe:
    quick = {"epochs": 2, "batch": 16, "lr": 1e-2}
    return tiny_recipe(
        networks={"policy": "answer-curve", "hr": "tiny", "lr": "tiny", "whole": whole},
        stages={"hr": {**quick, "mask_share": 1.0}, "lr": quick, "ft2": CURVE},
        training=training,
    )


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes") / "scenes", per_class=8)


def test_whole_images_and_they_alone_are_answered_by_them() -> None:
    torch.manual_seed(0)
    system = System(WHOLE).eval()
    assert system.whole is not None
    hr, lr = torch.rand(6, 3, 32, 32) * 255, torch.rand(6, 3, 8, 8) * 255
    actions = torch.zeros(6, 16)
    actions[1, :15], actions[2], actions[4] = 1, 1, 1
    with torch.no_grad():
        found = system.predict(lr, hr, actions).hr
        features = system.seen(lr, hr, actions)
        of_masks, of_whole = (
            torch.stack([body(x).softmax(dim=1) for x in features]).mean(dim=0)
            for body in (system.hr.body, system.whole)
        )
    for row, complete in enumerate([False, False, True, False, True, False]):
        assert torch.allclose(found[row], (of_whole if complete else of_masks)[row], atol=1e-6)
        assert not torch.allclose(found[row], (of_masks if complete else of_whole)[row], atol=1e-3)


def test_a_release_keeps_them_and_is_measured_with_them(tmp_path: Path) -> None:
    torch.manual_seed(0)
    system = System(WHOLE)
    assert system.whole is not None
    with torch.no_grad():
        for parameter in system.whole.parameters():
            parameter.zero_()
        list(system.whole.parameters())[-1][2] = 9.0  # says the third class, whatever it sees
    blank = tiny_release(tmp_path / "blank", list(CLASSES))
    card = save(
        tmp_path / "r", dataclasses.replace(blank, lr_px=8, classes=tuple(map(ClassName, CLASSES))), system
    )
    assert Architecture.from_json({k: v for k, v in card.architecture.items() if k != "fusion"}).whole
    release = Release.load(tmp_path / "r")
    rng = np.random.default_rng(0)
    hr, lr = (rng.integers(0, 255, (5, 3, px, px)).astype(np.float32) for px in (32, 8))
    mask = np.ones((5, 16), dtype=bool)
    assert release.classify(lr, hr, mask).hr.argmax(axis=1).tolist() == [2] * 5
    mask[:, 0] = False
    assert (release.classify(lr, hr, mask).hr[:, 2] < 0.9).all()
    pictures = torch.from_numpy(hr).to(torch.uint8)
    (told,) = outcomes(release, pictures, torch.full((5,), 2), (4,), curve=True).values()
    assert told.hr.all()


def test_they_learn_from_whole_images_and_the_others_from_masks(
    scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer(recipe(whole=True, crossfit=2), scenes)
    seen: dict[int, set[float]] = {}
    loss = classify.classification_loss

    def watched(body: torch.nn.Module, stream: str, batch: Batch, stage: object, *others: object) -> object:
        if stream == "hr":
            seen.setdefault(id(body), set()).add(stage.mask_share)  # type: ignore[attr-defined]
        return loss(body, stream, batch, stage, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(classify, "classification_loss", watched)
    before = weights(run.system)
    run.run(("hr",))
    masked, whole = run.members.trained[:3], run.members.trained[3:]
    assert len(whole) == 3
    assert [seen[id(m.hr)] for m in (*masked, *whole)] == [{1.0}] * 3 + [{0.0}] * 3
    assert [m.whole for m in masked] == [m.hr for m in whole]
    assert all(np.array_equal(a.learns, b.learns) for a, b in zip(masked, whole, strict=True))
    moved = {name for name, value in weights(run.system).items() if not torch.equal(value, before[name])}
    assert {name.split(".")[0] for name in moved} == {"hr", "whole"}
    names = [phase.name for phase in phases(run.recipe, run.members.trained)]
    assert names[:6] == ["hr", *(f"hr (shadow {k})" for k in range(1, 6))]
    assert names[6:] == ["lr", "lr (shadow 1)", "lr (shadow 2)", "ft2"]


def test_judges_answer_by_them_too() -> None:
    class Says(torch.nn.Module):
        def __init__(self, label: int) -> None:
            super().__init__()
            self.label = label

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.one_hot(torch.full((len(x),), self.label), 4).float() * 50

    nothing = np.zeros(0, dtype=np.int64)
    both = tuple(Member(Says(k), Says(0), nothing, Says(k + 2)) for k in range(2))
    judges = Judges(both, np.array([0, 1, 0, 1]))
    system = System(PLAIN)
    members = Members(system, np.arange(4), torch.zeros(4), np.arange(4), 0, 0, judges)
    actions = torch.zeros(4, 16)
    actions[1:3] = 1
    said = members.hr_probabilities(np.arange(4), [torch.rand(4, 3, 8, 8)], actions)
    assert said.argmax(dim=1).tolist() == [0, 3, 2, 1]


def test_an_interrupted_training_goes_on_with_them(scenes: Path, tmp_path: Path) -> None:
    once = trainer(recipe(whole=True), scenes)
    once.run()
    for stop in (1, 2, 4):
        file = tmp_path / f"{stop}.pt"
        with pytest.raises(KeyboardInterrupt):
            trainer(recipe(whole=True), scenes, file, stop).run()
        again = trainer(recipe(whole=True), scenes, file)
        again.run()
        one, other = weights(once.system), weights(again.system)
        assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_without_them_all_is_named_as_before() -> None:
    one, other = recipe(whole=False), recipe(whole=True)
    assert "whole" not in one.networks.told()
    assert one.digest("hr") != other.digest("hr")
    assert System(PLAIN).whole is None
    old = PLAIN.to_json()
    del old["whole"]
    assert Architecture.from_json(old) == PLAIN
    with pytest.raises(RecipeError, match=r"networks\.whole is of the policy answer-curve"):
        tiny_recipe(networks={"policy": "tiny", "hr": "tiny", "lr": "tiny", "whole": True})
