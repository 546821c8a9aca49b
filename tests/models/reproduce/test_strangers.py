"""`patchplan reproduce` on whatever data, weights and files somebody has: nothing is lost, or unsaid."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from models.reproduce import headline
from models.reproduce.command import main
from models.reproduce.store import Store, read_table
from tests.models.reproduce.records import record
from tests.models.scenes import write_scenes


def ask(folder: Path, *words: str) -> int:
    """HR-CNN of table 2 for the scenes in `folder`, at the smallest length; its pages go to `results`."""
    told = ["--profile", "smoke", "--parts", "1", "--rows", "hr-cnn", "--work", str(folder / "work")]
    return main(["table2", "--data", str(folder / "scenes"), *told, "--out", str(folder / "results"), *words])


def head(folder: Path) -> dict[str, Any]:
    return read_table(folder / "results" / "table2-scenes.json")[0]


def test_tables_of_other_images_of_the_same_name_stand_beside_each_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    for seed, name in enumerate(("one", "other")):
        write_scenes(tmp_path / name / "scenes", per_class=6, seed=seed)
        (tmp_path / name / "results").symlink_to(results)
    results.mkdir()
    assert ask(tmp_path / "one") == 0
    first = (results / "table2-scenes.json").read_bytes()
    capsys.readouterr()
    assert ask(tmp_path / "other") == 0
    told = capsys.readouterr().out
    assert "table2-scenes.json is of other images" in told
    (file,) = results.glob("table2-scenes-*.json")
    assert f"the pages of these are called {file.stem.removeprefix('table2-')}" in told
    assert (results / "table2-scenes.json").read_bytes() == first
    assert len(read_table(file)[1]) == 1
    assert file.with_suffix(".md").exists()
    # and both are found again
    for name in ("one", "other"):
        capsys.readouterr()
        assert ask(tmp_path / name) == 0
        assert "hr 1:" not in capsys.readouterr().out


def test_a_path_that_is_not_there_is_not_taken_for_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scenes(tmp_path / "sets" / "scenes", per_class=1)
    monkeypatch.setenv("PATCHPLAN_DATA", str(tmp_path / "sets"))
    for wrong in (str(tmp_path / "typo" / "scenes"), "typo/scenes"):
        assert main(["table2", "--data", wrong, "--estimate", "--out", str(tmp_path)]) == 2
        assert f"there is no {wrong}" in capsys.readouterr().err


def test_what_is_left_out_and_what_cannot_be_known_is_on_the_page(tmp_path: Path) -> None:
    scenes = tmp_path / "scenes"
    write_scenes(scenes / "train", per_class=6)
    write_scenes(scenes / "val", per_class=2, seed=1)
    kind = min(folder.name for folder in (scenes / "train").iterdir())
    (scenes / "train" / kind / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (scenes / "val" / "never").mkdir()
    for picture in (scenes / "val" / kind).iterdir():
        picture.rename(scenes / "val" / "never" / picture.name)
    assert ask(tmp_path) == 0
    page = (tmp_path / "results" / "table2-scenes.md").read_text()
    assert "Left out of the data set: 1 unreadable:" in page
    assert "broken.png" in page
    every = 3 * head(tmp_path)["parts"] * 2
    assert f"**{every // 3} of the {every} held-out images of all parts are of classes" in page


def test_more_pictures_than_are_compared_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a folder with more than 100,000 of them; a published split draws nothing."""
    monkeypatch.setattr("models.data.splits.COMPARE_UP_TO", 17)
    write_scenes(tmp_path / "scenes", per_class=6)
    said = "18 pictures are too many to be compared: copies of one picture may be learned from and held out."
    assert ask(tmp_path) == 0
    assert said in (tmp_path / "results" / "table2-scenes.md").read_text()
    write_scenes(tmp_path / "split" / "scenes" / "train", per_class=6)
    write_scenes(tmp_path / "split" / "scenes" / "test", per_class=6, seed=1)
    assert ask(tmp_path / "split") == 0
    assert "caveats" not in head(tmp_path / "split")


def test_classes_that_occur_are_counted(tmp_path: Path) -> None:
    write_scenes(tmp_path / "scenes", per_class=6)
    assert ask(tmp_path) == 0
    assert head(tmp_path)["classes"] == 3
    assert {"left_out", "unlearned"}.isdisjoint(head(tmp_path))


def test_weights_for_other_classes_are_told_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scenes(tmp_path / "scenes", per_class=6)
    torch.save({"linear.weight": torch.zeros(10, 64)}, tmp_path / "others.th")
    (tmp_path / "text.th").write_text("no weights")
    for file in ("others.th", "text.th"):
        assert ask(tmp_path, "--hr-weights", str(tmp_path / file), "--estimate") == 2
        said = capsys.readouterr()
        assert f"reproduce: {file} " in said.err
        assert "weights_only" not in said.err
        assert "together" not in said.out


@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"a": 1}', '{"head": 1, "records": []}'])
def test_a_damaged_table_is_named_and_left_as_it_is(
    tmp_path: Path, damaged: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "table1-d.json"
    file.write_text(damaged)
    with pytest.raises(ValueError, match=r"table1-d\.json is no table"):
        Store(file, {"data": "d"})
    assert main(["headline", "--out", str(tmp_path)]) == 2
    assert "table1-d.json is no table" in capsys.readouterr().err
    # beside another it is passed over, and that is said
    beside = Store(tmp_path / "table4-d.json", {"data": "d"})
    beside.add([record(0, [1], [1])])
    assert beside.find("hr-cnn", 4, 0, "key", ("",)) == []
    assert "table1-d.json is no table" in capsys.readouterr().out
    assert file.read_text() == damaged


@pytest.mark.parametrize("table", ["headline", "speed"])
@pytest.mark.parametrize("words", [["--estimate"], ["--profile", "smoke"], ["--data", "d"], ["--parts", "1"]])
def test_options_that_have_no_say_are_refused(
    tmp_path: Path, table: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([table, "--out", str(tmp_path), *words]) == 2
    assert f"{table} takes --out alone; {words[0]} would change nothing" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_is_told_before_anything_is_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_scenes(tmp_path / "scenes", per_class=6)
    (tmp_path / "results").write_text("a file")
    assert ask(tmp_path) == 2
    said = capsys.readouterr()
    assert "results" in said.err
    assert "hr 1:" not in said.out


def test_a_name_with_blanks_has_a_picture_that_is_found(tmp_path: Path) -> None:
    write_scenes(tmp_path / "my scenes (2)", per_class=6)
    words = ["fig7", "--data", str(tmp_path / "my scenes (2)"), "--profile", "smoke", "--parts", "1"]
    places = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "results")]
    assert main([*words, "--rows", "patchdrop", *places]) == 0
    page = (tmp_path / "results" / "fig7-my scenes (2).md").read_text()
    assert "](<fig7-my scenes (2).png>)" in page
    assert (tmp_path / "results" / "fig7-my scenes (2).png").stat().st_size > 10_000


def test_the_headline_is_of_every_data_set_of_a_name(tmp_path: Path) -> None:
    for name, right in (("d", 1), ("d-0a1b2c3d", 0)):
        rows = [record(0, [1], [right]), record(0, [1], [1], 16, row="hr-cnn")]
        Store(tmp_path / f"table1-{name}.json", {"data": name}).add(rows)
    lines = headline.write(tmp_path).read_text().splitlines()
    told = [line for line in lines if "fused - HR-CNN" in line]
    assert [line.split(",")[0] for line in told] == ["| d-0a1b2c3d", "| d"]
    assert json.loads((tmp_path / "table1-d.json").read_text())["head"] == {"data": "d"}
