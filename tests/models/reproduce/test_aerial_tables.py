"""Table 1 as it is made of aerial scenes: pictures above 64 px, ImageNet's weights, several ds."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from models.grid import centre_first
from models.reproduce import choosing, classifiers
from models.reproduce.answers import Kept
from models.reproduce.bench import Bench
from models.reproduce.command import main
from models.reproduce.profiles import load_profile
from models.reproduce.rows import ROWS
from models.reproduce.study import Study, open_study
from models.reproduce.tables import cells
from models.stages.inputs import Inputs
from tests.models.scenes import draw

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ASKED = ("hr-cnn", "lr-cnn", "patchdrop", "fixed-h", "ours", "ours-order")
AT = (4, 16)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the table of twelve scenes of 128 px."""
    folder, rng = tmp_path_factory.mktemp("aerial"), np.random.default_rng(0)
    for kind in ("across", "along", "quarter"):
        (folder / "scenes" / kind).mkdir(parents=True)
        for k in range(4):
            Image.fromarray(draw(kind, rng, 128)).save(folder / "scenes" / kind / f"{kind}{k}.png")
    words = ["table1", "--data", str(folder / "scenes"), "--profile", "smoke", "--parts", "1"]
    for ds in AT:
        words += ["--ds", str(ds)]
    places = ["--work", str(folder / "work"), "--out", str(folder / "results")]
    assert main([*words, "--rows", ",".join(ASKED), *places]) == 0
    return folder


@pytest.fixture(scope="module")
def study(place: Path) -> Study:
    """What the table was made of; what was trained for it is loaded."""
    return open_study(place / "scenes", "smoke", place / "work" / "scenes-smoke")


def records(place: Path) -> list[tuple[str, int, str, Kept]]:
    told = json.loads((place / "results" / "table1-scenes.json").read_text())["records"]
    return [(r["row"], r["ds"], r["stage"], Kept.from_json(r["answers"])) for r in told]


def test_every_row_at_every_ds(place: Path, study: Study) -> None:
    assert study.profile.kind == "aerial"
    assert study.images.shape == (12, 3, 256, 256)
    needed = cells("table1", load_profile("aerial", "smoke"))
    assert {ds for _, ds in needed} == {4, 8, 16, 32}
    wanted = {(row, ds, stage) for row in ASKED for ds in AT for stage in ROWS[row].stages}
    assert {cell[:2] for cell in wanted} <= set(needed)
    made = records(place)
    assert {(row, ds, stage) for row, ds, stage, _ in made} == wanted
    assert len(made) == len(wanted)
    part = study.protocol.parts[0]
    s = {(row, ds, stage): float(kept.s.mean()) for row, ds, stage, kept in made}
    for row, ds, stage, kept in made:
        assert kept.images.tolist() == part.tests.tolist()
        if row == "fixed-h":
            count = int(np.ceil(round(s["patchdrop", ds, stage], 6)))  # of its own ds
            assert (
                torch.from_numpy(kept.actions)
                .float()
                .equal(choosing.first(choosing.FIXED_H, count, len(part.tests)))
            )
    page = (place / "results" / "table1-scenes.md").read_text()
    for ds in AT:
        (section,) = (text for text in page.split("\n## ") if text.startswith(f"ds {ds}\n"))
        assert [row for row in ASKED if f"| {ROWS[row].title} |" not in section] == []


def test_patches_of_ours_come_ring_by_ring(place: Path, study: Study) -> None:
    """At every price, and in the row that takes as many for all."""
    ranks = centre_first(4, "rings")
    assert ranks.tolist() != centre_first(4, "distance").tolist()
    for row, _, _, kept in records(place):
        if row.startswith("ours"):
            taken = kept.actions[:, ranks.argsort().numpy()]
            assert (taken == (np.arange(16) < kept.s[:, None])).all()
    bench = Bench(study, study.protocol.parts[0], 16)
    assert study.profile.ours.networks.order == "rings"
    assert torch.equal(study.system(bench.ours_recipe, 0).ranks, ranks)


def test_one_cache_has_the_features_of_all_ds(place: Path, study: Study) -> None:
    """As they come from the pictures themselves, with and without the fill."""
    profile = study.profile
    assert len(list((place / "work" / "scenes-smoke" / "cache").glob("features-*"))) == 1
    wanted = np.array([0, 5, 11])
    for recipe in (profile.paper, profile.ours):
        served = study.inputs(recipe)
        assert served.cache is not None
        assert {ds for _, ds in served.variants} == {4, 8, 16, 32}
        fresh = Inputs(study.system(recipe, 0), study.images, study.labels, recipe.images)
        by_ds = []
        for ds in (4, 8, 16, 32):
            view = next(view for view, at in served.variants if at == ds and view)
            asked = wanted, np.full(3, view), np.full(3, ds)
            kept, anew = served.batch(*asked), fresh.batch(*asked)
            for name in ("hr", "fill", "lr", "policy"):
                one, other = getattr(kept, name), getattr(anew, name)
                if other is not None:
                    assert one is not None
                    assert torch.allclose(one, other, rtol=2e-2, atol=2e-2)
            assert (kept.fill is None) == (recipe is profile.paper)
            assert kept.lr is not None
            by_ds.append(kept.lr)
        assert all(not torch.allclose(a, b, atol=0.1) for a, b in itertools.pairwise(by_ds))


def test_classifiers_are_of_all_ds_and_asked_at_one(study: Study) -> None:
    part = study.protocol.parts[0]
    fine, coarse = (Bench(study, part, ds) for ds in AT)
    assert fine.base.key == coarse.base.key
    assert study.at(16) is study
    body = classifiers.base(study, part.learns, part.seed).system
    assert body.lr is not None
    said = [bench.without(body.lr.body).probabilities for bench in (fine, coarse)]
    whole = [bench.whole(body.hr.body).probabilities for bench in (fine, coarse)]
    assert torch.allclose(whole[0], whole[1], atol=1e-5)  # HR has no ds
    assert not torch.allclose(said[0], said[1], atol=1e-4)
