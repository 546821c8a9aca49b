"""Experience replay: the last images kept in the order of the batch, whoever asked about them."""

import numpy as np
import pytest
import torch
from hypothesis import given
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
    for key in ((0, 1), (0, 2)):
        assert torch.equal(again.draw(50, key).sizes, replay.draw(50, key).sizes)
        assert set(replay.draw(50, key).sizes[:, 0].tolist()) <= set(expected)


def test_other_keys_draw_others() -> None:
    replay = Replay(100, Group())
    replay.add([(np.arange(100), seen(list(range(100))))], 100)
    assert replay.draw(40, (0, 1)).sizes.tolist() != replay.draw(40, (0, 2)).sizes.tolist()


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
