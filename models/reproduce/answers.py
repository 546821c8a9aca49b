"""What a system said of unseen images, and the small form of it that is kept for good."""

import base64
import zlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor


@dataclass(frozen=True)
class Answers:
    """Class probabilities (n, N) and the patches taken (n, P) in {0, 1}, in the order of the images asked."""

    probabilities: Tensor
    actions: Tensor

    def kept(self, labels: npt.NDArray[np.int64], images: npt.NDArray[np.int64]) -> "Kept":
        """The form that results keep; labels (n,) are the right classes, images (n,) their numbers."""
        right = self.probabilities.argmax(dim=1).cpu().numpy() == labels
        return Kept(images, right, self.actions.cpu().numpy().astype(bool))


@dataclass(frozen=True)
class Kept:
    """Per image (n,): its number in the data set, was the answer right, and the patches taken (n, P)."""

    images: npt.NDArray[np.int64]
    right: npt.NDArray[np.bool_]
    actions: npt.NDArray[np.bool_]

    @property
    def s(self) -> npt.NDArray[np.int64]:
        """S (n,)."""
        taken: npt.NDArray[np.int64] = self.actions.sum(axis=1)
        return taken

    def where(self, which: npt.NDArray[np.bool_]) -> "Kept":
        """These of the images, which (n,)."""
        return Kept(self.images[which], self.right[which], self.actions[which])

    def whole_by(self, other: "Kept") -> "Kept":
        """The same patches, and the other's answer where all of them were taken. Raises ValueError where it
        is of other images.
        """
        if not np.array_equal(self.images, other.images):
            raise ValueError("the two rows were not measured on the same images")
        return replace(self, right=np.where(self.actions.all(axis=1), other.right, self.right))

    def to_json(self) -> dict[str, Any]:
        steps = np.diff(self.images, prepend=0).astype("<i4")
        return {
            "n": len(self.images),
            "patches": self.actions.shape[1],
            "images": _text(steps.tobytes()),
            "right": _text(np.packbits(self.right).tobytes()),
            "actions": _text(np.packbits(self.actions).tobytes()),
        }

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> "Kept":
        n, patches = int(raw["n"]), int(raw["patches"])
        bits = np.unpackbits(_bytes(raw["actions"]), count=n * patches)
        return cls(
            images=np.cumsum(_bytes(raw["images"]).view("<i4").astype(np.int64)),
            right=np.unpackbits(_bytes(raw["right"]), count=n).astype(bool),
            actions=bits.reshape(n, patches).astype(bool),
        )


def _text(data: bytes) -> str:
    return base64.b64encode(zlib.compress(data, 9)).decode("ascii")


def _bytes(text: str) -> npt.NDArray[np.uint8]:
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8)
