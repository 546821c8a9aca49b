"""Which kind of pictures a data set has, by its layout and their size."""

import re

from models.data.source import Source
from models.reproduce.profiles import SMALL_PX, Kind

_SYNSET = re.compile(r"n\d{8}")
"""WordNet's number of a class, as ILSVRC2012 names its folders."""


def kind_of(source: Source, px: int) -> Kind:
    """The kind of pictures with `px` pixels along their longer side.

    A data set that knows its places on the ground, as fMoW, is aerial: its boxes are of all sizes. Large
    pictures in ImageNet's folders are photographs; in others they are taken for aerial scenes.
    """
    if source.places is not None:
        return "aerial"
    if px <= SMALL_PX:
        return "cifar"
    return "photo" if all(map(_SYNSET.fullmatch, source.classes)) else "aerial"
