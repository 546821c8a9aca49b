"""Measure a release: HR-CNN, LR-CNN and the fused answer, patches bought, each with its 95 % interval.

`python -m models.evaluate RELEASE --data D [--ds N] [--json]`, or `patchplan evaluate`.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from models import curves, statistics
from models.calibration import calibration
from models.card import CardError
from models.data.decode import prepare
from models.data.degrade import FACTORS, low_resolution
from models.data.heldout import learned_from
from models.data.source import DataError, Indices, Source
from models.data.sources import open_source
from models.data.splits import of_few_places
from models.patchdrop import most_likely
from models.precision import autocast, best_device, exact
from models.progress import Progress
from models.release import Release
from models.remembered import Remembered
from models.views import View, view_of

_BATCH = 32
_COLUMNS = ("HR-CNN %", "LR-CNN %", "fused %", "fused - HR, points", "S mean", "S sd", "S = 0, %")


@dataclass(frozen=True)
class Outcome:
    """Per image (n,): was each answer right, and S.

    `label` is the image's true class; `confidence` the probability of the fused answer, NaN where there is
    none (a one-stream release that bought nothing); `curve` (n, K) whether the fused answer is right with the
    k likeliest patches instead of the chosen ones, K = 0 where that was not measured; `patches` is P.
    """

    hr: npt.NDArray[np.bool_]
    lr: npt.NDArray[np.bool_]
    fused: npt.NDArray[np.bool_]
    s: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64]
    confidence: npt.NDArray[np.float32]
    curve: npt.NDArray[np.bool_]
    patches: int = field(default=16, kw_only=True)

    @staticmethod
    def joined(parts: Sequence["Outcome"]) -> "Outcome":
        arrays = (np.concatenate([getattr(p, name) for p in parts]) for name in Outcome.arrays())
        return Outcome(*arrays, patches=parts[0].patches)

    @staticmethod
    def arrays() -> tuple[str, ...]:
        """The names of the fields that have one row an image, in their order."""
        return tuple(f.name for f in fields(Outcome) if f.name != "patches")

    def calibration(self) -> dict[str, Any]:
        """How far the fused answer's probabilities can be believed."""
        return calibration(self.confidence, self.fused)

    def figures(self, classes: Sequence[str] = ()) -> dict[str, Any]:
        """Accuracies and S with intervals; `fused_minus_hr` is paired, image by image.

        With the names of the classes that `label` numbers also each class's, and the curve where it was
        measured.
        """
        return {
            "hr": statistics.share(self.hr),
            "lr": statistics.share(self.lr),
            "fused": statistics.share(self.fused),
            "fused_minus_hr": statistics.difference(self.fused.astype(int) - self.hr.astype(int)),
            "s_mean": statistics.mean(self.s),
            "s_sd": round(float(self.s.std()), 4),
            "s0_share": statistics.share(self.s == 0),
            "n": len(self.s),
            "calibration": self.calibration(),
            **({"per_class": self._per_class(classes)} if classes else {}),
            **({"curve": curves.curve(curves.points(self.patches), self.curve)} if self.curve.size else {}),
        }

    def _per_class(self, classes: Sequence[str]) -> dict[str, Any]:
        return {
            name: {
                "n": int(here.sum()),
                "accuracy": statistics.share(self.fused[here]),
                "s_mean": round(float(self.s[here].mean()), 4),
            }
            for number, name in enumerate(classes)
            if (here := self.label == number).any()
        }


class _Asked:
    """A batch of tiles that are asked for their class with one choice of patches after another."""

    def __init__(self, release: Release, features: Sequence[Tensor], x: Tensor, labels: Tensor) -> None:
        system = self.system = release.system
        self.labels, fill, self._x = labels, system.filled(x), x
        self.views = [
            View(view, seen, None if fill is None else system.hr.stem(view_of(fill, view)))
            for view, seen in zip(system.hr_views, features, strict=True)
        ]
        self.lr = None if system.lr is None else system.lr_answer(x).exp()
        self._known = Remembered()

    def probabilities(self, actions: Tensor | None = None) -> Tensor:
        """s_p (B, P); of a policy of several looks also at the one after the patches in `actions`. A policy
        that reads answers is told those that are known here.
        """
        system = self.system
        if not system.policy_reads_answers:
            return system.probabilities(self._x)
        assert self.lr is not None
        if actions is not None:
            return system.second_look(self.lr, self._hr(actions), actions)
        nothing = self.lr.new_zeros(len(self.lr), system.architecture.grid**2)
        return system.purchases(system.chances_from(self.lr, self._hr(nothing)))

    def answer(self, actions: Tensor) -> tuple[Tensor, Tensor]:
        """Whether the fused answer is right (B,), and its probability (B,), with the patches in `actions`."""
        system, hr = self.system, self._hr(actions)
        fused = hr if self.lr is None else system.fusion.fuse(hr, self.lr, actions)
        confidence, said = fused.float().max(dim=1)
        right = said == self.labels
        if self.lr is None:
            bought = actions.sum(dim=1) > 0
            return right & bought, confidence.masked_fill(~bought, torch.nan)
        return right, confidence

    def _hr(self, actions: Tensor) -> Tensor:
        """The HR stream's probabilities (B, N)."""
        return self._known(actions, self._ask)

    def _ask(self, rows: list[int], actions: Tensor) -> Tensor:
        """The HR stream's probabilities (k, N) of these tiles with these patches."""
        grid = self.system.architecture.grid
        seen = [view.rows(rows).masked(actions, grid) for view in self.views]
        return self.system.hr_answer(seen, actions)

    def alone(self) -> Tensor:
        """Whether the LR stream alone is right (B,)."""
        if self.lr is None:
            return torch.zeros_like(self.labels, dtype=torch.bool)
        return self.lr.argmax(dim=1) == self.labels


@torch.inference_mode()
def outcomes(
    release: Release,
    images: Tensor,
    labels: Tensor,
    ds: Sequence[int],
    threshold: float | None = None,
    precision: str = "fp32",
    progress: Callable[[int, int], object] | None = None,
    *,
    curve: bool = False,
    only: Indices | None = None,
) -> dict[int, Outcome]:
    """What the release answers for uint8 images (n, 3, hr_px, hr_px), at each ds, in batches; with `only`
    for those images alone, in that order.

    A one-stream release is wrong where it buys nothing, as it gives no class there; its LR row is that of
    buying nothing, so 0. With `curve` it is also asked with its k likeliest patches, for each k of
    `curves.points`: a few times the work.
    """
    system, card = release.system, release.card
    limit = card.threshold if threshold is None else threshold
    at = curves.points(card.patches) if curve else ()
    parts: dict[int, list[Outcome]] = {factor: [] for factor in ds}
    asked_of = torch.arange(len(images)) if only is None else torch.from_numpy(only)
    done = 0
    for which in torch.split(asked_of, _BATCH):
        hr = images[which].to(release.device).float().contiguous(memory_format=torch.channels_last)
        y = labels[which].to(release.device)
        with exact(), autocast(release.device, precision):
            features = [system.hr.stem(view_of(system.normalised(hr), view)) for view in system.hr_views]
            everything = y.new_ones(len(y), card.patches)
            full = system.hr_answer(features, everything).argmax(dim=1) == y
            for factor in ds:
                asked = _Asked(release, features, low_resolution(hr, factor, card.lr_px), y)
                s = asked.probabilities()
                actions = most_likely(s, limit)
                if system.architecture.looks > 1:
                    actions = most_likely(asked.probabilities(actions), limit)
                right, confidence = asked.answer(actions)
                rows = [asked.answer(curves.likeliest(s, k))[0] for k in at]
                line = torch.stack(rows, dim=1) if rows else torch.zeros((len(y), 0), dtype=torch.bool)
                arrays = (full, asked.alone(), right, actions.sum(dim=1).long(), y, confidence, line)
                parts[factor].append(Outcome(*(a.cpu().numpy() for a in arrays), patches=card.patches))
        done += len(which)
        if progress is not None:
            progress(done, len(asked_of))
    return {factor: Outcome.joined(part) for factor, part in parts.items()}


def class_numbers(release_classes: Sequence[str], data_classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """The release's number of each class of a data set. Raises DataError naming classes the release lacks."""
    places = {name: k for k, name in enumerate(release_classes)}
    if missing := [name for name in data_classes if name not in places]:
        raise DataError(f"the release has no class {', '.join(missing)}; it has {', '.join(release_classes)}")
    return np.array([places[name] for name in data_classes], dtype=np.int64)


def main(argv: Sequence[str] | None = None) -> int:
    """The command. Returns 0, or 2 with one line on standard error for what the user can mend."""
    parser = argparse.ArgumentParser(prog="evaluate", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("release", type=Path, help="folder of the release")
    parser.add_argument(
        "--data", type=Path, required=True, help="class folders, a tar of them, CIFAR, ImageNet or fMoW"
    )
    parser.add_argument("--split", help="a published split of the data, e.g. val")
    parser.add_argument(
        "--ds",
        type=int,
        choices=FACTORS,
        help="one downsampling ratio instead of all the release was trained with",
    )
    parser.add_argument("--threshold", type=float, help="another selection threshold than the card's")
    parser.add_argument(
        "--precision", choices=("fp32", "bf16"), default="fp32", help="fp32 is what the service answers with"
    )
    parser.add_argument(
        "--work",
        type=Path,
        help="where pictures of more than 8 GiB are kept decoded (default: a temporary folder)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    args = parser.parse_args(argv)
    try:
        report = _measure(args)
    except (DataError, CardError, OSError, ValueError) as error:
        print(f"evaluate: {error}", file=sys.stderr)
        return 2
    print(json.dumps(report, indent=1) if args.json else _table(report))
    return 0


def _measure(args: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="patchplan-evaluate-") as folder:
        return _measured(args, args.work or Path(folder))


def _measured(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    if args.threshold is not None and not 0 <= args.threshold < 1:
        raise ValueError(f"--threshold lies in [0, 1), and {args.threshold:g} does not")
    release = Release.load(args.release, str(best_device()))
    fit = release.card.training.get("fit", "squash")
    opened = open_source(args.data, split=args.split, check="none")
    numbers = class_numbers([c.name for c in release.card.classes], opened.classes)
    with Progress("decoding") as progress:
        source, images = prepare(opened, release.card.hr_px, work, fit=fit, progress=progress.show)
    if source.skipped.unreadable:
        print(f"evaluate: left out: {source.skipped}", file=sys.stderr)
    for text in of_few_places(source, [np.arange(len(source))]):
        print(f"evaluate: {text}", file=sys.stderr)
    seen = {} if args.split else _seen(release, source)
    labels = torch.from_numpy(numbers[source.labels])
    trained = tuple(release.card.training.get("ds") or (4,))
    chosen = (args.ds,) if args.ds else trained
    with Progress("evaluating") as progress:
        found = outcomes(release, images, labels, chosen, args.threshold, args.precision, progress.show)
    classes = [entry.name for entry in release.card.classes]
    by_ds = {str(factor): outcome.figures(classes) for factor, outcome in found.items()}
    head = by_ds[str(chosen[0])]
    return {
        "release": release.card.name,
        "data": args.data.name,
        "ds": chosen[0],
        "precision": args.precision,
        "streams": release.card.streams,
        **seen,
        **head,
        "by_ds": by_ds,
    }


def _seen(release: Release, source: Source) -> dict[str, Any]:
    """Whether the release learned from these images, as its card tells. Who names a split knows himself."""
    training = release.card.training
    counted = sum(training.get("per_class", {}).values())
    if "parent" not in training and counted != len(source):  # spares reading all of them once more
        return {"seen": "unknown", "seen_images": 0}
    learned = learned_from(source, training, np.arange(len(source), dtype=np.int64))
    if learned.images:
        least = "" if learned.sure else "at least "
        print(
            f"evaluate: {release.card.name} learned from {least}{learned.images} of these {len(source)} "
            "images: figures on them flatter",
            file=sys.stderr,
        )
    return {"seen": learned.said, "seen_images": learned.images}


def _table(report: dict[str, Any]) -> str:
    def cell(figure: dict[str, Any], scale: float = 100) -> str:
        low, high = figure["ci95"]
        return f"{figure['value'] * scale:6.2f} [{low * scale:.2f}, {high * scale:.2f}]"

    lines = [
        f"{report['release']} on {report['data']}, n = {report['n']}, {report['precision']}; 95 % intervals",
        f"{'ds':>4}  " + "".join(f"{title:<22}" for title in _COLUMNS),
    ]
    for factor, f in report["by_ds"].items():
        accuracies = [cell(f[key]) for key in ("hr", "lr", "fused", "fused_minus_hr")]
        bought = [cell(f["s_mean"], 1), f"{f['s_sd']:6.2f}", cell(f["s0_share"])]
        lines.append(f"{factor:>4}  " + "".join(f"{text:<22}" for text in (*accuracies, *bought)))
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
