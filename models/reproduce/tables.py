"""Which rows each table and figure has, at which ds."""

from dataclasses import dataclass

from models.reproduce.profiles import Profile

Cell = tuple[str, int]
"""A row and the ds it is measured at."""

STANDALONE = ("lr-cnn", "lr-cnn-alone", "srgan", "kd", "pcn", "hr-cnn")
DROPPING = ("patchdrop", "fixed-h", "fixed-v", "stochastic", "random", "stn")
HONEST = (
    "hr-cnn-own-views",
    "hr-cnn-longer",
    "hr-cnn-views",
    "ours",
    "ours-whole",
    "ours-limited",
    "ours-limited-whole",
    "ours-one-look",
    "ours-s0",
    "ours-s16",
    "averaged-views",
)
RIVALS = (
    "ours-order",
    "ours-random",
    "ours-fixed-h",
    "ours-fixed-v",
    "ours-stochastic",
    "ours-stn",
    "ours-patchdrop",
)
FEWER = ("lr-cnn", "hr-cnn", "patchdrop", "fixed-h", "random", "stn", *HONEST, *RIVALS)
"""What is measured beyond ds 4 too."""

FIGURE_5 = {"cifar": (2, 4, 8), "aerial": (4, 8, 16, 32), "photo": (4, 8, 16, 32)}
_FIRST = 4


@dataclass(frozen=True)
class Table:
    """A table or figure of the paper: `title`, and whether a picture belongs to it."""

    title: str
    picture: bool = False


TABLES = {
    "table1": Table("Table 1: remote sensing"),
    "table2": Table("Table 2: standard benchmarks"),
    "table3": Table("Table 3: BagNets"),
    "table4": Table("Table 4: hard positives"),
    "fig1a": Table("Figure 1a: accuracy against dropped patches", picture=True),
    "fig4": Table("Figures 4 and 6: chosen patches", picture=True),
    "fig5": Table("Figure 5: downsampling ratio and sigma", picture=True),
    "fig7": Table("Figure 7: accuracy against S, and which patches are taken", picture=True),
}


def cells(table: str, profile: Profile) -> list[Cell]:
    """The rows that a table needs, in the order in which they are made. Raises ValueError for table 3 of
    large pictures.
    """
    every = [(row, _FIRST) for row in ("hr-cnn", *DROPPING, *STANDALONE[:-1], *HONEST, *RIVALS)]
    more = [(row, ds) for ds in profile.ds if ds != _FIRST for row in FEWER]
    needs: dict[str, list[Cell]] = {
        "table1": every + more,
        "table2": every + more,
        "table3": [("bagnet", _FIRST)],
        "table4": [("hard", _FIRST)],
        "fig1a": [("dropped", _FIRST)],
        "fig4": [("patchdrop", _FIRST), ("ours", _FIRST)],
        "fig5": [*(("patchdrop", ds) for ds in FIGURE_5[profile.kind]), ("sigma", _FIRST)],
        "fig7": [("patchdrop", _FIRST), *(("ours", ds) for ds in profile.ds)],
    }
    if table == "table3" and profile.kind != "cifar":
        raise ValueError("table3's BagNets are for pictures of CIFAR's size")
    return needs[table]
