"""A release on disk: safetensors in fp16 beside their card; loading, answering, saving."""

import hashlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from models import gain
from models.card import CARD_FILE, WEIGHTS_FILE, Card, CardError, ClassName, GainModel, Range, load_card
from models.networks.folding import folded
from models.patchdrop import Fusion
from models.system import Architecture, System, packed

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Answer:
    """Class probabilities of a batch, float32. NaN rows in `fused` are unclassifiable (one stream, S = 0).

    `again` (B, P): s_p at the second look, 1 for what was received; None of a release that looks once.
    """

    fused: Floats
    hr: Floats
    lr: Floats | None
    weights: Floats
    again: Floats | None


@dataclass(frozen=True)
class Decision:
    """Of one tile: s_p (P,) float32 and, of a release with a gain model, what `GainModel.expected` reads."""

    probabilities: Floats
    gain: dict[str, Any] | None


class Release:
    """A trained policy and classifier that are served together."""

    def __init__(self, card: Card, system: System, device: str = "cpu") -> None:
        self.card, self.device = card, torch.device(device)
        self.system = packed(cast("System", folded(system)), self.device)

    @classmethod
    def load(cls, folder: Path, device: str = "cpu") -> "Release":
        """The release in `folder`. Raises CardError where weights and card do not belong together."""
        card, system = read(folder)
        return cls(card, system, device)

    @torch.inference_mode()
    def decide(self, lr: npt.NDArray[Any]) -> list[Decision]:
        """s_p of Eq. 6 and the gains of each tile: lr (B, 3, lr_px, lr_px) on the 0..255 scale."""
        x, system = self._images(lr, self.card.lr_px), self.system
        if not system.policy_reads_answers:
            return [Decision(s, None) for s in _numpy(system.probabilities(x))]
        chances = system.chances(x)
        shares = gain.shares(chances, self.system.ranks).tolist()
        ends = chances[:, [0, -1]].tolist()
        gains = [{"lr": a, "hr": b, "weights": w} for (a, b), w in zip(ends, shares, strict=True)]
        return [Decision(s, g) for s, g in zip(_numpy(system.purchases(chances)), gains, strict=True)]

    def plan(self, lr: npt.NDArray[Any]) -> Floats:
        """s_p of Eq. 6: lr (B, 3, lr_px, lr_px) on the 0..255 scale -> (B, P) float32 in [0, 1]."""
        return np.stack([decision.probabilities for decision in self.decide(lr)])

    @torch.inference_mode()
    def classify(self, lr: npt.NDArray[Any], hr: npt.NDArray[Any], mask: npt.NDArray[Any]) -> Answer:
        """The class of each tile from its LR image and the HR patches in `mask` (Eq. 7).

        lr (B, 3, lr_px, lr_px), hr (B, 3, hr_px, hr_px), 0..255; mask (B, P), true where HR was received.
        What stands in `hr` elsewhere is ignored. Raises ValueError for other shapes.
        """
        x, images = self._images(lr, self.card.lr_px), self._images(hr, self.card.hr_px)
        if mask.shape != (len(x), self.card.patches) or len(images) != len(x):
            raise ValueError(f"expected {len(x)} HR images and masks of {self.card.patches} patches")
        actions = torch.from_numpy(np.asarray(mask, dtype=np.float32)).to(self.device)
        prediction = self.system.predict(x, images, actions)
        fused = prediction.fused
        if prediction.lr is None:
            fused = torch.where(actions.sum(dim=1, keepdim=True) > 0, fused, torch.nan)
        lr_answer = None if prediction.lr is None else _numpy(prediction.lr)
        again = None
        if self.system.architecture.looks > 1 and prediction.lr is not None:
            again = _numpy(self.system.second_look(prediction.lr, prediction.hr, actions))
        return Answer(_numpy(fused), _numpy(prediction.hr), lr_answer, _numpy(prediction.weights), again)

    def _images(self, images: npt.NDArray[Any], side: int) -> Tensor:
        if images.ndim != 4 or images.shape[1:] != (3, side, side):
            raise ValueError(f"expected (B, 3, {side}, {side}), not {images.shape}")
        x = torch.from_numpy(np.ascontiguousarray(images)).float()
        return x.to(self.device, memory_format=torch.channels_last)


def read(folder: Path) -> tuple[Card, System]:
    """Card and networks as they were trained. Raises CardError where they do not belong together."""
    card = load_card(folder)
    weights = folder / WEIGHTS_FILE
    if _sha256(weights) != card.weights_sha256:
        raise CardError(f"{weights} is not the file whose hash the card names")
    raw = dict(card.architecture)
    fusion = Fusion.from_json(raw.pop("fusion"))
    system = System(Architecture.from_json(raw), fusion)
    kept = load_file(weights)
    system.load_state_dict(
        _shared_back({k: v.float() if v.is_floating_point() else v for k, v in kept.items()})
    )
    return card, system


def save(folder: Path, card: Card, system: System) -> Card:
    """Write weights (fp16) and card; the card comes last, so that a folder with a card is whole.

    Returns the card with what only now is known: the weights' hash and the architecture.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: v.half() if v.is_floating_point() else v for k, v in system.state_dict().items()}
    _replace(folder / WEIGHTS_FILE, lambda path: save_file(_shared_once(state), path))
    architecture = {**system.architecture.to_json(), "fusion": system.fusion.to_json()}
    card = replace(
        card,
        weights_sha256=_sha256(folder / WEIGHTS_FILE),
        architecture=architecture,
        fusion=system.fusion.rule,
        streams="hr+lr" if system.lr is not None else "hr",
        # each tile's own curve lies in its patches' weights
        gain=GainModel((0.0, 1.0)) if system.policy_reads_answers else None,
    )
    text = card.to_json()
    _replace(folder / CARD_FILE, lambda path: path.write_text(text, encoding="utf-8"))
    return Card.from_json(text)


def tiny_release(
    folder: Path, classes: list[str], streams: str = "hr+lr", seed: int = 0, tile_m: float = 80.0
) -> Card:
    """An untrained release of a few thousand weights, to try the whole line with. It knows nothing."""
    torch.manual_seed(seed)
    lr_px, hr_px = 16, 32
    architecture = Architecture(
        classes=len(classes),
        lr_px=lr_px,
        hr_px=hr_px,
        policy="tiny",
        hr="tiny",
        lr="tiny" if streams == "hr+lr" else "",
        fill="lr",
    )
    card = Card(
        name=folder.name,
        version="0",
        streams="hr+lr",
        fusion="eq7",
        fill="lr",
        classes=tuple(ClassName(name) for name in classes),
        lr_px=lr_px,
        hr_px=hr_px,
        tile_m=Range(tile_m, tile_m * 0.5, tile_m * 2),
        lr_gsd_m=Range(tile_m / lr_px, tile_m / lr_px / 4, tile_m / lr_px * 4),
        hr_gsd_m=tile_m / hr_px,
        weights_sha256="",
        architecture={},
        description="Untrained, for trials.",
    )
    return save(folder, card, System(architecture))


def _shared_once(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Keep equal tensors once, under the first name: the frozen trunks are the same in every network."""
    seen: dict[bytes, str] = {}
    kept: dict[str, Tensor] = {}
    for name, tensor in state.items():
        content = tensor.cpu().contiguous()
        key = hashlib.sha256(str(content.shape).encode() + content.numpy().tobytes()).digest()
        if tensor.numel() > 1 and key in seen and tensor.is_floating_point():
            kept[f"{name}{_ALIAS}{seen[key]}"] = torch.empty(0)
        else:
            seen[key] = name
            kept[name] = content
    return kept


_ALIAS = "="


def _shared_back(state: dict[str, Tensor]) -> dict[str, Tensor]:
    whole = {name: tensor for name, tensor in state.items() if _ALIAS not in name}
    for name in state:
        if _ALIAS in name:
            own, _, other = name.partition(_ALIAS)
            whole[own] = whole[other]
    return whole


def _replace(path: Path, write: Any) -> None:
    """Write beside the file, then put it in its place: a reader sees the old or the new one, whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        temporary.chmod(0o644)  # safetensors leaves it to the owner alone
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _numpy(tensor: Tensor) -> Floats:
    array: Floats = tensor.detach().float().cpu().numpy()
    return array
