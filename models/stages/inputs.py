"""Training batches: augmented views of the images, degraded to LR, through the frozen stems.

A view is one of the eight symmetries of the square (or the flips of it that a recipe allows). Where views are
finite and the stems do real work, their features are computed once and kept in fp16 on disk.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.building import built, swept
from models.data.degrade import low_resolution
from models.disk import reserve
from models.networks.folding import folded
from models.precision import has_fast_bf16
from models.recipe import Images
from models.stages.draws import Rng
from models.system import System
from models.views import ANSWERING, View, composed, view_of

Indices = np.ndarray[Any, Any]
VIEWS = {"none": 1, "flip": 2, "crop-flip": 2, "dihedral": 8}
_CROP_PADDING = 8  # of hr_px: 4 pixels at CIFAR's 32, the customary random crop


@dataclass(frozen=True)
class Batch:
    """Stem features (B, C, h, w) of each network's input; `fill` is None where unbought patches are zeros.

    `answering`: the LR stream's in each of the views its answer is the mean of, and `views` the HR stream's
    other views, both given on request; `policy` is None where the policy reads the streams' answers alone.
    """

    hr: Tensor
    fill: Tensor | None
    lr: Tensor | None
    policy: Tensor | None
    labels: Tensor
    answering: tuple[Tensor, ...] = ()
    views: tuple[View, ...] = ()

    def seen(self, actions: Tensor, grid: int) -> tuple[Tensor, ...]:
        """x_h^m of the patches `actions` (B, P) in every view that the HR stream answers by."""
        return tuple(view.masked(actions, grid) for view in (View(0, self.hr, self.fill), *self.views))

    @property
    def bytes(self) -> int:
        """What it takes in memory."""
        others = [x for view in self.views for x in (view.hr, view.fill)]
        every = (self.hr, self.fill, self.lr, self.policy, self.labels, *self.answering, *others)
        return sum({x.data_ptr(): x.nbytes for x in every if x is not None}.values())


class Inputs:
    """The images of a training, uint8 (n, 3, hr_px, hr_px) in memory, served as batches of stem features.

    `exact`: stems compute in fp32 where bf16 is fast, too.
    """

    def __init__(
        self,
        system: System,
        images: Tensor,
        labels: Tensor,
        spec: Images,
        cache: Path | None = None,
        *,
        exact: bool = False,
    ) -> None:
        self.system, self.images, self.labels, self.spec, self.exact = system, images, labels, spec, exact
        self.views = VIEWS[spec.augment]
        self._stems: dict[str, tuple[nn.Module, torch.dtype]] = {}
        self.cache: FeatureCache | None = None
        works = any(not isinstance(n.stem, nn.Identity) for n in (system.policy, system.hr))
        if cache is not None and works and spec.augment != "crop-flip":
            self.cache = FeatureCache(self, cache)

    def draw(
        self, learns: Indices, size: int, rng: np.random.Generator
    ) -> Iterator[tuple[Indices, Indices, Indices]]:
        """An epoch over the images `learns` in batches of about `size`: indices, views and ds of each."""
        order = rng.permutation(learns)
        variants = np.array(self.variants)
        for part in np.array_split(order, max(1, round(len(order) / size))):
            chosen = variants[rng.integers(0, len(variants), len(part))]
            yield part, chosen[:, 0], chosen[:, 1]

    @property
    def variants(self) -> list[tuple[int, int]]:
        """The (view, ds) pairs in use."""
        pairs = [(view, k) for view in range(self.views) for k in range(len(self.spec.ds))]
        return [(view, self.spec.ds[k]) for view, k in pairs if (view // 2 + view + k) % self.spec.thin == 0]

    @property
    def device(self) -> torch.device:
        return self.system.mean.device

    def batch(
        self, indices: Indices, views: Indices, ds: Indices, rng: Rng | None = None, *, answers: bool = False
    ) -> Batch:
        """Features of `indices` (B,), each in its own view and at its own ds; with `answers` both streams'
        features in all views they answer by.
        """
        labels = self.labels[torch.from_numpy(indices)].to(self.device, non_blocking=True)
        if self.cache is not None:
            found = self.cache.batch(indices, views, ds, labels, self._answering if answers else ())
            others = self._viewing[1:] if answers else ()
            return replace(found, views=tuple(self.cache.others(indices, views, ds, labels.device, others)))
        images = torch.stack(
            [view_of(self.images[i], v) for i, v in zip(indices.tolist(), views.tolist(), strict=True)]
        )
        hr = images.to(self.device, non_blocking=True).float()
        if self.spec.augment == "crop-flip" and rng is not None:
            hr = _shifted(hr, rng)
        lr = self.low(hr, ds)
        hr_features, fill = self.hr_features(hr), self.fill_features(lr)
        own, policy = self.lr_features(lr), self.policy_features(lr)
        turned = (self.lr_features(lr, view) for view in self._answering[1:]) if answers else ()
        answering = tuple(x for x in (own, *turned) if x is not None) if answers else ()
        seen = tuple(self._view(hr, lr, view) for view in self._viewing[1:]) if answers else ()
        return Batch(hr_features, fill, own, policy, labels, answering, seen)

    def _view(self, hr: Tensor, lr: Tensor, view: int) -> View:
        fill = self.fill_features(view_of(lr, view))
        return View(view, self.hr_features(view_of(hr, view)), fill)

    @property
    def _answering(self) -> tuple[int, ...]:
        return ANSWERING[self.system.architecture.lr_views]

    @property
    def _viewing(self) -> tuple[int, ...]:
        return ANSWERING[self.system.architecture.hr_views]

    def low(self, hr: Tensor, ds: np.ndarray[Any, Any]) -> Tensor:
        """x_l (B, 3, lr_px, lr_px): area average by each image's own ds, then bilinear."""
        lr = hr.new_empty(len(hr), hr.shape[1], self.spec.lr_px, self.spec.lr_px)
        for factor in sorted(set(ds.tolist())):
            rows = torch.from_numpy(np.flatnonzero(ds == factor)).to(hr.device)
            lr[rows] = low_resolution(hr[rows], factor, self.spec.lr_px)
        return lr

    def hr_features(self, hr: Tensor) -> Tensor:
        return self._stem("hr", self.system.normalised(hr))

    def fill_features(self, lr: Tensor) -> Tensor | None:
        fill = self.system.filled(lr)
        return None if fill is None else self._stem("hr", fill)

    def lr_features(self, lr: Tensor, view: int = 0) -> Tensor | None:
        return None if self.system.lr is None else self._stem("lr", self.system.lr_input(view_of(lr, view)))

    def policy_features(self, lr: Tensor) -> Tensor | None:
        return None if self.system.policy_reads_answers else self._stem("policy", self.system.normalised(lr))

    @torch.no_grad()
    def _stem(self, network: str, x: Tensor) -> Tensor:
        """fp32 features of a frozen stem, folded, in bf16 where that is fast; no stem costs nothing."""
        if network not in self._stems:
            stem = getattr(self.system, network).stem
            works = not isinstance(stem, nn.Identity)
            fast = works and has_fast_bf16(self.device) and not self.exact
            self._stems[network] = (
                folded(stem) if works else stem,
                torch.bfloat16 if fast else torch.float32,
            )
            self._stems[network][0].to(self._stems[network][1])
        stem, dtype = self._stems[network]
        features: Tensor = stem(x.to(dtype).contiguous(memory_format=torch.channels_last))
        return features.float()


class FeatureCache:
    """Stem features of all images as fp16 (n, views or variants, h, w, C) arrays in one folder."""

    def __init__(self, inputs: Inputs, folder: Path) -> None:
        self.inputs = inputs
        self.places = {variant: k for k, variant in enumerate(inputs.variants)}
        self._within = folder
        self.arrays: dict[str, np.ndarray[Any, Any]] = {}
        if not any(folder.glob("features-*")):
            return  # for the name all images are read: for nothing, where the disk has no room
        if self.folder.is_dir():
            self._open()
        else:
            swept(self.folder)  # before anyone asks whether the disk has room

    @cached_property
    def folder(self) -> Path:
        return self._within / f"features-{self._key()[:16]}"

    def _open(self) -> None:
        self.arrays = {path.stem: np.load(path, mmap_mode="r") for path in self.folder.glob("*.npy")}

    def _key(self) -> str:
        digest = hashlib.sha256(np.ascontiguousarray(self.inputs.images.numpy()).data)
        system = self.inputs.system
        for network in (system.policy, system.hr, system.lr):
            if network is not None:
                for tensor in network.stem.state_dict().values():
                    digest.update(tensor.cpu().numpy().tobytes())
        a = system.architecture
        digest.update(repr((a.grid, a.fill, a.lr_input_px, a.mean, a.std, self.inputs.spec)).encode())
        if self.inputs.exact:  # what was kept without is still found
            digest.update(b"fp32")
        return digest.hexdigest()

    @property
    def ready(self) -> bool:
        return bool(self.arrays)

    def size(self) -> int:
        """The bytes it takes, by what one image does."""
        i = self.inputs
        hr = view_of(i.images[:1], 0).to(i.device).float()
        lr = low_resolution(hr, i.spec.ds[0], i.spec.lr_px)

        def half(features: Tensor | None) -> int:
            return 0 if features is None else 2 * features.numel()

        by_ds = (i.fill_features(lr), i.lr_features(lr), i.policy_features(lr))
        one = i.views * half(i.hr_features(hr)) + len(self.places) * sum(map(half, by_ds))
        return one * len(i.images)

    def fill(self, progress: Callable[[int, int], None]) -> None:
        """Compute all features, or find them where another process just has; the folder appears when it is
        whole: 2.7 MB an image of 256 px at 4 ds.
        """
        with built(self.folder) as building:
            if building is not None:
                self._compute(building, progress)
        self._open()

    def _compute(self, folder: Path, progress: Callable[[int, int], None]) -> None:
        inputs, files = self.inputs, dict[str, Any]()
        total = len(inputs.images)

        def put(name: str, features: Tensor | None, rows: slice, place: int, places: int) -> None:
            if features is None:
                return
            values = features.permute(0, 2, 3, 1).float().half().cpu().numpy()
            if name not in files:
                shape = (total, places, *values.shape[1:])
                files[name] = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float16, shape)
                reserve(folder / f"{name}.npy")
            files[name][rows, place] = values

        for start in range(0, total, 32):
            rows = slice(start, min(start + 32, total))
            for view in range(inputs.views):
                hr = view_of(inputs.images[rows], view).to(inputs.device).float()
                put("hr", inputs.hr_features(hr), rows, view, inputs.views)
                for (_, factor), place in ((v, k) for v, k in self.places.items() if v[0] == view):
                    lr = low_resolution(hr, factor, inputs.spec.lr_px)
                    put("fill", inputs.fill_features(lr), rows, place, len(self.places))
                    put("lr", inputs.lr_features(lr), rows, place, len(self.places))
                    put("policy", inputs.policy_features(lr), rows, place, len(self.places))
            progress(rows.stop, total)
        for array in files.values():
            array.flush()

    def batch(
        self, indices: Indices, views: Indices, ds: Indices, labels: Tensor, answering: Sequence[int] = ()
    ) -> Batch:
        def get(name: str, then: int = 0) -> Tensor | None:
            return self._get(name, indices, self._turned(views, ds, then), labels.device)

        hr = self._get("hr", indices, views.tolist(), labels.device)
        assert hr is not None
        lr = get("lr")
        others = () if lr is None else (get("lr", then) for then in answering[1:])
        answers = (lr, *others) if answering else ()
        return Batch(
            hr,
            get("fill"),
            lr,
            get("policy"),
            labels,
            tuple(features for features in answers if features is not None),
        )

    def others(
        self, indices: Indices, views: Indices, ds: Indices, device: torch.device, others: Sequence[int]
    ) -> Iterator[View]:
        """The images, each in its own view, seen in other views of that."""
        for then in others:
            hr = self._get("hr", indices, [composed(view, then) for view in views.tolist()], device)
            assert hr is not None
            yield View(then, hr, self._get("fill", indices, self._turned(views, ds, then), device))

    def _turned(self, views: Indices, ds: Indices, then: int) -> list[int]:
        pairs = zip(views.tolist(), ds.tolist(), strict=True)
        return [self.places[composed(view, then), factor] for view, factor in pairs]

    def _get(self, name: str, indices: Indices, where: list[int], device: torch.device) -> Tensor | None:
        if name not in self.arrays:
            return None
        array = self.arrays[name]
        rows = np.stack([array[place] for place in zip(indices.tolist(), where, strict=True)])
        return torch.from_numpy(rows).to(device).permute(0, 3, 1, 2).float()


def images_sha256(images: Tensor, labels: Tensor) -> str:
    """The hash of all labels (n,) and of up to a thousand images (n, 3, H, H), spread over the data set."""
    some = images[:: max(1, len(images) // 1000)]
    digest = hashlib.sha256(labels.cpu().numpy().tobytes())
    digest.update(np.ascontiguousarray(some.cpu().numpy()).data)
    return digest.hexdigest()


def _shifted(x: Tensor, rng: Rng) -> Tensor:
    """Random crops of the zero-padded images, as is customary on CIFAR (He et al. 2016, section 4.2)."""
    side = x.shape[-1]
    pad = max(1, side // _CROP_PADDING)
    wide = functional.pad(x, (pad, pad, pad, pad))
    places = rng.integers(0, 2 * pad + 1, (len(x), 2)).tolist()
    return torch.stack(
        [
            image[:, top : top + side, left : left + side]
            for image, (top, left) in zip(wide, places, strict=True)
        ]
    )
