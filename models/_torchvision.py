"""Make `import torchvision` work on a CPU-only torch.

The wheel's compiled operators are built against CUDA and cannot load there; torchvision then fails on
registering fake kernels for operators that nobody declared. Import this module before torchvision.

The operators are declared only where the library really does not load: declaring them beside a library
that does load aborts the process.
"""

import importlib.util
from pathlib import Path

import torch

_DECLARED: list[torch.library.Library] = []  # a Library undeclares its operators when it is collected


def _compiled_library() -> Path | None:
    """torchvision's `_C` shared library, found without importing torchvision."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent
    found = sorted([*folder.glob("_C*.so"), *folder.glob("_C*.pyd")])
    return found[0] if found else None


def _prepare() -> None:
    library = _compiled_library()
    if library is not None:
        try:
            torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
        except OSError:
            pass
        else:
            return
    operators = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]
    for name in ("nms", "qnms"):
        schema = f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        operators.define(schema)  # type: ignore[no-untyped-call]
    _DECLARED.append(operators)


_prepare()
