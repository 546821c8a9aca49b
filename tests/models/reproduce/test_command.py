"""`patchplan reproduce` end to end: a row a table at the smallest length, gone on with, and drawn."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from models.reproduce import classifiers
from models.reproduce.command import main
from models.reproduce.rows import ROWS
from models.reproduce.run import row_key
from models.reproduce.study import open_study
from models.reproduce.tables import TABLES
from tests.models.scenes import write_scenes

HALF = ("table1", "table2", "table3", "table4", "fig1a", "fig4", "fig5", "fig7")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reproduce")
    write_scenes(folder / "scenes", per_class=12)
    return folder


def ask(place: Path, *words: str) -> int:
    told = ["--profile", "smoke", "--work", str(place / "work"), "--out", str(place / "results")]
    return main([words[0], "--data", str(place / "scenes"), *told, *words[1:]])


def test_every_table_of_the_issue_is_there() -> None:
    assert set(HALF) == set(TABLES)


def test_a_row_is_made_once_and_then_stands(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("table2", "--parts", "1", "--rows", "hr-cnn,patchdrop,fixed-h")
    assert ask(place, *words, "--seconds", "0") == 3
    assert ask(place, *words) == 0
    file = place / "results" / "table2-scenes.json"
    text, page = file.read_bytes(), (place / "results" / "table2-scenes.md").read_text()
    told = json.loads(text)
    assert {r["row"] for r in told["records"]} == {"hr-cnn", "patchdrop", "fixed-h"}
    assert {r["stage"] for r in told["records"] if r["row"] == "fixed-h"} == {"pt", "ft1", "ft2"}
    assert all(r["told"]["epochs"]["hr"] == 1 and r["told"]["of_the_papers"]["hr"] for r in told["records"])
    assert "Fixed-H" in page
    assert "less HR-CNN" in page
    capsys.readouterr()
    assert ask(place, *words) == 0
    assert "ft1 1" not in capsys.readouterr().out  # nothing is trained again
    assert file.read_bytes() == text
    assert (place / "results" / "table2-scenes.md").read_text() == page


def test_a_row_of_other_settings_is_marked_until_it_is_made_again(place: Path) -> None:
    words = ("table2", "--parts", "1", "--rows")
    assert ask(place, *words, "hr-cnn,lr-cnn") == 0
    file, page = (place / "results" / f"table2-scenes.{ending}" for ending in ("json", "md"))
    assert "†" not in page.read_text()
    told = json.loads(file.read_text())
    for record in told["records"]:
        if record["row"] == "hr-cnn":
            record["key"] = "of another schedule"
    file.write_text(json.dumps(told))
    assert ask(place, *words, "lr-cnn") == 0
    assert "| HR-CNN † |" in page.read_text()
    assert "LR-CNN †" not in page.read_text()
    assert ask(place, *words, "hr-cnn") == 0
    assert "†" not in page.read_text()


def test_a_row_that_is_not_there_is_said(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(place, "table2", "--rows", "hr-cnn,patchdorp") == 2
    told = capsys.readouterr().err
    assert "no row patchdorp; it has hr-cnn, patchdrop, fixed-h" in told
    assert ask(place, "table2", "--rows", "hr-cnn", "--ds", "5") == 2
    assert "no such rows at ds 5" in capsys.readouterr().err


def test_hr_cnn_is_the_same_at_every_ds(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study = open_study(place / "scenes", "smoke", place / "work" / "ds")
    part = study.protocol.parts[0]
    made = {ds: classifiers.base(study.at(ds), part.learns, part.seed) for ds in (4, 2)}
    assert capsys.readouterr().out.count("hr 1:") == 1
    first, second = (made[ds].system.hr.body.state_dict() for ds in (4, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    lr = [made[ds].system.lr for ds in (4, 2)]
    assert made[4].key != made[2].key
    assert lr[0] is not None
    assert lr[1] is not None
    assert not torch.equal(next(lr[0].body.parameters()), next(lr[1].body.parameters()))


def test_a_row_at_another_ds_hangs_on_its_lr_image(place: Path) -> None:
    study = open_study(place / "scenes", "smoke", place / "work" / "scenes-smoke")
    part = study.protocol.parts[0]
    paper = study.profile.paper
    finer = replace(
        study, profile=replace(study.profile, paper=replace(paper, images=replace(paper.images, lr_px=20)))
    )
    assert row_key(study, "patchdrop", 2, part) != row_key(finer, "patchdrop", 2, part)


def test_hr_cnn_does_not_depend_on_how_ours_is_read(place: Path) -> None:
    study = open_study(place / "scenes", "smoke", place / "work" / "scenes-smoke")
    part, ours = study.protocol.parts[0], study.profile.ours
    order = {"distance": "rings", "rings": "distance"}[ours.networks.order]
    other = replace(
        ours,
        training=replace(ours.training, fusion="by_s", missed_cost=7.0),
        networks=replace(ours.networks, order=order),  # type: ignore[arg-type]
    )
    changed = replace(study, profile=replace(study.profile, ours=other))
    for row, moves in (("hr-cnn", False), ("hr-cnn-longer", False), ("hr-cnn-views", False), ("ours", True)):
        assert (row_key(study, row, 4, part) != row_key(changed, row, 4, part)) == moves


MOVES = {
    "pt": {"patchdrop", "fixed-h", "random", "stn", "hard", "bagnet", "sigma"},
    "ft1": {"patchdrop", "fixed-h", "random", "stn", "hard", "bagnet", "sigma"},
    "ft2": {"patchdrop", "fixed-h", "random", "stn", "sigma"},
}


@pytest.mark.parametrize("stage", MOVES)
def test_a_row_hangs_on_every_stage_it_reads(place: Path, stage: str) -> None:
    study = open_study(place / "scenes", "smoke", place / "work" / "scenes-smoke")
    part, paper = study.protocol.parts[0], study.profile.paper
    other = replace(paper, stages={**paper.stages, stage: replace(paper.stages[stage], sigma=77.0)})
    changed = replace(study, profile=replace(study.profile, paper=other))
    moved = {row for row in ROWS if row_key(study, row, 4, part) != row_key(changed, row, 4, part)}
    assert moved & {"hr-cnn", "lr-cnn", "kd", "ours", "hr-cnn-longer", *MOVES["pt"]} == MOVES[stage]


def test_given_weights_are_known_by_what_is_in_them(place: Path, tmp_path: Path) -> None:
    study = open_study(place / "scenes", "smoke", place / "work" / "scenes-smoke")
    part, keys = study.protocol.parts[0], set()
    for content in (b"one", b"two", b"one"):
        file = tmp_path / "weights.th"
        file.write_bytes(content)
        keys.add(row_key(replace(study, given=file), "hr-cnn", 4, part))
    assert len(keys) == 2
    assert row_key(study, "hr-cnn", 4, part) not in keys


def test_masks_of_other_terms_are_another_training(place: Path) -> None:
    """Both of HR-CNN as long and of ours, which learn on the same terms."""
    study = open_study(place / "scenes", "smoke", place / "work" / "scenes-smoke")
    part, profile = study.protocol.parts[0], study.profile
    changed = replace(study, profile=replace(profile, masking=replace(profile.masking, mixup=0.5)))
    for row, moves in (("hr-cnn", False), ("hr-cnn-longer", True), ("ours", True)):
        assert (row_key(study, row, 4, part) != row_key(changed, row, 4, part)) == moves
    keys = {classifiers.long_trained(here, part.learns, 0, masks=True)[0] for here in (study, changed, study)}
    assert len(keys) == 2


@pytest.mark.parametrize("number", ["0", "-3", "1.5", "many", "²"])
def test_a_number_of_images_is_one(place: Path, number: str) -> None:
    with pytest.raises(SystemExit):
        ask(place, "table2", "--limit", number)


def test_a_figure_takes_its_rows_from_the_table_and_is_drawn(place: Path) -> None:
    assert ask(place, "table2", "--parts", "1", "--rows", "hr-cnn,patchdrop") == 0
    assert ask(place, "fig4", "--parts", "1", "--rows", "patchdrop") == 0
    assert (place / "results" / "fig4-scenes.png").read_bytes().startswith(b"\x89PNG")
    assert "![" in (place / "results" / "fig4-scenes.md").read_text()


def test_a_limit_is_another_data_set_beside_the_whole(place: Path) -> None:
    assert ask(place, "table2", "--parts", "1", "--rows", "hr-cnn", "--limit", "12") == 0
    told = json.loads((place / "results" / "table2-scenes-12.json").read_text())
    assert told["head"]["images"] == 24
    assert "--limit 12" in told["head"]["command"]
    assert "at most 12 images" in (place / "results" / "table2-scenes-12.md").read_text()


def test_hours_are_said_first(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(place, "table2", "--estimate") == 0
    said = capsys.readouterr().out
    assert "together" in said
    assert float(said.split("together")[1].split()[0]) >= 0


def test_what_cannot_be_asked_is_said(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(place, "table2", "--rows", "nobody") == 2
    assert main(["table2"]) == 2
    assert main(["table2", "--data", "no-such-data"]) == 2
    assert main(["headline", "--out", str(place / "nothing")]) == 2
    said = capsys.readouterr().err
    assert said.count("reproduce: ") == 4


def test_the_headline_says_what_was_not_measured(place: Path) -> None:
    assert ask(place, "table2", "--parts", "1", "--rows", "hr-cnn") == 0
    assert main(["headline", "--out", str(place / "results")]) == 0
    assert "not measured" in (place / "results" / "headline.md").read_text()


@pytest.mark.parametrize(("table", "row"), [("table3", "bagnet"), ("table4", "hard"), ("fig5", "sigma")])
def test_one_row_of_other_tables(place: Path, table: str, row: str) -> None:
    assert ask(place, table, "--parts", "1", "--rows", row) == 0
    records = json.loads((place / "results" / f"{table}-scenes.json").read_text())["records"]
    assert {r["stage"] for r in records} == set(ROWS[row].stages)


@pytest.mark.slow
@pytest.mark.parametrize("table", sorted(TABLES))
def test_every_row_of_every_table(place: Path, table: str) -> None:
    assert ask(place, table, "--parts", "1") == 0
    page = (place / "results" / f"{table}-scenes.md").read_text()
    assert "%" in page
    if TABLES[table].picture:
        assert (place / "results" / f"{table}-scenes.png").stat().st_size > 5_000
