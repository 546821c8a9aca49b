"""The model page: a release's card as Markdown, for people. Free of torch, like the card it is made from."""

from collections.abc import Iterator, Sequence
from typing import Any

from models.card import Card

PAGE_FILE = "MODEL.md"
_WORST = 10


def model_page(card: Card) -> str:
    """What the card says, in words and tables. Whatever the card lacks is left out."""
    return "\n".join([*_head(card), *_figures(card), *_training(card)]).rstrip() + "\n"


def flattered(images: int, of: int, *, sure: bool) -> str:
    """What is to be said of figures on held-out images that a parent has learned from, or may have."""
    if not images:
        return "The parent learned from other data: whether these held-out images are in it is not known."
    least = "" if sure else "at least "
    return f"The parent learned from {least}{images} of the {of} held-out images: figures on them flatter."


def _head(card: Card) -> Iterator[str]:
    yield f"# {card.name} {card.version}"
    yield ""
    if card.description:
        yield _plain(card.description)
        yield ""
    known = [name.name if name.fmow is None else f"{name.name} ({name.fmow})" for name in card.classes]
    rows = [
        ("Classes", f"{len(known)}: {', '.join(known)}"),
        (
            "Streams",
            f"{card.streams}, joined by `{card.fusion}`; unbought patches are filled with {card.fill}",
        ),
        ("Tile", f"{_range(card.tile_m)} m a side, {card.grid} x {card.grid} patches"),
        ("LR", f"{card.lr_px} px a side, {_range(card.lr_gsd_m)} m a pixel, {', '.join(card.bands)}"),
        ("HR", f"{card.hr_px} px a side, {card.hr_gsd_m:g} m a pixel"),
        ("Threshold", f"a patch is chosen where its probability is above {card.threshold:g}"),
        ("Weights", f"fp16, SHA-256 `{card.weights_sha256}`"),
    ]
    if card.licence:
        rows.append(("Licence", card.licence))
    yield from _table(("", ""), rows)


def _range(value: Any) -> str:
    return f"{value.nominal:g} ({value.min:g} to {value.max:g})"


def _figures(card: Card) -> Iterator[str]:
    by_ds: dict[str, Any] = card.figures.get("by_ds") or {}
    if not by_ds:
        return
    yield "## Figures"
    yield ""
    seen = card.training.get("seen_by_parent")
    if seen and (seen["images"] or not seen["sure"]):
        on = f"**{flattered(**seen)}** With"
    else:
        on = "On images its weights have not seen, with"
    yield f"{on} 95 % intervals. *HR* has all patches, *LR* none, *fused*"
    yield "what the policy chose; S is the number of patches bought a tile; ds: how much coarser LR is."
    yield ""
    heads = ("ds", "n", "HR %", "LR %", "fused %", "S", "ECE")
    rows = []
    for ds, f in by_ds.items():
        ece = (f.get("calibration") or {}).get("ece")
        rows.append(
            (
                ds,
                str(f["n"]),
                *(_figure(f[key], 100) for key in ("hr", "lr", "fused")),
                _figure(f["s_mean"], 1),
                "" if ece is None else f"{ece:.3f}",
            )
        )
    yield from _table(heads, rows)
    for ds, f in by_ds.items():
        yield from _curve(ds, f.get("curve") or [])
    first = next(iter(by_ds))
    yield from _per_class(first, by_ds[first].get("per_class") or {})


def _curve(ds: str, curve: list[dict[str, Any]]) -> Iterator[str]:
    if not curve:
        return
    yield f"### Accuracy against S at ds {ds}"
    yield ""
    yield from _table(
        ("patches bought", "accuracy %"), [(str(p["s"]), _figure(p["accuracy"], 100)) for p in curve]
    )


def _per_class(ds: str, classes: dict[str, Any]) -> Iterator[str]:
    if not classes:
        return
    worst = sorted(classes.items(), key=lambda item: item[1]["accuracy"]["value"])
    yield f"### Per class at ds {ds}" + (f", the {_WORST} worst" if len(worst) > _WORST else "")
    yield ""
    rows = [
        (_plain(name), str(f["n"]), _figure(f["accuracy"], 100), f"{f['s_mean']:.2f}")
        for name, f in worst[:_WORST]
    ]
    yield from _table(("class", "n", "accuracy %", "S"), rows)


def _figure(figure: dict[str, Any], scale: float) -> str:
    low, high = figure["ci95"]
    return f"{figure['value'] * scale:.2f} ({low * scale:.2f} to {high * scale:.2f})"


def _training(card: Card) -> Iterator[str]:
    told = {k: v for k, v in card.training.items() if v is not None and not isinstance(v, dict | list)}
    if not told:
        return
    yield "## How it was made"
    yield ""
    yield from _table(("", ""), [(_plain(key), f"`{_plain(str(value))}`") for key, value in told.items()])
    stages = card.training.get("stages")
    if isinstance(stages, dict):
        yield "Stages and epochs: " + ", ".join(f"{stage} {epochs}" for stage, epochs in stages.items()) + "."


def _plain(text: str) -> str:
    """Nothing that would end a table's cell."""
    return " ".join(text.replace("|", "/").replace("`", "'").split())


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    yield "| " + " | ".join(heads) + " |"
    yield "|" + " --- |" * len(heads)
    for row in rows:
        yield "| " + " | ".join(row) + " |"
    yield ""
