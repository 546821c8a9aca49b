"""The policy that reads answers, and training over folds whose classifiers judge each other's images."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models import gain, train
from models.architecture import DISTANCE, ORDERS, RINGS, Architecture
from models.card import ClassName, GainModel, load_card
from models.data.degrade import low_resolution
from models.evaluate import outcomes
from models.grid import centre_first
from models.patchdrop import most_likely
from models.recipe import Recipe, RecipeError
from models.release import Release, save, tiny_release
from models.stages.curve import Seen, curve_loss, sizes_of
from models.stages.inputs import Batch, Indices
from models.system import System
from models.views import ANSWERING, composed, view_of
from tests.models.scenes import tiny_recipe, write_scenes
from tests.models.test_training import trainer, weights

RECIPE = """
images = { hr_px = 32, lr_px = 8, ds = [2, 4], fill = "lr", augment = "flip" }
networks = { policy = "answer-curve", hr = "tiny", lr = "tiny" }
training = { fusion = "log_pool", missed_cost = 9.0 }
[stages]
hr = { epochs = 4, batch = 16, lr = 1e-2, mask_share = 0.5 }
lr = { epochs = 2, batch = 16, lr = 1e-3 }
pt = { epochs = 1, batch = 16, lr = 1e-2, samples = 4, estimator = "curve", reuse = 2 }
ft2 = { epochs = 1, batch = 16, lr = 0.0, policy_lr = 1e-2, samples = 4, estimator = "curve" }
"""


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_scenes(tmp_path_factory.mktemp("scenes") / "scenes", per_class=12)


@given(st.integers(1, 8), st.sampled_from(ORDERS))
def test_the_order_ranks_every_patch_once_from_the_centre(grid: int, order: str) -> None:
    ranks = centre_first(grid, order)
    assert sorted(ranks.tolist()) == list(range(grid**2))
    middle = (grid - 1) / 2
    sides = [sorted((abs(p // grid - middle), abs(p % grid - middle))) for p in range(grid**2)]
    away = [far if order == RINGS else near**2 + far**2 for near, far in sides]
    by_rank = [away[p] for p in ranks.argsort().tolist()]
    assert by_rank == sorted(by_rank)


@pytest.mark.parametrize(("order", "corners"), [(RINGS, [4, 5, 6, 7]), (DISTANCE, [12, 13, 14, 15])])
def test_a_policy_buys_in_its_own_order(order: str, corners: list[int]) -> None:
    """And no training of classifiers hangs on it."""
    images = {"hr_px": 32, "lr_px": 4, "ds": [16], "fill": "lr"}
    recipe = curved(images, 4)
    recipe = dataclasses.replace(recipe, networks=dataclasses.replace(recipe.networks, order=order))  # type: ignore[arg-type]
    assert recipe.digest("lr") == curved(images, 4).digest("lr")
    assert (recipe.digest() == curved(images, 4).digest()) == (order == RINGS)
    system = System(recipe.architecture(3))
    assert Architecture.from_json(system.architecture.to_json()) == system.architecture
    assert sorted(system.ranks[[0, 3, 12, 15]].tolist()) == corners
    chances = torch.linspace(0, 1, 17)[None] ** 0.5
    worth = system.purchases(chances)[0]
    assert worth.argsort(descending=True).tolist() == system.ranks.argsort().tolist()
    with pytest.raises(ValueError, match="order"):
        centre_first(4, "corners")
    with pytest.raises(ValueError, match="order"):
        System(dataclasses.replace(system.architecture, order="corners"))
    with pytest.raises(RecipeError, match=r"networks\.order"):
        tiny_recipe(networks={"policy": "tiny", "hr": "tiny", "lr": "tiny", "order": "distance"})


@given(st.integers(2, 9), st.integers(1, 5), st.integers(0, 999))
def test_trials_hold_none_and_one_of_each_range(samples: int, count: int, seed: int) -> None:
    sizes = sizes_of(samples, count, 16, torch.Generator().manual_seed(seed))
    assert sizes.shape == (samples, count)
    assert bool((sizes[0] == 0).all())
    assert 1 <= int(sizes[1:].min()) <= int(sizes[1:].max()) <= 16
    assert bool((sizes.diff(dim=0) >= 0).all())
    system = System(curved({"hr_px": 32, "lr_px": 4, "ds": [16], "fill": "lr"}, 1).architecture(3))
    ranks, actions = system.ranks, system.first(sizes)
    for action, size in zip(actions.flatten(0, 1), sizes.flatten().tolist(), strict=True):
        assert set(ranks[action > 0].tolist()) == set(range(size))


@given(st.integers(0, 7), st.integers(0, 7))
def test_symmetries_compose(first: int, then: int) -> None:
    x = torch.arange(9).view(1, 3, 3)
    assert torch.equal(view_of(view_of(x, first), then), view_of(x, composed(first, then)))


def test_answering_views_are_a_group() -> None:
    """So that a cache which pairs each view with half of the ds only holds all views of an answer."""
    inside, outside = set(ANSWERING[4]), set(range(8)) - set(ANSWERING[4])
    for then in inside:
        assert {composed(view, then) for view in inside} == inside
        assert {composed(view, then) for view in outside} == outside


CURVE_STAGE = {"batch": 12, "lr": 1e-2, "samples": 4, "estimator": "curve", "reuse": 4}


def curved(images: dict[str, object], epochs: int, **training: object) -> Recipe:
    quick = {"epochs": 12, "batch": 12, "lr": 1e-2}
    stages = {
        "hr": {**quick, "mask_share": 1.0},
        "lr": quick,
        "ft2": {**CURVE_STAGE, "epochs": epochs, "lr": 0.0, "policy_lr": 1e-2},
    }
    networks = {"policy": "answer-curve", "hr": "tiny", "lr": "tiny"}
    return tiny_recipe(images=images, networks=networks, stages=stages, training=training)


def test_nothing_is_bought_where_lr_is_always_right(scenes: Path) -> None:
    images = {"hr_px": 32, "lr_px": 16, "ds": [2], "fill": "lr"}
    run = trainer(curved(images, 12, missed_cost=20.0), scenes)
    said: list[dict[str, object]] = []
    run.report = said.append
    run.run()
    assert said[-1]["accuracy"] == pytest.approx(1.0, abs=0.05)
    assert float(str(said[-1]["patches"])) < 1.0


def test_a_higher_cost_of_missed_answers_buys_more(scenes: Path) -> None:
    images = {"hr_px": 32, "lr_px": 4, "ds": [16], "fill": "lr"}
    run = trainer(curved(images, 4, missed_cost=30.0), scenes)
    run.run()
    lr = torch.rand(16, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 255
    with torch.no_grad():
        chances = run.system.chances(lr)
        s = run.system.probabilities(lr)
    assert chances.shape == (16, 17)
    assert bool((chances.diff(dim=1) >= 0).all())
    assert bool(((chances >= 0) & (chances <= 1)).all())
    ranks = centre_first(4)
    for cost in (0.5, 5.0, 50.0):
        bought = (gain.purchase_probabilities(chances, ranks, cost) > 0.5).sum(dim=1)
        more = (gain.purchase_probabilities(chances, ranks, cost * 3) > 0.5).sum(dim=1)
        assert bool((more >= bought).all())
    assert torch.equal(s, gain.purchase_probabilities(chances, ranks, 30.0))


chances_of = st.lists(st.floats(0, 1), min_size=2, max_size=17).map(lambda x: torch.tensor([sorted(x)]))


@given(chances_of)
def test_slopes_are_the_concave_hull(chances: torch.Tensor) -> None:
    slopes = gain.slopes(chances)[0].double()
    hull = chances[0, 0].double() + torch.cat([torch.zeros(1), slopes]).cumsum(0)
    assert bool((slopes.diff() <= 1e-6).all())
    assert bool((hull >= chances[0].double() - 1e-5).all())
    assert float(hull[-1]) == pytest.approx(float(chances[0, -1]), abs=1e-5)
    touching = (hull - chances[0].double()).abs() < 1e-5
    for k in range(1, len(hull) - 1):  # the hull bends only where it touches
        if float(slopes[k - 1] - slopes[k]) > 1e-4:
            assert bool(touching[k])


@given(chances_of.filter(lambda c: c.shape[1] == 17))
def test_shares_lead_back_to_the_chances(chances: torch.Tensor) -> None:
    """The gain model with these weights gives the policy's own chance for every prefix it would buy."""
    ranks = centre_first(4)
    weights = gain.shares(chances, ranks)[0]
    assert float(weights.sum()) == pytest.approx(1, abs=1e-5)
    model = GainModel((0.0, 1.0))
    start, end = float(chances[0, 0]), float(chances[0, -1])
    for k in range(17):
        share = float(weights[ranks < k].sum())
        assert model.expected(start, end, share) == pytest.approx(float(chances[0, k]), abs=1e-4)


@given(chances_of, st.integers(0, 16))
def test_a_hull_may_begin_later(chances: torch.Tensor, start: int) -> None:
    """It is the hull of what lies ahead, and what is had is worth more than anything."""
    start = min(start, chances.shape[1] - 1)
    slopes = gain.slopes(chances, torch.tensor([start]))[0]
    assert bool(slopes[:start].isinf().all())
    if start < chances.shape[1] - 1:
        assert torch.equal(slopes[start:], gain.slopes(chances[:, start:])[0])
    if chances.shape[1] == 17:
        worth = gain.purchase_probabilities(chances, centre_first(4), 30.0, torch.tensor([start]))[0]
        had = centre_first(4) < start
        assert bool((worth[had] == 1).all())
        assert bool(((worth[~had] >= 0) & (worth[~had] < 1)).all())


def test_chances_that_are_no_numbers_stay_none() -> None:
    """Whoever serves them refuses them; they must not become a purchase of everything."""
    chances = torch.full((1, 17), torch.nan)
    assert bool(gain.purchase_probabilities(chances, centre_first(4), 30.0).isnan().all())
    later = gain.purchase_probabilities(chances, centre_first(4), 30.0, torch.tensor([3]))
    assert int(later.isnan().sum()) == 13


@pytest.mark.parametrize(("policy", "looks"), [("tiny", 2), ("answer-curve", 3), ("answer-curve", 0)])
def test_looks_are_of_a_policy_that_reads_answers(policy: str, looks: int) -> None:
    with pytest.raises(ValueError, match="looks"):
        System(Architecture(3, 4, 32, policy, "tiny", "tiny", fill="lr", looks=looks))


def two_looks(images: dict[str, object], epochs: int, **training: object) -> Recipe:
    recipe = curved(images, epochs, **training)
    return dataclasses.replace(recipe, networks=dataclasses.replace(recipe.networks, looks=2))


def test_a_second_look_is_another_policy_of_the_same_classifiers() -> None:
    images = {"hr_px": 32, "lr_px": 4, "ds": [16], "fill": "lr"}
    one, two = curved(images, 1), two_looks(images, 1)
    assert one.digest("lr") == two.digest("lr")
    assert one.digest() != two.digest()
    assert dataclasses.replace(two, networks=one.networks).digest() == one.digest()
    system = System(two.architecture(3))
    assert Architecture.from_json(system.architecture.to_json()) == system.architecture
    with pytest.raises(RecipeError, match=r"networks\.looks"):
        tiny_recipe(networks={"policy": "tiny", "hr": "tiny", "lr": "tiny", "looks": 2})
    with pytest.raises(RecipeError, match=r"networks\.looks"):
        tiny_recipe(
            images=images, networks={"policy": "answer-curve", "hr": "tiny", "lr": "tiny", "looks": 3}
        )


def test_a_wider_policy_is_another_policy_of_the_same_classifiers() -> None:
    two = two_looks({"hr_px": 32, "lr_px": 4, "ds": [16], "fill": "lr"}, 1)
    wide = dataclasses.replace(two, networks=dataclasses.replace(two.networks, width=128))
    assert wide.digest("lr") == two.digest("lr")
    assert wide.digest() != two.digest()
    system = System(wide.architecture(3))
    assert Architecture.from_json(system.architecture.to_json()) == system.architecture
    assert system.policy.body.hidden[3].in_features == 128  # type: ignore[union-attr, index]
    narrow = {name: value for name, value in two.architecture(3).to_json().items() if name != "width"}
    assert System(Architecture.from_json(narrow)).policy.body.hidden[3].in_features == 48  # type: ignore[union-attr, index]
    for policy, width in (("answer-curve", 0), ("answer-curve", 1025), ("tiny", 128)):
        with pytest.raises(RecipeError, match=r"networks\.width"):
            tiny_recipe(networks={"policy": policy, "hr": "tiny", "lr": "tiny", "width": width})


def test_another_policy_goes_on_from_finished_classifiers(scenes: Path, tmp_path: Path) -> None:
    """A checkpoint from before the policy's stages does not say which policy is to come."""
    images = {"hr_px": 32, "lr_px": 4, "ds": [16], "fill": "lr"}
    two = two_looks(images, 1)
    wide = dataclasses.replace(two, networks=dataclasses.replace(two.networks, width=128))
    checkpoint = tmp_path / "checkpoint"
    epochs = sum(two.stages[stage].epochs for stage in ("hr", "lr"))
    first = trainer(two, scenes, checkpoint, stop_after=epochs - 1)
    with pytest.raises(KeyboardInterrupt):
        first.run()
    again = trainer(wide, scenes, checkpoint)
    again.run()
    assert again.system.policy.body.hidden[3].in_features == 128  # type: ignore[union-attr, index]
    learned = weights(first.system)
    for name, tensor in weights(again.system).items():
        if not name.startswith("policy"):
            assert torch.equal(tensor, learned[name]), name
    with pytest.raises(ValueError, match="another recipe"):
        trainer(two, scenes, checkpoint).run()


def test_every_later_s_is_told_from_every_look() -> None:
    """The loss of a policy of two looks: the mean over all pairs of S tried, the earlier one looked from."""
    images = {"hr_px": 32, "lr_px": 4, "ds": [16], "fill": "lr"}
    system = System(two_looks(images, 1).architecture(3)).eval()
    torch.manual_seed(0)
    sizes = torch.tensor([[0, 3, 9], [0, 7, 16]])
    right = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]])
    lr, hr = torch.rand(2, 3).softmax(1), torch.rand(2, 3, 3).softmax(2)
    with torch.no_grad():
        found = float(curve_loss(system, Seen(sizes, right, lr, hr)))
        terms = []
        for look in range(3):
            chances = system.chances_from(lr, hr[:, look], sizes[:, look])
            for ahead in range(look, 3):
                p = chances.gather(1, sizes[:, ahead : ahead + 1])[:, 0]
                terms.append(-(right[:, ahead] * p.log() + (1 - right[:, ahead]) * (1 - p).log()))
        assert found == pytest.approx(float(torch.stack(terms).mean()), abs=1e-5)
        once = Seen(sizes, right, lr, hr[:, :1])
        assert float(curve_loss(system, once)) == pytest.approx(
            float(torch.stack(terms[:3]).mean()), abs=1e-5
        )


@given(st.sets(st.integers(0, 15)), st.integers(0, 99))
def test_whatever_was_bought_the_rest_follows_in_order(had: set[int], seed: int) -> None:
    system = System(two_looks({"hr_px": 32, "lr_px": 4, "ds": [16], "fill": "lr"}, 1).architecture(3)).eval()
    lr, hr = torch.rand(2, 1, 3, generator=torch.Generator().manual_seed(seed)).softmax(2)
    actions = torch.zeros(1, 16)
    actions[0, sorted(had)] = 1
    with torch.no_grad():
        worth = system.second_look(lr, hr, actions)[0]
        in_order = system.second_look(lr, hr, system.first(torch.tensor([len(had)])))[0]
    assert torch.equal(worth.sort().values, in_order.sort().values)
    assert bool((worth[sorted(had)] == 1).all())
    left = [p for p in system.ranks.argsort().tolist() if p not in had]
    assert worth[left].tolist() == sorted(worth[left].tolist(), reverse=True)
    if len(had) == int((system.ranks[sorted(had)] < len(had)).sum()):
        assert torch.equal(worth, in_order)


def test_a_second_look_buys_on_where_the_first_left_doubt(tmp_path: Path) -> None:
    """Half of the images are told by four patches, and HR is then sure; the other half only by all."""
    images = {"hr_px": 32, "lr_px": 4, "ds": [16], "fill": "lr", "augment": "flip"}
    torch.manual_seed(0)
    system = System(two_looks(images, 1, missed_cost=30.0).architecture(3))
    assert system.policy.body.hidden[0].in_features == 3 * 3 + 4 + 3 + 17  # type: ignore[union-attr, index]
    doubt, sure = torch.full((3,), 1 / 3), torch.tensor([0.998, 0.001, 0.001])
    soon, late = torch.stack([doubt, sure, sure]), torch.stack([doubt, doubt, sure])
    half = 32
    seen = Seen(
        torch.tensor([0, 4, 16]).expand(2 * half, 3),
        torch.tensor([[0.0, 1.0, 1.0]] * half + [[0.0, 0.0, 1.0]] * half),
        doubt.expand(2 * half, 3),
        torch.cat([soon.expand(half, 3, 3), late.expand(half, 3, 3)]),
    )
    adam = torch.optim.Adam(system.policy.body.parameters(), lr=1e-2)
    for _ in range(300):
        adam.zero_grad()
        curve_loss(system, seen).backward()  # type: ignore[no-untyped-call]
        adam.step()
    system.eval()
    lr, has = doubt.expand(2, 3), torch.tensor([4, 4])
    with torch.no_grad():
        first = system.chances_from(lr, lr)
        chances = system.chances_from(lr, torch.stack([doubt, sure]), has)
        worth = system.purchases(chances, has)
    assert float(chances[1, 4]) > 0.9
    assert float(chances[0, 4]) < 0.1
    assert float(first[0, 4]) == pytest.approx(0.5, abs=0.1)  # without HR they are all alike
    more, enough = most_likely(worth).sum(dim=1).tolist()
    assert more > enough == 4
    assert bool((worth[:, system.ranks < 4] == 1).all())
    blank = tiny_release(tmp_path / "blank", ["a", "b", "c"])
    names = tuple(ClassName(f"c{k}") for k in range(3))
    save(tmp_path / "two", dataclasses.replace(blank, name="two", lr_px=4, classes=names), system)
    release = Release.load(tmp_path / "two")
    assert release.system.architecture.looks == 2
    pictures = torch.randint(
        0, 255, (8, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    (told,) = outcomes(release, pictures, torch.zeros(8, dtype=torch.long), (16,)).values()
    first = (release.plan(low_resolution(pictures.float(), 16, 4).numpy()) > 0.5).sum(axis=1)
    assert bool((told.s >= first).all())


def test_only_a_policy_of_answers_learns_a_curve() -> None:
    with pytest.raises(RecipeError, match="curve, and only it"):
        tiny_recipe(stages={"pt": {**CURVE_STAGE, "epochs": 1}})
    with pytest.raises(RecipeError, match="reads both streams"):
        curved({"hr_px": 32, "lr_px": 8, "fill": "zeros"}, 1)
    for views in ({"lr_views": 4}, {"hr_views": 4}, {"lr_views": 3}):
        with pytest.raises(RecipeError, match=next(iter(views))):
            tiny_recipe(networks={"policy": "tiny", "hr": "tiny", "lr": "tiny", **views})


def test_a_release_tells_what_its_patches_gain(scenes: Path, tmp_path: Path) -> None:
    images = {"hr_px": 32, "lr_px": 16, "ds": [2, 4], "fill": "lr", "augment": "dihedral"}
    recipe = curved(images, 1)
    recipe = dataclasses.replace(
        recipe, networks=dataclasses.replace(recipe.networks, lr_views=4, hr_views=4)
    )
    run = trainer(recipe, scenes)
    run.run()
    blank = tiny_release(tmp_path / "blank", ["a", "b", "c"])
    names = tuple(ClassName(f"c{k}") for k in range(run.system.architecture.classes))
    save(tmp_path / "told", dataclasses.replace(blank, name="told", classes=names), run.system)
    release = Release.load(tmp_path / "told")
    assert release.card.gain == GainModel((0.0, 1.0))
    lr = np.random.default_rng(0).integers(0, 255, (3, 3, 16, 16), dtype=np.uint8)
    for decision, s in zip(release.decide(lr), release.plan(lr), strict=True):
        assert decision.gain is not None
        assert np.array_equal(decision.probabilities, s)
        assert sum(decision.gain["weights"]) == pytest.approx(1, abs=1e-5)
        assert 0 <= decision.gain["lr"] <= decision.gain["hr"] <= 1
    # the answer is the mean over the square's symmetries, so turning the tile by them changes nothing
    turned = np.ascontiguousarray(view_of(torch.from_numpy(lr), 7).numpy())
    assert np.allclose(release.plan(lr), release.plan(turned), atol=0.2)
    alone, same = (release.system.lr_answer(torch.from_numpy(x).float()) for x in (lr, turned))
    assert torch.allclose(alone, same, atol=1e-4)


def test_a_rate_of_zero_keeps_the_hr_stream(scenes: Path) -> None:
    quick = {"epochs": 1, "batch": 16, "lr": 1e-2}
    stages = {"hr": quick, "lr": quick, "ft2": {**quick, "lr": 0.0, "policy_lr": 1e-2}}
    run = trainer(tiny_recipe(stages=stages), scenes)
    run.run(("hr", "lr"))
    before = weights(run.system)
    again = trainer(run.recipe, scenes)
    again.run()
    moved = {n.split(".")[0] for n, t in weights(again.system).items() if not torch.equal(t, before[n])}
    assert moved == {"policy"}


def test_folds_judge_each_other_and_go_on_where_they_stopped(scenes: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "folded.toml"
    recipe.write_text(RECIPE)

    def command(name: str, *more: str) -> list[str]:
        out = tmp_path / name / "folded"
        return ["--recipe", str(recipe), "--data", str(scenes), "--out", str(out), "--folds", "3", *more]

    assert train.main(command("whole")) == 0
    card = load_card(tmp_path / "whole" / "folded")
    assert {ds: figures["n"] for ds, figures in card.figures["by_ds"].items()} == {"2": 36, "4": 36}
    assert card.architecture["missed_cost"] == 9.0
    assert card.fusion == "log_pool"
    assert "3 stratified folds" in card.training["split"]
    work = tmp_path / "work"
    assert train.main(command("kept", "--work", str(work))) == 0
    (work / "release.checkpoint").unlink()
    for outcome in work.glob("fold-1-*.npz"):
        outcome.unlink()
    assert train.main(command("again", "--work", str(work))) == 0
    again = load_card(tmp_path / "again" / "folded")
    assert again.weights_sha256 == card.weights_sha256
    assert again.figures == card.figures
    assert np.all([p.name.startswith(("fold", "classifier", "release", "cache")) for p in work.iterdir()])


@pytest.mark.parametrize("shifts", [True, False])
def test_a_policy_learns_from_pictures_where_they_are_if_it_is_told_to(
    scenes: Path, monkeypatch: pytest.MonkeyPatch, shifts: bool
) -> None:
    """The fusion's fit too; classifiers learn from shifted ones either way."""
    images = {"hr_px": 32, "lr_px": 8, "fill": "lr", "augment": "crop-flip"}
    quick = {"epochs": 1, "batch": 16, "lr": 1e-2}
    curve = {**quick, "lr": 0.0, "policy_lr": 1e-2, "samples": 3, "estimator": "curve", "shifts": shifts}
    run = trainer(
        tiny_recipe(
            images=images,
            networks={"policy": "answer-curve", "hr": "tiny", "lr": "tiny"},
            stages={"hr": quick, "lr": quick, "ft2": curve},
            training={"fusion": "log_pool"},
        ),
        scenes,
    )
    moved: list[bool] = []
    batch = run.inputs.batch

    def watched(indices: Indices, *others: Any, answers: bool = False) -> Batch:
        found = batch(indices, *others, answers=answers)
        plain = run.inputs.images[torch.from_numpy(indices)].float()
        turned = torch.stack([view_of(p, int(v)) for p, v in zip(plain, others[0], strict=True)])
        where_it_was = run.system.normalised(turned)
        moved.append(not torch.equal(found.hr, where_it_was))
        return found

    monkeypatch.setattr(run.inputs, "batch", watched)
    for stage, expected in (("hr", True), ("lr", True), ("ft2", shifts)):
        moved.clear()
        run.run((stage,))
        assert moved
        assert set(moved) == {expected}
    assert run.recipe.digest("ft2") != tiny_digest(run.recipe, not shifts)


def tiny_digest(recipe: Recipe, shifts: bool) -> str:
    ft2 = dataclasses.replace(recipe.stages["ft2"], shifts=shifts)
    return dataclasses.replace(recipe, stages={**recipe.stages, "ft2": ft2}).digest("ft2")
