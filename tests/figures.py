"""The shipped release's figures as the README shows them, from its card."""

from typing import Any

from models.card import load_card
from tests.conftest import checkout


def table() -> str:
    """A Markdown table: one row a downsampling ratio."""
    by_ds = load_card(checkout() / "releases" / "ucmerced").figures["by_ds"]
    rows = [
        "| ds | HR-CNN % | LR-CNN % | fused % | fused - HR-CNN, points | S | S = 0, % |",
        "|---|---|---|---|---|---|---|",
    ]
    for ds, figures in by_ds.items():
        shares = [_cell(figures[key], 100) for key in ("hr", "lr", "fused", "fused_minus_hr")]
        bought = [_cell(figures["s_mean"], 1), _cell(figures["s0_share"], 100)]
        rows.append(f"| {ds} | {' | '.join([*shares, *bought])} |")
    return "\n".join(rows)


def _cell(figure: dict[str, Any], scale: float) -> str:
    low, high = (round(bound * scale, 1) for bound in figure["ci95"])
    return f"{figure['value'] * scale:.1f} ({low:.1f} to {high:.1f})"
