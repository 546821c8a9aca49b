"""Experience replay: the last images kept in the order of the batch, whoever asked about them."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from models.distributed import Group
from models.recipe import RecipeError
from models.stages.curve import Seen
from models.stages.replay import Replay
from tests.models.scenes import tiny_recipe
from tests.models.test_training import OF_ANSWERS, REHEARSED


def seen(numbers: list[int]) -> Seen:
    """Images whose every field tells their number."""
    column = torch.tensor(numbers)[:, None]
    return Seen(column, column.float(), column / 1000, column / 1000)


@given(st.lists(st.integers(2, 9), min_size=1, max_size=6), st.integers(1, 20), st.integers(1, 3))
def test_the_last_images_are_kept_in_their_order(batches: list[int], capacity: int, parts: int) -> None:
    replay, count = Replay(capacity, Group()), 0
    for size in batches:
        rows = np.array_split(np.random.default_rng(count).permutation(size), min(parts, size))
        replay.add([(part, seen([count + row for row in part.tolist()])) for part in rows], size)
        count += size
    expected = list(range(count))[-capacity:]
    kept = Seen(**replay.state())
    assert kept.sizes[:, 0].tolist() == expected
    assert kept.right[:, 0].tolist() == expected
    assert torch.equal(kept.lr, kept.hr)
    assert len(replay) == len(expected)
    again = Replay(capacity, Group())
    again.restore(replay.state())
    for (some, drawn), (same, redrawn) in zip(
        replay.turns(2, (0, 5), 50), again.turns(2, (0, 5), 50), strict=True
    ):
        assert np.array_equal(some, same)
        assert torch.equal(drawn.sizes, redrawn.sizes)
        assert set(drawn.sizes[:, 0].tolist()) <= set(expected)


def test_what_was_kept_when_every_policy_looked_once_is_still_read() -> None:
    replay = Replay(10, Group())
    one = torch.zeros(3, 2)
    replay.restore({"sizes": one.long(), "right": one, "lr": torch.ones(3, 5), "hr": torch.ones(3, 5)})
    assert replay.state()["hr"].shape == (3, 1, 5)
    more = Seen(one.long(), one, torch.ones(3, 5), torch.ones(3, 1, 5))
    replay.add([(np.arange(3), more)], 3)
    assert len(replay) == 6


@given(st.integers(2, 40), st.integers(1, 4), st.integers(1, 3))
def test_processes_share_what_is_drawn(count: int, times: int, size: int) -> None:
    assume(count >= 2 * size)  # what the trainer demands

    def turns(group: Group) -> list[tuple[np.ndarray, Seen]]:
        replay = Replay(100, Group())
        replay.add([(np.arange(100), seen(list(range(100))))], 100)
        replay._group = group
        return list(replay.turns(times, (0, 3), count))

    alone = turns(Group())
    parts = [turns(Group(rank, size)) for rank in range(size)]
    for turn, (numbers, drawn) in enumerate(alone):
        found = {
            int(n): int(v)
            for part in parts
            for n, v in zip(part[turn][0], part[turn][1].sizes[:, 0].tolist(), strict=True)
        }
        assert found == dict(zip(numbers.tolist(), drawn.sizes[:, 0].tolist(), strict=True))


def test_no_two_drawings_of_an_epoch_have_one_number_or_an_images() -> None:
    replay = Replay(100, Group())
    replay.add([(np.arange(100), seen(list(range(100))))], 100)
    numbers = [
        n for step, count in enumerate([32, 32, 31, 16]) for n, _ in replay.turns(11, (0, step), count)
    ]
    flat = np.concatenate(numbers)
    assert len(set(flat.tolist())) == len(flat)
    assert flat.min() >= 1 << 32


@pytest.mark.parametrize(
    ("stage", "networks"),
    [
        ({**REHEARSED, "replay": 15}, OF_ANSWERS["networks"]),
        ({"epochs": 1, "replay": 400}, {"policy": "tiny", "hr": "tiny", "lr": "tiny"}),
    ],
)
def test_only_curves_are_rehearsed_and_from_a_batch_on(stage: dict[str, object], networks: object) -> None:
    with pytest.raises(RecipeError, match="replay"):
        tiny_recipe(networks=networks, stages={"pt": stage})


def test_a_recipe_without_it_is_the_one_it_was() -> None:
    """So that trainings and classifiers from before it go on."""
    assert tiny_recipe().digest() == "f45b7c5cce5e354ffd1b87ffe55a4de7cb4ecfd0c430b6ad4b9c9778cfb20943"
