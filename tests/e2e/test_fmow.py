"""fMoW's layout with all 62 classes: trained on, served, planned, bought and classified over HTTP.

The pictures are drawn; no accuracy on fMoW is claimed by this.
"""

import shutil
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from app.core.settings import get_settings
from models import train
from models.data.decode import square
from models.data.degrade import low_resolution
from models.data.fmow import CLASSES
from models.data.sources import open_source
from tests.client import classify, made_plan, post_hr
from tests.conftest import Live
from tests.imagery import NORTH, TILE_M, WEST, geotiff
from tests.models.data.fmow_tree import write_fmow_tree

Pixels = npt.NDArray[np.uint8]
RECIPE = """
images = { hr_px = 32, lr_px = 16, ds = [2], fill = "lr", hr_gsd_m = 2.5 }
networks = { policy = "tiny", hr = "tiny", lr = "tiny" }
[stages]
hr = { epochs = 40, batch = 62, lr = 1e-2, mask_share = 0.5 }
lr = { epochs = 4, batch = 62, lr = 1e-3 }
pt = { epochs = 1, batch = 124, lr = 1e-4 }
ft1 = { epochs = 1, batch = 124, lr = 1e-4, sigma = 20.0 }
ft2 = { epochs = 1, batch = 124, lr = 1e-4, sigma = 20.0 }
"""


def test_a_release_of_fmow_serves_the_whole_line(live: Live, tmp_path: Path) -> None:
    tree = write_fmow_tree(tmp_path / "fmow", per_class=6, seed=0)
    recipe = tmp_path / "drawn-fmow.toml"
    recipe.write_text(RECIPE)
    folder = get_settings().releases_dir / "drawn-fmow"
    try:
        assert train.main(["--recipe", str(recipe), "--data", str(tree), "--out", str(folder)]) == 0
        _drive(live, tree)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _drive(live: Live, tree: Path) -> None:
    served = live.client.get("/v1/releases/drawn-fmow").json()
    assert [c["name"] for c in served["classes"]] == list(CLASSES)
    source = open_source(tree, split="val")
    right = 0
    for number in range(0, len(source), 11):
        hr = _square(source.read(number))
        lr = low_resolution(torch.from_numpy(hr)[None].float(), 2, 16)[0].round().byte().numpy()
        content = geotiff(lr, TILE_M / 16)
        plan = made_plan(live.client, content, release="drawn-fmow", threshold="0", max_patches="4")
        (tile,) = plan["tiles"]
        chosen = tile["chosen"]
        assert len(chosen) == 4
        bought = [_patch(hr, patch) for patch in chosen]
        answer = post_hr(live.client, plan["id"], *bought)
        assert answer.status_code in (200, 201), answer.text
        (found,) = classify(live.client, plan["id"])["tiles"]
        assert sorted(found["patches_used"]) == sorted(chosen)
        assert set(found["probabilities"]) == set(CLASSES)
        right += found["class"] == source.classes[source.labels[number]]
    asked = len(range(0, len(source), 11))
    assert right > asked / 2, f"{right} of {asked} drawn pictures"
    (group,) = live.client.get("/v1/reports/savings").json()["groups"]
    assert group["bought"]["patches"] == 4 * asked


def _square(pixels: Pixels) -> Pixels:
    """(H, W, 3) to (3, 32, 32) as the trainer squares it."""
    return np.ascontiguousarray(square(pixels, 32).transpose(2, 0, 1))


def _patch(hr: Pixels, patch: int) -> bytes:
    row, col = divmod(patch, 4)
    cut = hr[:, row * 8 : row * 8 + 8, col * 8 : col * 8 + 8]
    return geotiff(cut, 2.5, west=WEST + col * TILE_M / 4, north=NORTH - row * TILE_M / 4)
