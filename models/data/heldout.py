"""Which images of a data set a release's weights have not seen."""

from models.data.source import DataError, Indices, Source
from models.data.splits import halves, keep_together, published

SHARE = 0.2
"""Of the images, held out where the data set comes without a test split."""


def held_out(source: Source, seed: int = 0, groups: Indices | None = None) -> tuple[Indices, Indices, str]:
    """What is learned from, what is held out, and how that was decided, in words.

    A published split where there is one, else a stratified fifth drawn by `seed`: always the same for the
    same data and seed, so that a release can be measured again later. `groups` are those of `keep_together`
    where they are known already. Raises DataError for too little data.
    """
    if (known := published(source)) is not None:
        learns, test, name = known
        return learns, test, f"the published split: {name} held out"
    groups = keep_together(source) if groups is None else groups
    learns, test = halves(source.labels, groups, seed, SHARE)
    if not len(test):
        raise DataError(f"{source.name} is too small for a fifth of it to be held out")
    return learns, test, f"a stratified fifth held out, seed {seed}"
