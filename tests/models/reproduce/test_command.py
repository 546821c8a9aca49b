"""`patchplan reproduce` end to end: a row a table at the smallest length, gone on with, and drawn."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.recipe import Recipe
from models.reproduce import classifiers, estimate, headline
from models.reproduce.answers import Answers
from models.reproduce.bench import Bench
from models.reproduce.command import main
from models.reproduce.profiles import load_profile
from models.reproduce.rows import ROWS
from models.reproduce.run import row_key, run
from models.reproduce.store import Record, Store
from models.reproduce.study import Study, open_study
from models.reproduce.tables import TABLES, cells
from tests.models.scenes import write_scenes

ONE_ROW = {
    "table1": "ours-order",
    "table2": "kd",
    "table3": "bagnet",
    "table4": "hard",
    "fig1a": "dropped",
    "fig4": "patchdrop",
    "fig5": "sigma",
    "fig7": "ours",
}
"""What make test makes of each table; test_every_row_of_every_table makes the rest."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reproduce")
    write_scenes(folder / "scenes", per_class=12)
    return folder


def ask(place: Path, *words: str) -> int:
    told = ["--profile", "smoke", "--work", str(place / "work"), "--out", str(place / "results")]
    return main([words[0], "--data", str(place / "scenes"), *told, *words[1:]])


def made(place: Path, table: str) -> set[tuple[str, int, str]]:
    """Row, ds and stage of what stands in the table's file."""
    told = json.loads((place / "results" / f"{table}-scenes.json").read_text())
    assert {record["part"] for record in told["records"]} == {0}
    return {(record["row"], record["ds"], record["stage"]) for record in told["records"]}


def figures(place: Path, table: str) -> str:
    """The page as far as the epochs, where every row stands again."""
    return (place / "results" / f"{table}-scenes.md").read_text().partition("## Trained for")[0]


def wanted(table: str) -> set[tuple[str, int, str]]:
    """The same of all that the table needs."""
    needed = cells(table, load_profile("cifar", "smoke"))
    return {(row, ds, stage) for row, ds in needed for stage in ROWS[row].stages}


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


def test_a_part_is_asked_for_by_its_number(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, words = place / "numbered", ("table2", "--rows", "hr-cnn")
    assert ask(place, *words, "--part", "3", "--part", "1", "--out", str(out)) == 0
    records = json.loads((out / "table2-scenes.json").read_text())["records"]
    assert [record["part"] for record in records] == [1, 3]
    assert "**Measured on 2 of 5 parts so far: 1, 3.**" in (out / "table2-scenes.md").read_text()
    capsys.readouterr()
    assert ask(place, *words, "--part", "5") == 2
    assert "reproduce: there is no part 5: they are 0 to 4\n" in capsys.readouterr().err
    assert ask(place, *words, "--part", "0", "--parts", "1") == 2
    assert "one of the two" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_processes_make_parts_beside_each_other(tmp_path: Path) -> None:
    """A fold's judges are the other folds' classifiers: both need all five, and train each once."""
    write_scenes(tmp_path / "scenes", per_class=12)
    words = [sys.executable, "-m", "models.reproduce", "table2", "--data", str(tmp_path / "scenes")]
    words += [
        "--profile",
        "smoke",
        "--rows",
        "ours",
        "--out",
        str(tmp_path),
        "--work",
        str(tmp_path / "work"),
    ]
    both = [
        subprocess.Popen([*words, "--part", part], stdout=subprocess.PIPE, text=True) for part in ("0", "1")
    ]
    try:
        told = "".join(process.communicate(timeout=300)[0] for process in both)
    finally:
        for process in both:
            process.kill()
    assert [process.returncode for process in both] == [0, 0]
    trained = [line.partition(":")[0] for line in told.splitlines()]
    assert trained.count("masked 1/1") == trained.count("lr 1") == 5
    records = json.loads((tmp_path / "table2-scenes.json").read_text())["records"]
    assert {record["part"] for record in records} == {0, 1}
    assert "**Measured on 2 of 5 parts so far: 0, 1.**" in (tmp_path / "table2-scenes.md").read_text()


def test_rows_are_measured_in_fp32_on_gpus_too(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed: list[bool] = []
    whole = Bench.whole

    def watched(bench: Bench, body: torch.nn.Module) -> Answers:
        allowed.append(torch.backends.cudnn.allow_tf32)
        return whole(bench, body)

    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    monkeypatch.setattr(Bench, "whole", watched)
    assert ask(place, "table2", "--parts", "1", "--rows", "hr-cnn", "--out", str(place / "fp32")) == 0
    assert allowed == [False]
    assert torch.backends.cudnn.allow_tf32


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
        networks=replace(ours.networks, order=order, looks=1, width=77),  # type: ignore[arg-type]
    )
    changed = replace(study, profile=replace(study.profile, ours=other))
    still = dict.fromkeys(("hr-cnn", "hr-cnn-own-views", "hr-cnn-longer", "hr-cnn-views"), False)
    for row, moves in {**still, "ours": True, "ours-whole": True}.items():
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


def test_what_is_asked_over_more_views_is_another_row(place: Path) -> None:
    study = open_study(place / "scenes", "smoke", place / "work" / "scenes-smoke")
    part, ours = study.protocol.parts[0], study.profile.ours
    networks = replace(ours.networks, hr_views=ours.networks.hr_views % 2 + 1)
    changed = replace(study, profile=replace(study.profile, ours=replace(ours, networks=networks)))
    moved = {row for row in ROWS if row_key(study, row, 4, part) != row_key(changed, row, 4, part)}
    assert {"hr-cnn-own-views", "hr-cnn-views", "ours"} <= moved
    assert not moved & {"hr-cnn", "lr-cnn", "patchdrop"}


@pytest.mark.parametrize("content", [b"", b"no weights", "list"])
def test_weights_that_cannot_be_read_are_told_at_once(
    place: Path, tmp_path: Path, content: bytes | str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "weights.th"
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        torch.save([torch.zeros(2)], file)
    for named in (file, tmp_path / "none.th"):
        assert ask(place, "table2", "--rows", "hr-cnn", "--hr-weights", str(named)) == 2
        said = capsys.readouterr()
        assert named.name in said.err
        assert "decoding" not in said.err + said.out


def test_whole_images_are_answered_by_hr_cnn(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("table2", "--parts", "1", "--rows")
    assert ask(place, *words, "ours") == 0
    kept = sorted((place / "work" / "scenes-smoke" / "units").iterdir())
    capsys.readouterr()
    assert ask(place, *words, "ours-whole") == 0
    assert " 1: " not in capsys.readouterr().out  # no first epoch of anything
    assert sorted((place / "work" / "scenes-smoke" / "units").iterdir()) == kept  # nothing is trained for it
    told = json.loads((place / "results" / "table2-scenes.json").read_text())["records"]
    found = {(r["row"], r["stage"]): Record.from_json(r) for r in told}
    whole = found["hr-cnn-own-views", ""].kept
    assert whole.actions.all()
    for stage in ROWS["ours"].stages:
        plain, joined = found["ours", stage], found["ours-whole", stage]
        bought = plain.kept.actions.all(axis=1)
        assert (joined.kept.actions == plain.kept.actions).all()
        assert (joined.kept.right == np.where(bought, whole.right, plain.kept.right)).all()
        assert joined.told["made_of"] == {row: found[row, ""].key for row in ("ours", "hr-cnn-own-views")}
        assert "gain" not in joined.told
    assert f"| {ROWS['ours-whole'].title} |" in figures(place, "table2")


def test_whole_images_are_answered_by_the_longer_training(place: Path, tmp_path: Path) -> None:
    study = open_study(place / "scenes", "smoke", place / "work" / "scenes-smoke")
    (tmp_path / "weights.th").write_bytes(b"weights")
    rows = {}
    for hr, given in ((2, None), (1, None), (1, tmp_path / "weights.th")):
        paper = study.profile.paper
        stages = {**paper.stages, "hr": replace(paper.stages["hr"], epochs=hr)}
        epochs = {**study.profile.epochs, "hr": hr, "masked": 2}
        profile = replace(study.profile, paper=replace(paper, stages=stages), epochs=epochs)
        here = replace(study, profile=profile, given=given)
        made_of = ROWS["ours-whole"].made_of
        assert made_of is not None
        rows[hr, given is not None] = made_of(here)[1]
        assert estimate.hours(here, [("ours-whole", 4)]).keys() == {"hr", "lr", "masked", "ours"}
    assert rows == {
        (2, False): "hr-cnn-own-views",
        (1, False): "hr-cnn-views",
        (1, True): "hr-cnn-own-views",
    }


def at_three_ds(study: Study) -> Study:
    profile = study.profile

    def each(recipe: Recipe) -> Recipe:
        return replace(recipe, images=replace(recipe.images, ds=(2, 4, 8)))

    return replace(study, profile=replace(profile, paper=each(profile.paper), ours=each(profile.ours)))


@pytest.mark.parametrize("row", [name for name, row in ROWS.items() if row.blind])
def test_what_reads_no_lr_image_is_measured_once_for_all_ds(place: Path, tmp_path: Path, row: str) -> None:
    study = at_three_ds(open_study(place / "scenes", "smoke", place / "work" / "scenes-smoke"))
    store, anew = Store(tmp_path / "one.json", {}), Store(tmp_path / "other.json", {})
    for at, ds in ((store, 4), (store, 2), (store, 8), (anew, 2)):
        assert run(study, [(row, ds)], at, study.protocol.parts[:1])
    made = {record.ds: record for record in store.records}
    for ds in (2, 8):
        assert made[ds].told == made[4].told | {"measured_at_ds": 4}
    assert made[2].key == row_key(study, row, 2, study.protocol.parts[0]) == anew.records[0].key
    for kept in (made[2].kept, anew.records[0].kept):  # and measured there it says the same
        assert (kept.right == made[4].kept.right).all()
        assert kept.actions.all()


def test_what_reads_an_lr_image_is_measured_at_each_ds(place: Path, tmp_path: Path) -> None:
    study = at_three_ds(open_study(place / "scenes", "smoke", place / "work" / "scenes-smoke"))
    store = Store(tmp_path / "rows.json", {})
    assert run(study, [("lr-cnn", 4), ("lr-cnn", 2)], store, study.protocol.parts[:1])
    assert ["measured_at_ds" in record.told for record in store.records] == [False, False]


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
    assert "at most 24 images in all" in (place / "results" / "table2-scenes-12.md").read_text()


def test_hours_are_said_first(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of every unit, the longest first; and nothing is trained for it."""
    assert ask(place, "table2", "--estimate", "--profile", "paper", "--rows", "kd,ours") == 0
    said = [line.split() for line in capsys.readouterr().out.splitlines() if " h" in line]
    hours = [float(number) for _, number, *_ in said]
    assert {unit for unit, *_ in said[:-1]} == {"hr", "lr", "kd", "masked", "ours"}
    assert hours[:-1] == sorted(hours[:-1], reverse=True)
    assert said[-1][0] == "together"
    assert hours[-1] == pytest.approx(sum(hours[:-1]), abs=0.03)
    assert not (place / "work" / "scenes-paper" / "units").exists()


def test_hours_are_of_what_is_trained(place: Path, tmp_path: Path) -> None:
    study = open_study(place / "scenes", "paper", place / "work" / "scenes-paper")
    table = [("hr-cnn", 4), ("patchdrop", 4), ("hr-cnn-longer", 4), ("ours", 4)]
    known = estimate.hours(study, table)
    assert set(known) == {"hr", "lr", "pt", "ft1", "ft2", "masked", "ours"}
    assert all(hours > 0 for hours in known.values())
    # 200 epochs of HR-CNN on each of five folds; 600 with masks and 600 without
    assert known["masked"] / known["hr"] == pytest.approx(2 * 600 / 200)
    first = estimate.hours(study, table, parts=study.protocol.parts[:1])
    own, *others = (len(part.learns) for part in study.protocol.parts)
    # the judges of a fold are the other four's, which have no second training without masks
    ratio = (2 * own + sum(others)) * 600 / ((own + sum(others)) * 200)
    assert first["masked"] / first["hr"] == pytest.approx(ratio)
    file = tmp_path / "weights.th"
    file.write_bytes(b"weights")
    spared = estimate.hours(replace(study, given=file), table[:2])
    assert {unit for unit, hours in spared.items() if hours == 0} == {"hr"}


def test_what_cannot_be_asked_is_said(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(place, "table2", "--rows", "nobody") == 2
    assert main(["table2"]) == 2
    assert main(["table2", "--data", "no-such-data"]) == 2
    assert main(["headline", "--out", str(place / "nothing")]) == 2
    said = capsys.readouterr().err
    assert said.count("reproduce: ") == 4


def test_the_headline_says_what_was_not_measured(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Smoke says nothing about accuracy, so it is no measurement; the same answers of longer training are."""
    monkeypatch.setattr(headline, "SHIPPED", tmp_path / "no release")
    assert ask(place, "table2", "--parts", "1", "--rows", "hr-cnn,patchdrop") == 0
    text = (place / "results" / "table2-scenes.json").read_text()
    of_smoke, of_cpu = (headline_of(tmp_path / name, text, name) for name in ("smoke", "cpu"))
    figures = [line.split("|")[1].strip() for line in of_smoke]
    assert figures == [
        "CIFAR-10, ds 4",
        "aerial, fused - HR-CNN",
        "conditional BagNet",
        "run-time of the policy; training images/s of Pt",
        "hard positives over no augmentation",
    ]
    assert all(line.endswith("| not measured | - |") for line in of_smoke)
    measured = [line for line in of_cpu if line not in of_smoke]
    assert [line.split("|")[1].strip() for line in measured] == [
        "scenes, ds 4, PatchDrop Ft-1",
        "scenes, ds 4, PatchDrop Ft-2",
    ]
    assert all(line.endswith(("(1 part(s), cpu) | yes |", "(1 part(s), cpu) | no |")) for line in measured)


def headline_of(folder: Path, text: str, profile: str) -> list[str]:
    """The figures of headline.md where only this table lies, as if made at that length."""
    folder.mkdir()
    told = json.loads(text)
    told["records"] = [
        {**record, "profile": profile}
        for record in told["records"]
        if record["row"] in ("hr-cnn", "patchdrop")
    ]
    (folder / "table2-scenes.json").write_text(json.dumps(told))
    assert main(["headline", "--out", str(folder)]) == 0
    lines = (folder / "headline.md").read_text().splitlines()
    return [line for line in lines[lines.index("|---|---|---|---|---|") + 1 :] if line.startswith("|")]


@pytest.mark.parametrize("table", TABLES)
def test_one_row_of_every_table(place: Path, table: str) -> None:
    row = ONE_ROW[table]
    assert ask(place, table, "--parts", "1", "--rows", row) == 0
    assert {cell for cell in made(place, table) if cell[0] == row} == {
        cell for cell in wanted(table) if cell[0] == row
    }
    assert f"| {ROWS[row].title} |" in figures(place, table)
    if TABLES[table].picture:
        assert (place / "results" / f"{table}-scenes.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
@pytest.mark.parametrize("table", sorted(TABLES))
def test_every_row_of_every_table(place: Path, table: str) -> None:
    assert ask(place, table, "--parts", "1") == 0
    assert made(place, table) == wanted(table)
    page = figures(place, table)
    assert [row for row, _, _ in wanted(table) if f"| {ROWS[row].title} |" not in page] == []
    if TABLES[table].picture:
        assert (place / "results" / f"{table}-scenes.png").stat().st_size > 5_000
