"""The pictures of figures 1a, 4, 5 and 7, from a table's records."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from models.grid import windows
from models.reproduce.ours import COSTS
from models.reproduce.pooled import accuracy, mean_s
from models.reproduce.rows import CURVE, SIGMAS
from models.reproduce.store import Record, Store
from models.reproduce.write import of

_INK = ("#1f5fa8", "#c4501b", "#2c7f4f", "#6b4fa3")
_TILES = 10  # the accuracy of fewer is chance


def draw(table: str, store: Store, images: Tensor, file: Path) -> None:
    """Write the PNG of a figure. `images` uint8 (n, 3, H, H). Raises ValueError where no row is finished."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    plt.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    figure = {"fig1a": _fig1a, "fig4": _fig4, "fig5": _fig5, "fig7": _fig7}[table](plt, store, images)
    figure.savefig(file, dpi=140, metadata={"Software": None})
    plt.close(figure)


def _fig1a(plt: Any, store: Store, _: Tensor) -> Any:
    figure, axis = plt.subplots(figsize=(5.6, 3.8), layout="constrained")
    names = {
        "random": "random patches, trained on whole images",
        "fixed-h": "Fixed-H, trained on whole images",
        "masked": "random patches, ours: LR fill, both streams",
    }
    for colour, (how, title) in zip(_INK, names.items(), strict=False):
        at = [(16.0 - s, of(store, "dropped", f"{how} {s}", 4)) for s in CURVE]
        _line(axis, [(dropped, accuracy(found)) for dropped, found in at if found], colour, title)
    axis.set(xlabel="dropped patches of 16", ylabel="accuracy, %", title=f"{store.head['data']}, ds 4")
    axis.legend(frameon=False)
    return figure


def _line(
    axis: Any, points: list[tuple[float, dict[str, Any]]], colour: str, title: str, style: str = "-"
) -> None:
    if not points:
        return
    x = [at for at, _ in points]
    y, low, high = (
        np.array([100 * value for value in values])
        for values in zip(*((f["value"], *f["ci95"]) for _, f in points), strict=True)
    )
    axis.errorbar(
        x,
        y,
        [y - low, high - y],
        color=colour,
        linestyle=style,
        marker="o",
        markersize=4,
        capsize=2,
        label=title,
    )


def _fig5(plt: Any, store: Store, _: Tensor) -> Any:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    by_ds = sorted({r.ds for r in store.records if r.row == "patchdrop"})
    _two(left, [(ds, of(store, "patchdrop", "ft2", ds)) for ds in by_ds], "ds")
    settings = [(sigma, of(store, "sigma", f"ft1 sigma {sigma:g}", 4)) for sigma in SIGMAS]
    _two(right, settings, "sigma (Ft-1, ds 4)")
    figure.suptitle(f"PatchDrop on {store.head['data']}: accuracy (left axis) and S (right axis)")
    return figure


def _two(axis: Any, settings: list[tuple[float, Any]], name: str) -> None:
    there = [(at, found) for at, found in settings if found]
    if not there:
        axis.set_axis_off()
        return
    other = axis.twinx()
    other.spines["right"].set_visible(True)
    for which, colour, measure in ((axis, _INK[0], accuracy), (other, _INK[1], mean_s)):
        values = [measure(found)["value"] * (100 if measure is accuracy else 1) for _, found in there]
        which.plot([at for at, _ in there], values, color=colour, marker="o", markersize=4)
        which.tick_params(axis="y", colors=colour)
    axis.set_xscale("log", base=2 if name == "ds" else 10)
    axis.set_xticks([at for at, _ in there], [f"{at:g}" for at, _ in there])
    axis.minorticks_off()
    axis.set(xlabel=name, ylabel="accuracy, %")
    other.set_ylabel("S")


def _fig7(plt: Any, store: Store, _: Tensor) -> Any:
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.8), layout="constrained")
    left, middle, right = axes
    width = 0.4
    for k, (row, stage, title) in enumerate((("patchdrop", "ft2", "PatchDrop Ft-2"), ("ours", "", "ours"))):
        records = of(store, row, stage, 4)
        if not records:
            continue
        beside = (k - 0.5) * width
        by_s = _by_s(records)
        left.bar(
            [s + beside for s in by_s],
            [100 * share for share, _ in by_s.values()],
            width,
            color=_INK[k],
            label=f"{title}: tiles",
        )
        points = [(s + beside, found) for s, (_, found) in by_s.items() if found is not None]
        _line(left, points, _INK[k], f"{title}: accuracy", "")
        taken = np.concatenate([r.kept.actions for r in records]).mean(axis=0)
        right.bar(np.arange(len(taken)) + (k - 0.5) * width, taken, width, color=_INK[k], label=title)
    for colour, ds in zip(_INK, sorted({r.ds for r in store.records if r.row == "ours"}), strict=False):
        every = len(of(store, "ours", "", ds))
        found = [f for cost in COSTS if (f := of(store, "ours", f"cost {cost:g}", ds)) and len(f) == every]
        middle.plot(
            [mean_s(f)["value"] for f in found],
            [100 * accuracy(f)["value"] for f in found],
            color=colour,
            marker="o",
            markersize=4,
            label=f"ds {ds}",
        )
    left.set(
        xlabel=f"S of a tile (ds 4); accuracy of {_TILES} tiles or more",
        ylabel="%",
        title="accuracy by S, share of tiles",
    )
    middle.set(xlabel="mean S", ylabel="accuracy, %", title="ours: one network, every budget")
    right.set(xlabel="patch", ylabel="share of tiles", title="how often each patch is taken (ds 4)")
    # room for the legends
    left.set(ylim=(0, 128), yticks=range(0, 101, 20))
    right.set(ylim=(0, 1.25), yticks=np.arange(6) / 5)
    for axis in (left, right):
        axis.xaxis.get_major_locator().set_params(integer=True)
    for axis in axes:
        if axis.has_data():
            # above what is drawn, or where it hides least
            place: dict[Any, dict[str, Any]] = {
                left: {"loc": "upper center", "ncols": 2},
                right: {"loc": "upper right"},
            }
            axis.legend(frameon=False, fontsize=7, **place.get(axis, {}))
        else:
            axis.set_axis_off()
    figure.suptitle(str(store.head["data"]))
    return figure


def _by_s(records: list[Record]) -> dict[int, tuple[float, dict[str, Any] | None]]:
    """For each S that occurs the share of tiles, and their accuracy; None of fewer than ``_TILES``."""
    every, counts = np.unique(np.concatenate([r.kept.s for r in records]), return_counts=True)
    found = {}
    for s, count in zip(every.tolist(), counts.tolist(), strict=True):
        there = [replace(r, kept=r.kept.where(r.kept.s == s)) for r in records]
        found[s] = (count / counts.sum(), accuracy(there) if count >= _TILES else None)
    return found


def _fig4(plt: Any, store: Store, images: Tensor) -> Any:
    """Eight images of classes far apart, or as many as there are; patches that were not taken are dark."""
    policies = (("pt", "Pt"), ("ft1", "Ft-1"), ("ft2", "Ft-2"))
    columns = (*(("patchdrop", stage, title) for stage, title in policies), ("ours", "", "ours"))
    first = {(row, stage): of(store, row, stage, 4)[:1] for row, stage, _ in columns}
    there = [found[0].kept for found in first.values() if found]
    if not there:
        raise ValueError("no row of this figure is finished")
    chosen = np.unique(np.linspace(0, len(there[0].images) - 1, 8).astype(int))
    figure, axes = plt.subplots(
        1 + len(columns), len(chosen), figsize=(11, 7), layout="constrained", squeeze=False
    )
    for column, place in enumerate(chosen):
        picture = images[int(there[0].images[place])].permute(1, 2, 0).numpy()
        axes[0, column].imshow(picture)
        for row, (name, stage, _) in enumerate(columns, start=1):
            found = first[name, stage]
            if found:
                axes[row, column].imshow(_shaded(picture, found[0].kept.actions[place]))
                axes[row, column].set_title(f"S = {int(found[0].kept.s[place])}", fontsize=7, pad=2)
    for row, title in enumerate(("HR", *(title for *_, title in columns))):
        axes[row, 0].set_ylabel(title)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    return figure


def _shaded(picture: npt.NDArray[Any], taken: npt.NDArray[np.bool_]) -> npt.NDArray[Any]:
    shown = picture.copy()
    for patch, (rows, columns) in enumerate(windows(picture.shape[0])):
        if not taken[patch]:
            shown[rows, columns] //= 4
    return shown
