"""One data set at one profile: what all rows of all its folds share."""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from models.data.decode import IN_MEMORY, prepare
from models.data.source import Source, UnreadableImageError
from models.data.sources import open_source
from models.disk import replacing
from models.precision import best_device
from models.progress import Progress
from models.recipe import Images, Recipe
from models.reproduce.kinds import kind_of
from models.reproduce.profiles import Profile, load_profile
from models.reproduce.protocol import Protocol, fewer, of_few_classes, protocol, used
from models.reproduce.slices import Slice
from models.reproduce.weights import read_weights
from models.stages.draws import Rng
from models.stages.inputs import Batch, FeatureCache, Indices, Inputs
from models.system import System, packed

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and deviation that published weights were trained with, CIFAR-10's ResNet32 among them: with those of
CIFAR-10 it is right less often.
"""

_SPARE = 2 * 10**9  # bytes of disk for what is trained

_KEPT, _PLACES = 3 * 10**9, 2
"""Bytes of features that are kept in memory between rows, each for so many places: a part's at a ds."""

_LOOKED_AT = 32
"""Pictures whose size says what kind of data set it is."""


class Served(Inputs):
    """Inputs whose frozen layers' features are those of another recipe's cache, with or without its fill."""

    pairs: Sequence[tuple[int, int]] | None = None
    """The (view, ds) that the cache holds, or would if the disk had room: training is the same either way."""

    @property
    def variants(self) -> list[tuple[int, int]]:
        if self.pairs is None:
            return super().variants
        return [pair for pair in self.pairs if pair[1] in self.spec.ds]

    def batch(
        self, indices: Indices, views: Indices, ds: Indices, rng: Rng | None = None, *, answers: bool = False
    ) -> Batch:
        found = super().batch(indices, views, ds, rng, answers=answers)
        if self.system.architecture.fill != "zeros":
            return found
        return replace(found, fill=None, views=tuple(view._replace(fill=None) for view in found.views))


@dataclass
class Study:
    """`source` decoded as `images` uint8 (n, 3, px, px), its `protocol`, and where results of training lie.

    `given` is a file of weights for the HR classifier, which is then not trained; `of` the study that this is
    one of, at a ds that its classifiers do not learn from.
    """

    name: str
    source: Source
    images: Tensor
    labels: Tensor
    profile: Profile
    protocol: Protocol
    work: Path
    slice: Slice
    device: torch.device
    digest: str
    given: Path | None = None
    of: "Study | None" = None
    _inputs: dict[str, Inputs] = field(default_factory=dict)
    _unseen: dict[str, list[tuple[Indices, Batch]]] = field(default_factory=dict)
    _cache: FeatureCache | None = None
    _full: bool = False
    _pairs: tuple[tuple[int, int], ...] | None = None

    @property
    def classes(self) -> int:
        return len(self.source.classes)

    @cached_property
    def given_sha256(self) -> str | None:
        return None if self.given is None else hashlib.sha256(self.given.read_bytes()).hexdigest()

    def system(self, recipe: Recipe, seed: int) -> System:
        """The recipe's networks, untrained, in the state that `seed` gives."""
        torch.manual_seed(seed)  # weights that no file gives
        system = System(recipe.architecture(self.classes), imagenet=recipe.networks.imagenet)
        return packed(system, self.device)

    def inputs(self, recipe: Recipe) -> Inputs:
        """Batches as the recipe's networks take them, at the recipe's ds."""
        key = json.dumps([asdict(recipe.images), asdict(recipe.networks)])
        if key not in self._inputs:
            system = self.system(recipe, 0)
            served = Served(system, self.images, self.labels, recipe.images)
            if _seen_by(recipe) == _seen_by(self.profile.paper):
                served.cache = self._features()
                served.pairs = self._pairs
            self._inputs[key] = served
        return self._inputs[key]

    def at(self, ds: int) -> "Study":
        """Itself where its classifiers learn from this ds; else with recipes of this ds alone."""
        paper, ours = self.profile.paper, self.profile.ours
        if ds in paper.images.ds:
            return self
        profile = replace(
            self.profile,
            paper=replace(paper, images=images_at(paper.images, ds)),
            ours=replace(ours, images=images_at(ours.images, ds)),
        )
        anew = replace(self, _inputs={}, _unseen={}, _cache=None, _full=False, _pairs=None)
        return replace(anew, profile=profile, of=self)

    def _features(self) -> FeatureCache | None:
        """One cache for all that see as the paper's: with the fill that is the widest of the recipes. None
        where the disk has no room for it: features are then computed for every batch anew.
        """
        paper = self.profile.paper
        if self._cache is None and paper.images.augment != "crop-flip" and not self._full:
            images = replace(paper.images, fill="lr")
            system = self.system(replace(paper, images=images), 0)
            shared = Inputs(system, self.images, self.labels, images, self.work / "cache")
            self._pairs = None if shared.cache is None else tuple(shared.cache.places)
            if shared.cache is not None and not shared.cache.ready:
                needed, free = shared.cache.size(), shutil.disk_usage(self.work).free
                if needed > free - _SPARE:
                    self._full = True
                    print(
                        f"{self.work}: no room to keep features of the frozen layers ({needed / 1e9:.1f} GB, "
                        f"{free / 1e9:.1f} GB free), so training takes longer",
                        flush=True,
                    )
                    return None
                with Progress("features of the frozen layers") as progress:
                    shared.cache.fill(progress.show)
            self._cache = shared.cache
        return self._cache

    def exact(self, recipe: Recipe, ds: int) -> Inputs:
        """Inputs for measuring at one ds: all of it in fp32, nothing from a cache."""
        system = self.system(recipe, 0).eval()
        images = replace(recipe.images, ds=(ds,), thin=1)
        return Inputs(system, self.images, self.labels, images, exact=True)

    def unseen(
        self, recipe: Recipe, tests: Indices, ds: int, size: int = 32
    ) -> Iterator[tuple[Indices, Batch]]:
        """The images `tests` as they are, in their order, at one ds, in fp32; kept for the next row."""
        key = json.dumps([asdict(recipe.images), asdict(recipe.networks), tests.tolist(), ds, size])
        if key in self._unseen:
            yield from self._unseen[key]
            return
        exact = self.exact(recipe, ds)
        kept: list[tuple[Indices, Batch]] | None = []
        held = 0
        for start in range(0, len(tests), size):
            indices = tests[start : start + size]
            views, factors = np.zeros(len(indices), dtype=np.int64), np.full(len(indices), ds)
            found = indices, exact.batch(indices, views, factors, answers=True)
            held += found[1].bytes
            if kept is not None:
                kept = [*kept, found] if held <= _KEPT else None
            yield found
        if kept is not None:
            for old in list(self._unseen)[: -_PLACES + 1]:
                del self._unseen[old]
            self._unseen[key] = kept

    def key(self, *parts: Any) -> str:
        """The hash that names what was made of these parts from this data set."""
        return hashlib.sha256(json.dumps([self.digest, *parts], sort_keys=True).encode()).hexdigest()


def _seen_by(recipe: Recipe) -> dict[str, Any]:
    """What features of frozen layers are made of; a cache has those of all ds, and the fill."""
    images, networks = asdict(recipe.images), recipe.networks
    for name in ("ds", "thin", "fill", "hr_gsd_m"):
        del images[name]
    return images | {"networks": (networks.hr, networks.lr, networks.imagenet)}


def images_at(images: Images, ds: int) -> Images:
    """The same pictures at one ds only; an LR image that is finer than the recipe's keeps its pixels."""
    return replace(images, ds=(ds,), thin=1, lr_px=max(images.lr_px, images.hr_px // ds))


def name_of(data: Path) -> str:
    """What pages of a data set are called by: a file's name without its ending, or a folder's own."""
    if not data.is_dir():
        return data.stem
    whole = data.absolute()
    return whole.resolve().name if whole.name in ("", "..") else whole.name  # a link keeps its name


def usual_px(source: Source) -> int:
    """The longer side that is in the middle of those of some pictures, spread over the data set.

    One odd or unreadable picture must not decide. Raises UnreadableImageError where all are.
    """
    sides: list[int] = []
    for i in np.linspace(0, len(source) - 1, min(len(source), _LOOKED_AT)).astype(int).tolist():
        try:
            sides.append(max(source.read(i).shape[:2]))
        except UnreadableImageError:
            if not sides and i == len(source) - 1:
                raise
    return sorted(sides)[len(sides) // 2]


def digest_of(source: Source, decoded: int, folder: Path) -> str:
    """`Source.digest`; of a data set whose `decoded` bytes are not held in memory it is kept in `folder`, as
    to read all of ImageNet takes longer than a slice.
    """
    if decoded <= IN_MEMORY:
        return source.digest()
    named = hashlib.sha256(json.dumps([source.classes, source.labels.tolist()]).encode())
    named.update(source.fingerprint().encode())
    kept = folder / f"digest-{named.hexdigest()[:32]}"
    if not kept.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(kept) as file:
            file.write(source.digest().encode())
    return kept.read_text()


def open_study(
    data: Path,
    profile: str,
    work: Path,
    *,
    seconds: float | None = None,
    given: Path | None = None,
    limit: int | None = None,
    kind: str | None = None,
) -> Study:
    """Decode what is used of a data set, or `limit` images of it, and lay out its protocol. Raises DataError,
    ValueError for a `limit` below the number of classes.

    `kind`: one of KINDS, in place of what the data set seems to be. Where it is another, it is in the name;
    so is the number of images where that is less than all.
    """
    if given is not None:
        read_weights(given)  # an unreadable file is told before hours of work
    work.mkdir(parents=True, exist_ok=True)
    whole = open_source(data, check="none")
    own = kind_of(whole, usual_px(whole))
    stem = name_of(data) if kind in (None, own) else f"{name_of(data)}-{kind}"
    chosen = load_profile(kind or own, profile)
    if given is not None:
        chosen = chosen.normalised(*IMAGENET)
    few = limit or chosen.limit
    # a profile's own limit asks for whatever there is of a data set with more classes
    source = fewer(whole if limit else of_few_classes(whole, few), few)
    if limit or len(source) < len(whole):  # other images, so other pages
        stem = f"{stem}-{few}"
    source = used(source)
    with Progress("decoding") as progress:
        px, fit = chosen.paper.images.hr_px, chosen.paper.images.fit
        source, images = prepare(source, px, work / "cache", fit=fit, progress=progress.show)
    digest = digest_of(source, images.nbytes, work / "cache")
    return Study(
        name=stem,
        source=source,
        images=images,
        labels=torch.from_numpy(np.asarray(source.labels)),
        profile=chosen,
        protocol=protocol(source),
        work=work,
        slice=Slice(seconds),  # time counts from here: no slice may end before it begins
        device=best_device(),
        digest=digest,
        given=given,
    )
