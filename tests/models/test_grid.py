"""The grid: windows partition the image, ids are row-major, patches come and go whole."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models import grid


@given(st.integers(1, 8), st.integers(0, 200))
def test_windows_partition_the_image(side: int, more: int) -> None:
    px = side + more
    count = torch.zeros(px, px, dtype=torch.long)
    for rows, columns in grid.windows(px, side):
        count[rows, columns] += 1
        assert rows.stop > rows.start
        assert columns.stop > columns.start
    assert bool((count == 1).all())


def test_ids_run_row_by_row_from_the_top_left() -> None:
    ids = torch.arange(16.0)[None]
    image = grid.spread(ids, 8)[0, 0]
    assert image[0, 0] == 0
    assert image[0, 7] == 3
    assert image[7, 0] == 12
    for number, (rows, columns) in enumerate(grid.windows(8)):
        assert bool((image[rows, columns] == number).all())


@given(st.integers(4, 70))
def test_spread_follows_the_windows_at_any_size(px: int) -> None:
    image = grid.spread(torch.arange(16.0)[None], px)[0, 0]
    for number, (rows, columns) in enumerate(grid.windows(px)):
        assert bool((image[rows, columns] == number).all())


def test_patches_there_and_back() -> None:
    x = torch.rand(2, 3, 16, 16)
    patches = grid.to_patches(x)
    assert torch.equal(grid.from_patches(patches), x)
    rows, columns = list(grid.windows(16))[6]
    assert torch.equal(patches[16 + 6], x[1, :, rows, columns])


def test_fewer_pixels_than_patches_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot hold"):
        grid.edges(3)
