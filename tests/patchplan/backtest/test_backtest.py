"""The backtest: what it says of answers, what it refuses, and the whole of it on the drawn town."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from patchplan.backtest import main
from patchplan.backtest.report import compare, with_answers
from patchplan.backtest.run import FILES
from patchplan.backtest.tried import Tried
from patchplan.demo.drawn import draw_scene
from patchplan.demo.errors import DemoError
from tests.releases import ALL_AT_THE_SECOND, looks_twice


def tile(number: int, name: str, *used: int) -> dict[str, Any]:
    return {"tile": number, "class": name, "probability": 0.5, "patches_used": list(used)}


def tried(name: str) -> Tried:
    scene: Any = None
    return Tried(
        scene,
        name,
        Path("lr.tif"),
        plan={"tiles": [{"chosen": [1]}, {"chosen": []}], "totals": {"patches": 32}},
        bought={"tiles": [tile(0, "<b>", 1), tile(1, "field")]},
        all_hr={"tiles": [tile(1, "field"), tile(0, "forest")]},
        taken={0: [1]},
    )


def test_answers_that_change_are_told_by_tile() -> None:
    found = compare([tried("a.tif"), tried("b.tif")])
    assert found["answers"] == {"tiles": 4, "same": 2, "changed": 2, "agreement": 0.5}
    assert [(one["scene"], one["tile"], one["patches"]) for one in found["changed"]] == [
        ("a.tif", 0, [1]),
        ("b.tif", 0, [1]),
    ]
    assert found["scenes"][0] == {
        "scene": "a.tif", "tiles": 2, "chosen": 1, "bought": 1, "patches": 32, "changed": 1,
    }  # fmt: skip
    of_service = "<h1>Savings</h1><p class=sub>From the beginning.</p><footer>x</footer>"
    page = with_answers(of_service, {"product": "mine/<i>@1", "release": "tiny", **found})
    assert page.startswith("<h1>Backtest</h1><p class=sub>2 scenes, mine/&lt;i&gt;@1, planned by tiny.</p>")
    assert page.endswith("<footer>x</footer>")
    assert "2 of 4 tiles keep their class (50.0%)" in page
    assert "&lt;b&gt;" in page
    assert "<b>" not in page


def test_what_cannot_be_tested(tmp_path: Path) -> None:
    product = ["--product", "example-archive/by-the-patch", "--out", str(tmp_path / "out")]
    with pytest.raises(DemoError, match="no folder"):
        main(["--hr", str(tmp_path / "none"), *product])
    with pytest.raises(DemoError, match="no GeoTIFF"):
        main(["--hr", str(tmp_path), *product])
    (tmp_path / "not.tif").write_text("no raster")
    with pytest.raises(DemoError, match=r"not\.tif"):
        main(["--hr", str(tmp_path), *product])
    with pytest.raises(DemoError, match=r"no file .*mine\.yaml"):
        main(["--hr", str(tmp_path), *product, "--price-list", str(tmp_path / "mine.yaml")])
    assert not any((tmp_path / "out").glob("backtest.*"))


def test_a_product_is_looked_up_before_anything_is_planned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_scene(tmp_path / "town.tif")
    words = ["--hr", str(tmp_path / "town.tif"), "--tiles", "1", "--out", str(tmp_path / "out")]
    with pytest.raises(DemoError, match="has no product by-patch; it has by-the-patch, "):
        main([*words, "--product", "example-archive/by-patch"])
    assert "POST /v1/plans" not in capsys.readouterr().out


@pytest.mark.parametrize("words", [[], ["--one-order"]])
def test_a_second_look_is_one_more_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    looks_twice(tmp_path / "releases" / "twice", ["field", "forest", "harbor"], ALL_AT_THE_SECOND, 76.8)
    monkeypatch.setenv("PATCHPLAN_RELEASES_DIR", str(tmp_path / "releases"))
    draw_scene(tmp_path / "town.tif")
    out = tmp_path / "out"
    arguments = ["--hr", str(tmp_path / "town.tif"), "--tiles", "2", "--out", str(out), *words]
    assert main([*arguments, "--product", "example-archive/by-the-patch"]) == 0
    result = json.loads((out / "backtest.json").read_text())
    [scene] = result["scenes"]
    features = json.loads((out / "order.geojson").read_text())["features"]
    assert scene["chosen"] == 0
    if words:
        assert (result["orders"], result["purchases"], scene["bought"], features) == ([], None, 0, [])
        return
    [order] = result["orders"]
    assert scene["bought"] == order["estimate"]["patches"] == 32
    assert len(features) == order["polygons"]
    assert result["purchases"]["spent"] == order["price"] == result["purchases"]["full_hr"]["cost"]
    assert result["answers"]["changed"] == 0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_drawn_town(tmp_path: Path) -> None:
    (tmp_path / "hr").mkdir()
    draw_scene(tmp_path / "hr" / "town.tif")
    out = tmp_path / "out"
    arguments = ["--hr", str(tmp_path / "hr"), "--product", "example-archive/by-the-patch", "--out", str(out)]
    assert main(arguments) == 0
    assert sorted(path.name for path in out.iterdir()) == sorted(FILES)
    result = json.loads((out / "backtest.json").read_text())
    [scene] = result["scenes"]
    assert scene["bought"] == sum(order["estimate"]["patches"] for order in result["orders"])
    assert scene["chosen"] == result["orders"][0]["estimate"]["patches"]
    assert result["answers"]["tiles"] == scene["tiles"] == 12
    assert len(result["changed"]) == result["answers"]["changed"]
    [purchase] = result["savings"]["purchases"]
    assert Decimal(purchase["spent"]) == sum(Decimal(order["price"]) for order in result["orders"])
    full = Decimal(result["orders"][0]["full_hr"]["total"])
    assert Decimal(purchase["real_saving"]["cost"]) == full - Decimal(purchase["spent"])
    assert result["purchases"]["spent"] == purchase["spent"]
    page = (out / "backtest.html").read_text()
    assert "Answers with what was bought" in page
    assert purchase["spent"] in page
