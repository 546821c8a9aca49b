"""Measuring a release on a data set with pictures that cannot be read."""

import json
from pathlib import Path

import pytest

from models import evaluate
from models.release import tiny_release
from tests.models.scenes import CLASSES, write_scenes


@pytest.mark.parametrize("decoded_up_to", [0, 20_000])
def test_a_few_unreadable_pictures_are_left_out_of_data_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], decoded_up_to: int
) -> None:
    """Large data sets are not looked through before."""
    monkeypatch.setattr("models.data.sources.DECODE_UP_TO", decoded_up_to)
    scenes = write_scenes(tmp_path / "scenes", per_class=4)
    tiny_release(tmp_path / "r", list(CLASSES))
    words = [str(tmp_path / "r"), "--data", str(scenes), "--json"]
    (scenes / "along" / "along01.png").write_bytes(b"broken")
    assert evaluate.main([*words, "--work", str(tmp_path / "work")]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["n"] == 11
    assert "left out: 1 unreadable: along/along01.png" in told.err
    for k in range(4):
        (scenes / "across" / f"across{k:02}.png").write_bytes(b"broken")
    assert evaluate.main(words) == 2
    assert "more than 3 pictures cannot be read" in capsys.readouterr().err


@pytest.mark.parametrize("threshold", ["1", "-0.5", "nan"])
def test_a_threshold_that_no_plan_may_have_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], threshold: str
) -> None:
    """Above 1 a second look would give back what was bought at the first."""
    tiny_release(tmp_path / "r", list(CLASSES))
    scenes = write_scenes(tmp_path / "scenes", per_class=1)
    assert evaluate.main([str(tmp_path / "r"), "--data", str(scenes), f"--threshold={threshold}"]) == 2
    assert "--threshold lies in [0, 1)" in capsys.readouterr().err
