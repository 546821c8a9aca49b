"""Published weights of a classifier, from a file of strangers."""

import pickle
from pathlib import Path

import torch
from torch import Tensor


def read_weights(file: Path) -> dict[str, Tensor]:
    """A state dict, on its own or in a checkpoint's `state_dict`, its names without `module.`.

    Raises ValueError where the file holds none, OSError where it cannot be read.
    """
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, AttributeError, ValueError) as error:
        raise ValueError(f"{file.name} is no file of weights that torch reads") from error
    if isinstance(state, dict):
        state = state.get("state_dict", state)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{file.name} holds no state dict")
    return {str(name).removeprefix("module."): value for name, value in state.items()}
