"""Which images of a data set a release's weights have not seen."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

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


@dataclass(frozen=True)
class Learned:
    """How many of some images a release's weights learned from; not `sure`: perhaps from more of them."""

    images: int
    sure: bool

    @property
    def said(self) -> str:
        """`yes`, `no` or `unknown`."""
        return "yes" if self.images else "no" if self.sure else "unknown"


def split_seed(training: Mapping[str, Any]) -> int:
    """The seed that drew a release's held-out images, from its card's `training`."""
    return int(training.get("split_seed", training.get("seed", 0)))


def inherited_seed(parent: Mapping[str, Any], digest: str, seed: int) -> int:
    """The seed to draw a child's held-out images by: the parent's where it drew some of the same data.

    Else the child's figures would be measured on images that its parent has learned from.
    """
    drew = parent.get("data_sha256") == digest and parent.get("held_out") != "folds"
    return split_seed(parent) if drew else seed


def learned_from(
    source: Source, training: Mapping[str, Any], images: Indices, groups: Indices | None = None
) -> Learned:
    """How many of a data set's `images` a release learned from, as its card's `training` tells.

    What its parents learned from is in its weights, too. Other data than this may overlap with it, so that is
    not sure. `groups` as for `held_out`.
    """
    digest, seen, sure = source.digest(), np.zeros(len(images), dtype=bool), True
    story: Mapping[str, Any] | None = training
    while story is not None:
        if story.get("data_sha256") != digest:
            sure = False
        elif story.get("held_out") == "folds":
            seen[:] = True
        else:
            seen |= np.isin(images, held_out(source, split_seed(story), groups)[0])
        story = story.get("parent")
    return Learned(int(seen.sum()), sure or bool(seen.all()))
