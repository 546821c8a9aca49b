"""Ours as its rows ask it: rules with its classifiers, budgets, and both streams averaged."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from models.data.degrade import low_resolution
from models.grid import centre_first
from models.patchdrop import most_likely
from models.reproduce import choosing, classifiers
from models.reproduce.bench import Bench
from models.reproduce.learner import Plan
from models.reproduce.ours import Ours, ours
from models.reproduce.rows import ROWS, Place
from tests.models.reproduce.curves import bench_for_ours


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Ours:
    plans = {"masked": Plan(8, 16, 1e-2), "onward": Plan(0), "ours": Plan(1)}
    return ours(bench_for_ours(tmp_path_factory.mktemp("ours"), count=128, epochs=4, plans=plans))


def of_pixels(trained: Ours, actions: Tensor) -> Tensor:
    """What the system says (n, N) of the held-out pictures themselves with these patches."""
    bench = trained.bench
    hr = bench.study.images[torch.from_numpy(bench.tests)].float()
    lr = low_resolution(hr, bench.ds, bench.recipe.images.lr_px)
    with torch.no_grad():
        return trained.system.eval().predict(lr, hr, actions).fused


@pytest.mark.parametrize("s", [0, 5, 16])
def test_rules_take_their_own_patches(trained: Ours, s: int) -> None:
    count = len(trained.bench.tests)
    ranks = centre_first(4, "rings")
    wanted = {
        "fixed-h": list(choosing.FIXED_H[:s]),
        "fixed-v": list(choosing.FIXED_V[:s]),
        "order": ranks.argsort()[:s].tolist(),
    }
    for rule, patches in wanted.items():
        told = trained.by_rule(rule, s)
        assert told.actions.shape == (count, 16)
        assert bool((told.actions[:, patches] == 1).all())
        assert told.actions.sum(dim=1).tolist() == [s] * count
        assert torch.allclose(told.probabilities, of_pixels(trained, told.actions), atol=1e-4)


def test_random_patches_are_others_for_every_image_and_the_same_again(trained: Ours) -> None:
    told = trained.by_rule("random", 5)
    assert told.actions.sum(dim=1).tolist() == [5] * len(trained.bench.tests)
    assert len({tuple(taken) for taken in told.actions.tolist()}) > len(trained.bench.tests) // 2
    assert torch.equal(Ours(trained.bench, trained.system).by_rule("random", 5).actions, told.actions)
    assert torch.allclose(told.probabilities, of_pixels(trained, told.actions), atol=1e-4)


def test_stochastic_patches_are_s_on_average(trained: Ours) -> None:
    taken = trained.by_rule("stochastic", 5).actions
    assert len(set(taken.sum(dim=1).tolist())) > 1
    assert float(taken.sum(dim=1).mean()) == pytest.approx(5, abs=1)
    assert float(taken[:, [5, 6, 9, 10]].mean()) > 2 * float(taken[:, [0, 3, 12, 15]].mean())


@pytest.mark.parametrize("price", [40.0, 120.0])
def test_two_looks_buy_as_the_service_would(tmp_path: Path, price: float) -> None:
    """The plan, then what a classification with its patches says to buy next."""
    plans = {"masked": Plan(8, 16, 1e-2), "onward": Plan(0), "ours": Plan(20)}
    bench = bench_for_ours(tmp_path, count=128, epochs=4, looks=2, policy_epochs=20, plans=plans)
    here = ours(bench)
    system = here.system.eval()
    system.architecture = replace(system.architecture, missed_cost=price)
    with torch.no_grad():  # one patch more is worth ever less, so that they do not buy all or nothing
        system.policy.body.hidden[-1].bias[1:] += torch.linspace(3, -3, 16)  # type: ignore[union-attr, index]
    hr = bench.study.images[torch.from_numpy(bench.tests)].float()
    lr = low_resolution(hr, bench.ds, bench.recipe.images.lr_px)
    with torch.no_grad():
        first = most_likely(system.probabilities(lr))
        seen = system.predict(lr, hr, first)
        assert seen.lr is not None
        both = most_likely(system.second_look(seen.lr, seen.hr, first))
    assert bool((both >= first).all())
    assert 0 < int(first.sum()) < int(both.sum()) < both.numel()
    assert len(set(both.sum(dim=1).tolist())) > 1
    # norms are folded here: a patch that is worth its price to the last digit may fall on the other side
    for mine, service in ((here.bought(price), both), (here.bought(price / 2, looks=1), first)):
        assert float((mine != service).any(dim=1).float().mean()) < 0.05
    bought = [float(here.bought(other).sum(dim=1).mean()) for other in (1.0, price, 1000.0)]
    assert bought == sorted(bought)
    assert bought[0] < bought[-1]


def test_a_rule_that_is_not_there_is_not_made_up(trained: Ours) -> None:
    with pytest.raises(KeyError):
        trained.by_rule("nobody", 3)


def with_chances(trained: Ours, chances: Tensor) -> Ours:
    """The same system, its policy of this mind (n, P + 1)."""
    other = Ours(trained.bench, trained.system)
    other.chances = chances
    return other


@pytest.mark.parametrize("limit", [1, 2.5, 6])
def test_a_price_is_found_that_keeps_s_and_no_dearer_one_does(trained: Ours, limit: float) -> None:
    """What a patch gains falls with each bought, at another pace for every image."""
    pace = torch.linspace(0.1, 0.9, len(trained.bench.tests))[:, None]
    some = with_chances(trained, 1 - 0.1 * pace ** torch.arange(17))
    price, told = some.within(limit)
    assert float(told.actions.sum(dim=1).mean()) <= limit
    assert torch.equal(told.actions, some.bought(price))
    assert float(some.bought(price * 1.06).sum(dim=1).mean()) > limit


def test_nothing_is_bought_where_every_price_buys_too_much(trained: Ours) -> None:
    count = len(trained.bench.tests)
    greedy = with_chances(trained, torch.linspace(0, 1, 17).clamp_max(0.25).expand(count, -1) * 4)
    assert float(greedy.bought(10.0).sum(dim=1).mean()) > 2
    price, told = greedy.within(2)
    assert (price, float(told.actions.sum())) == (0.0, 0.0)


def accuracy(trained: Ours, actions: Tensor) -> float:
    labels = trained.bench.labels[torch.from_numpy(trained.bench.tests)]
    return float((of_pixels(trained, actions).argmax(dim=1) == labels).double().mean())


def test_a_budget_is_spent_where_it_gains_most(trained: Ours) -> None:
    """The even images gain with every patch, the odd ones less: these get patches only from half the budget
    on.
    """
    count = len(trained.bench.tests)
    even = torch.arange(count) % 2 == 0
    climbs = 0.5 + 0.4 * torch.arange(17) / 16
    crawls = 0.6 + 0.1 * torch.arange(17) / 16
    chances = torch.where(even[:, None], climbs, crawls)
    told = with_chances(trained, chances).gain_by_budget()
    assert [row["share"] for row in told] == [tenth / 10 for tenth in range(11)]
    for row in told:
        share = row["share"]
        wanted = (0.5 + 0.4 * min(1, 2 * share) + 0.6 + 0.1 * max(0, 2 * share - 1)) / 2
        # no patch is cut in two
        assert row["predicted"] == pytest.approx(wanted, abs=0.4 / 16 / count * 2)
    nothing, half, everything = (told[tenth]["realised"] for tenth in (0, 5, 10))
    assert nothing == pytest.approx(accuracy(trained, torch.zeros(count, 16)))
    assert half == pytest.approx(accuracy(trained, even[:, None].float().expand(count, 16)))
    assert everything == pytest.approx(accuracy(trained, torch.ones(count, 16)))
    other = accuracy(trained, (~even)[:, None].float().expand(count, 16))
    assert len({nothing, half, everything, other}) == 4  # else they would say nothing of each other


def test_a_patch_that_opens_the_way_is_bought_for_what_comes_after_it(trained: Ours) -> None:
    """Even images gain nothing by one patch and much by four; the odd ones a little by the first."""
    count = len(trained.bench.tests)
    even = torch.arange(count) % 2 == 0
    late = torch.tensor([0.5] * 4 + [0.9] * 13)
    early = torch.tensor([0.5] + [0.55] * 16)
    told = with_chances(trained, torch.where(even[:, None], late, early)).gain_by_budget()
    patches = round(count * 16 / 10)
    assert 4 < patches < count // 2 * 4  # a tenth is not enough for all even images
    assert told[1]["predicted"] == pytest.approx(0.5 + 0.4 * (patches // 4) / count)
    assert told[2]["predicted"] == pytest.approx((0.9 + 0.55) / 2)
    assert told[10]["predicted"] == pytest.approx((0.9 + 0.55) / 2)


def test_a_budget_takes_patches_in_the_order_of_ours(trained: Ours) -> None:
    """Half the budget is eight patches for every image, where the first eight gain and no others."""
    count = len(trained.bench.tests)
    chances = torch.tensor([0.5 + 0.05 * min(k, 8) for k in range(17)])
    told = with_chances(trained, chances.expand(count, -1)).gain_by_budget()
    ranks = centre_first(4, "rings")
    wanted = accuracy(trained, (ranks < 8).float().expand(count, -1))
    assert told[5]["realised"] == pytest.approx(wanted)
    by_id = accuracy(trained, (torch.arange(16) < 8).float().expand(count, -1))
    assert wanted != by_id  # else nothing would be said of the order


def test_saliency_is_of_the_image_it_chooses_for(trained: Ours) -> None:
    """Scores are of every image of the data set, also of those that are not asked; S is that of ours."""
    bench = trained.bench
    place = Place(bench)
    climbs = torch.tensor([0.5 + 0.4 / 3 * min(k, 3) for k in range(17)])
    place.ours = with_chances(trained, climbs.expand(len(bench.tests), -1))
    assert place.ours_s == 3
    scores = torch.rand(len(bench.labels), 16, generator=torch.Generator().manual_seed(0))
    place.saliency = "drawn", scores
    run = ROWS["ours-stn"].run
    assert run is not None
    told = run(place)[""]
    for row, image in enumerate(bench.tests.tolist()):
        best = scores[image].argsort(descending=True)[:3]
        assert sorted(told.actions[row].nonzero()[:, 0].tolist()) == sorted(best.tolist())


def test_what_is_averaged_is_half_lr_and_half_what_all_hr_says(trained: Ours) -> None:
    bench = trained.bench
    hr = bench.study.images[torch.from_numpy(bench.tests)].float()
    with torch.no_grad():
        without = trained.system.lr_answer(low_resolution(hr, bench.ds, bench.recipe.images.lr_px)).exp()
    whole = bench.whole(bench.system.hr.body)
    assert float((whole.probabilities - without).abs().max()) > 0.1
    told = trained.averaged(whole)
    assert torch.allclose(told.probabilities, (whole.probabilities + without) / 2, atol=1e-4)
    assert bool((told.actions == 1).all())


@pytest.mark.parametrize("longer", [True, False])
def test_whole_images_have_hr_cnns_weights_where_the_recipe_says_so(tmp_path: Path, longer: bool) -> None:
    """Of the longer training; its judges have some as well, which have not learned what they judge."""
    made = bench_for_ours(tmp_path, epochs=1 if longer else 3, whole=True)
    profile = made.study.profile
    masking = replace(profile.masking, mask_share=0.85)
    bench = Bench(replace(made.study, profile=replace(profile, masking=masking)), made.part, made.ds)
    assert classifiers.longer_without_masks(bench.study) == longer
    found = ours(bench)
    assert found.system.whole is not None
    wanted = classifiers.whole_trained(bench.study, bench.learns, bench.seed)[1]
    own, other = found.system.whole.state_dict(), wanted.state_dict()
    assert all(torch.equal(own[name], other[name]) for name in own)
    masked = found.system.hr.body.state_dict()
    assert not all(torch.equal(own[name], masked[name]) for name in own)
    actions = torch.ones(len(bench.tests), 16)
    actions[::2, 3] = 0
    assert torch.allclose(found.answers(actions).probabilities, of_pixels(found, actions), atol=1e-4)
    judge = classifiers.judged(bench.study, bench.part).by.members[0]
    assert judge.whole is not None
    expected = classifiers.long_trained(bench.study, judge.learns, bench.part.seed, masks=False, given=False)[
        1
    ].state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in judge.whole.state_dict().items())
