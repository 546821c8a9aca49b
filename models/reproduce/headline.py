"""The figures that count, beside the paper's and what is to be reached: `patchplan reproduce headline`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from models.baselines.hard import CUTOUT, HARD, NONE
from models.reproduce.bagnets import AT, BAGNET, CONDITIONAL, LONGER
from models.reproduce.case import WHOLE, Case, at_s, case_of, points, same_views, with_hr
from models.reproduce.paper import CIFAR10, FMOW, Printed, data_set, printed
from models.reproduce.paper import HARD as PRINTED_HARD
from models.reproduce.pooled import by_image, difference, gains, mean_s
from models.reproduce.speed import SHIPPED
from models.reproduce.store import Json, Record, Store, read_table
from models.reproduce.tables import RIVALS
from models.reproduce.write import marked, of

_RULES = ("fixed-h", "fixed-v", "stochastic", "random", "stn")


class Line(NamedTuple):
    """One figure; `reached` is None where it was not measured."""

    figure: str
    paper: str
    reach: str
    measured: str = "not measured"
    reached: bool | None = None

    def said(self, measured: str, reached: bool) -> "Line":
        return self._replace(measured=measured, reached=reached)

    def __str__(self) -> str:
        reached = {None: "-", True: "yes", False: "no"}[self.reached]
        return f"| {self.figure} | {self.paper} | {self.reach} | {self.measured} | {reached} |"


def write(folder: Path) -> Path:
    """Write headline.md from the records in `folder`. Raises FileNotFoundError where there are none."""
    if not any(folder.glob("*.json")):
        raise FileNotFoundError(f"{folder} has no table yet; `patchplan reproduce table1 --data D` makes one")
    lines = [*_small(folder), *_aerial(folder), *_bagnet(folder), *_speed(folder), *_hard(folder)]
    lines += _shipped(SHIPPED)
    text = [
        "# Headline",
        "",
        "`patchplan reproduce headline`: from the records of the tables beside this page; they name their",
        "commands, seeds, splits, hardware, lengths. Intervals are 95 %, paired by image. HR-CNN is the",
        "better of the plain one and, where it was made, the one that was trained for as long as the row it",
        "is compared with; HR-CNN over the same views is the stricter comparison. Reached goes by the",
        "figure itself: where its interval holds 0, the images could not tell. Where the row was made, ours",
        "is with HR-CNN's weights for whole images; what its policy predicts is without them. Where ours",
        "buys more than a figure allows, the price that was looked for to keep it is told too, or the",
        "dearest of those measured that does: chosen by S alone. Trained again elsewhere: the same recipe,",
        "seed and split on another processor than ours' own price. Where it is at the ceiling at another",
        "price than its own, the cheapest such price is told, which accuracies have chosen. † stands where",
        "settings had changed when the table was last made.",
        "",
        "| figure | paper | reach | measured | reached |",
        "|---|---|---|---|---|",
        *map(str, lines),
        "",
    ]
    file = folder / "headline.md"
    file.write_text("\n".join(text), encoding="utf-8")
    return file


def _stores(folder: Path, table: str) -> Iterator[tuple[str, Store]]:
    """Each data set that the table was made for. Smoke says nothing about accuracy and is left out."""
    for file in sorted(folder.glob(f"{table}-*.json")):
        store = Store(file, read_table(file)[0])
        store.records = [record for record in store.records if record.profile != "smoke"]
        yield file.stem.partition("-")[2], store


def _small(folder: Path) -> list[Line]:
    known = Line("CIFAR-10, ds 4", _papers(CIFAR10), "HR-CNN - 0.3 or better at S <= 6.0")
    rows = {
        "PatchDrop Ft-1": ("patchdrop", "ft1"),
        "PatchDrop Ft-2": ("patchdrop", "ft2"),
        "ours": ("ours", ""),
        "ours, whole images by HR-CNN's weights": (WHOLE, ""),
    }
    lines = []
    for data, store in _stores(folder, "table2"):
        for title, (row, stage) in rows.items():
            found, hr = with_hr(store, 4, of(store, row, stage, 4))
            if (less := difference(found, hr)) is not None:
                ok = less["value"] >= -0.003 and mean_s(found)["value"] <= 6
                figure = f"{data}, ds 4, {title}{marked(store, row, 4)}"
                said = at_s(found, less) + (same_views(store, 4, found) if "ours" in row else "")
                here = known._replace(figure=figure, paper=_papers(printed(store.head)))
                lines.append(here.said(said, ok))
        lines += _rules(store, data)
        if (case := case_of(store, data, 4)) is not None:
            lines += [*_choices(case), _gain_model(case)]
    return lines or [known]


def _papers(known: Printed) -> str:
    """PatchDrop's Ft-1 and Ft-2 and HR-CNN of a data set, as printed."""
    if not known:
        return "-"
    (_, ft1, ft2), (_, first, second) = known["patchdrop"]
    return f"{ft1} at {first}; {ft2} at {second} (HR-CNN {known['hr-cnn'][0][0]})"


def _rules(store: Store, data: str) -> list[Line]:
    """The paper's own claim: PatchDrop's policy against rules with the same S and fine-tuning."""
    ours = of(store, "patchdrop", "ft2", 4)
    found = {row: there for row in _RULES if (there := of(store, row, "ft2", 4, ours)) and ours}
    if not found:
        return []
    nearest = _nearest(ours, found)
    if nearest is None:
        return []
    best, less, shared = nearest
    paper = printed(store.head) or FMOW
    gain = paper["patchdrop"][0][2] - max(paper[row][0][2] for row in _RULES if row in paper)
    return [
        Line(
            f"{data}, ds 4: PatchDrop Ft-2 less the best of {len(found)} rules, S rounded up",
            f"{gain:+.1f}" + ("" if printed(store.head) else " (fMoW)"),
            "-",
            f"{points(less)} over {best} at S = {mean_s(shared)['value']:.2f} ({len(shared)} part(s))",
        )
    ]


def _aerial(folder: Path) -> list[Line]:
    found = [
        line
        for data, store in _stores(folder, "table1")
        for ds in (4, 8, 16, 32)
        for line in (*_of_ds(store, data, ds), *(_rules(store, data) if ds == 4 else ()))
    ]
    return found or [Line("aerial, fused - HR-CNN", "fMoW, ds 4: +1.0 at 5.2", "+0.5 or better at S <= 2.0")]


def _of_ds(store: Store, data: str, ds: int) -> Iterator[Line]:
    if (case := case_of(store, data, ds)) is None:
        return
    yield _beyond(case) if ds <= 8 else _coarse(case)
    yield from _choices(case)
    yield _gain_model(case)
    if ds == 4:
        yield _untouched(case)


def _choices(case: Case) -> Iterator[Line]:
    """Ours against the choice that comes nearest of those made for all of its parts; then the others."""
    ours = case.ours
    every = {row: found for row in RIVALS if (found := case.of(row))}
    parts = {record.part for record in ours}
    rivals = {row: found for row, found in every.items() if parts <= {r.part for r in found}} or every
    nearest = _nearest(ours, rivals)
    if nearest is None:
        return
    best, over, shared = nearest
    known = Line(
        f"{case.place}: best of {len(rivals)} other choices with our classifier and fill, S rounded up",
        "3.4 (fMoW, Ft-2)",
        "4 above it, or at the ceiling",
    )
    said = f"{points(over)} over {best} ({len(shared)} part(s))"
    for row in [row for row in every if row not in rivals]:
        if (apart := difference(ours, every[row])) is not None:
            said += f"; {points(apart)} over {row}, of which there are {len(every[row])}"
    if (there := case.at_ceiling()) is not None:
        cost, found = there
        at = f" for {cost} patches a missed answer, at S = {mean_s(found)['value']:.2f}" if cost else ""
        said += f"; at the ceiling (HR-CNN less 0.5){at}"
    yield known.said(said, over["value"] >= 0.04 or there is not None)


def _gain_model(case: Case) -> Line:
    """Whether the chances that the policy tells of a right answer come true."""
    ours = of(case.store, "ours", "", case.ds)
    known = Line(
        f"{case.place}: gain model, predicted less realised", "-", "2 points at every tenth of the budget"
    )
    worst = max((p - r for p, r in gains(ours)), key=abs)
    alone = max((p - r for record in ours for p, r in gains([record])), key=abs)
    said = f"at most {100 * worst:+.1f} points; of single parts {100 * alone:+.1f}"
    return known.said(said, abs(worst) <= 0.02)


def _nearest(
    ours: list[Record], rivals: dict[str, list[Record]]
) -> tuple[str, dict[str, Any], list[Record]] | None:
    """The rival that ours is least above, by how much, and ours on the parts that both have."""
    less = {row: found for row, records in rivals.items() if (found := difference(ours, records)) is not None}
    if not less:
        return None
    row = min(less, key=lambda name: float(less[name]["value"]))
    parts = {record.part for record in rivals[row]}
    return row, less[row], [record for record in ours if record.part in parts]


def _beyond(case: Case) -> Line:
    """Fine LR nearly decides: HR must be beaten, and buying must be better than buying nothing."""
    prices = [("", case.ours)]
    if (cheaper := case.within(2.0)) is not None:
        prices.append(cheaper)
    said, ok = [], False
    for cost, found in prices:
        less, above = case.less("hr-cnn", found), case.less("ours-s0", found)
        said.append(
            case.told(cost, found) + ("" if above is None else f"; above always-S=0 by {points(above)}")
        )
        good = less is not None and less["value"] >= 0.005 and above is not None and above["value"] > 0
        ok = good and mean_s(found)["value"] <= 2
    reach = "+0.5 or better at S <= 2.0, and above always-S=0"
    return Line(f"{case.place}: fused - HR-CNN", "fMoW, ds 4: +1.0 at 5.2", reach).said("; ".join(said), ok)


def _coarse(case: Case) -> Line:
    """Coarse LR: the honest test of a policy. Random patches were measured at ours' own price alone."""
    limit = 4.0 if case.ds == 16 else 6.0
    less, over = case.less("hr-cnn", case.ours), case.less("ours-random", case.ours)
    said = case.told("", case.ours) + ("" if over is None else f"; over random patches by {points(over)}")
    if (cheaper := case.within(limit)) is not None:
        said += f"; {case.told(*cheaper)}"
    good = less is not None and less["value"] >= 0 and over is not None and over["value"] >= 0.03
    reach = f"0 or better at S <= {limit}; 3 points over random patches"
    within = mean_s(case.ours)["value"] <= limit
    return Line(f"{case.place}: fused - HR-CNN", "-", reach).said(said, good and within)


def _untouched(case: Case) -> Line:
    """How many tiles LR is enough for, and how right it is there: at ours' own price, and at cheaper ones
    down to the first that leaves 40 % of them alone.
    """
    reach = "40 % or more, as accurate as HR there"
    known = Line(f"{case.place}: S = 0 where LR is enough", "7 % (ImageNet)", reach)
    said, ok, whole = [], False, {r.part: r.kept for r in case.hr}
    for cost, found in {"": case.ours, **case.cheaper}.items():
        share = float(by_image([r.kept for r in found], lambda k: k.s == 0).mean())
        pairs = [(r.kept, whole[r.part]) for r in found]
        mine = np.concatenate([a.right[a.s == 0] for a, _ in pairs])
        theirs = np.concatenate([b.right[a.s == 0] for a, b in pairs])
        at = f"for {cost} patches a missed answer " if cost else ""
        if not len(mine):
            said.append(f"{at}none")
            continue
        right = f"{100 * mine.mean():.2f} %, HR-CNN {100 * theirs.mean():.2f} %"
        said.append(f"{at}{100 * share:.0f} % of tiles; there {right}")
        if share >= 0.4:
            ok = float(mine.mean()) >= float(theirs.mean())
            break
    return known.said("; ".join(said), ok)


def _bagnet(folder: Path) -> list[Line]:
    known = Line("conditional BagNet", "0.51 of BagNet's time, + 7 points", "0.45 or less, and above it")
    lines = []
    cases = [
        (data, store, f"{name} ft1") for data, store in _stores(folder, "table3") for name in CONDITIONAL
    ]
    for data, store, stage in cases:
        plain, longer, conditional = (of(store, "bagnet", at, 4) for at in (BAGNET, LONGER, stage))
        fair = difference(conditional, longer)
        if (less := difference(conditional, plain)) is not None and fair is not None:
            times = [r.told["more"] for r in plain]
            ratio, alone = (sum(t[stage][at] for t in times) / sum(t[BAGNET][at] for t in times) for at in AT)
            said = f"{ratio:.2f} of its time at batch 64 ({alone:.2f} at batch 1); {at_s(conditional, less)}"
            said += f"; less BagNet for Ft-1's epochs more {points(fair)}"
            here = known._replace(figure=f"{data}: BagNet, {stage}")
            lines.append(here.said(said, ratio <= 0.45 and min(less["value"], fair["value"]) > 0))
    return lines or [known]


def _speed(folder: Path) -> list[Line]:
    file = folder / "speed.json"
    if not file.exists():
        return [Line("run-time of the policy; training images/s of Pt", "3 %; 1", "2 %; 1.5, with bf16 4")]
    told: list[dict[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["headline"]
    return [Line(*(line[key] for key in Line._fields)) for line in told]


def _hard(folder: Path) -> list[Line]:
    known = Line(
        "hard positives over no augmentation", "+1.6 (CIFAR-10), +2.3 (fMoW)", "the same, above CutOut"
    )
    lines = []
    for data, store in _stores(folder, "table4"):
        none, cutout, hard = (of(store, "hard", way, 4) for way in (NONE, CUTOUT, HARD))
        gain, over = difference(hard, none), difference(hard, cutout)
        if gain is not None and over is not None:
            wanted = _printed_gain(store.head)
            said = f"{points(gain)}; over CutOut {points(over)}"
            ok = gain["value"] >= wanted and over["value"] > 0
            lines.append(known._replace(figure=f"{data}: {known.figure}").said(said, ok))
    return lines or [known]


def _printed_gain(head: Json) -> float:
    """What hard positives add in table 4, as a share; fMoW's where the paper does not have the data set."""
    known = PRINTED_HARD.get(data_set(head), PRINTED_HARD["fmow"])
    return round(float(known[HARD]) - float(known[NONE]), 1) / 100


def _shipped(release: Path) -> list[Line]:
    """What the release's card says of unseen images: the same kind of system, at a price of its own."""
    if not (release / "card.json").exists():
        return []
    card = json.loads((release / "card.json").read_text(encoding="utf-8"))
    title = (
        f"the release {card['name']} {card['version']}, missed_cost {card['architecture']['missed_cost']:g}"
    )
    return [
        Line(
            f"{title}, ds {ds}: fused - its HR classifier at S = 16",
            "-",
            "reported",
            f"{points(told['fused_minus_hr'])} at S = {told['s_mean']['value']:.2f}; "
            f"{100 * told['s0_share']['value']:.0f} % of tiles at S = 0",
        )
        for ds, told in card["figures"]["by_ds"].items()
    ]
