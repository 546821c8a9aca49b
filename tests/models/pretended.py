"""A second device that is not there: tensors that say they lie on it and are computed on the processor.

What a GPU refuses is refused: operations on tensors of both devices, a generator of the other one, and
numpy's view of what lies on it. What a GPU computes otherwise (TF32, sums in another order) is not shown.
"""

import contextlib
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, Self
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_flatten, tree_map, tree_map_only
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "pretended"
_load = torch.load
_ATEN = torch.ops.aten
_CROSSING = {_ATEN._to_copy.default, _ATEN.copy_.default}
_JOINING = {_ATEN.cat.default, _ATEN.stack.default}
_INDEXED = {
    _ATEN.index.Tensor,
    _ATEN.index_put.default,
    _ATEN.index_put_.default,
    _ATEN._index_put_impl_.default,
}


class BothDevicesError(RuntimeError):
    """Tensors of the processor and of the other device in one operation."""


class There(torch.Tensor):
    """A tensor that says it lies on the other device; `held` has its numbers."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, held: torch.Tensor) -> Self:
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=torch.device(NAME, 0),
        )
        made.held = held
        return made

    def __reduce_ex__(self, proto: Any) -> Any:
        return self.held.__reduce_ex__(proto)  # type: ignore[no-untyped-call]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _computed(func, args, kwargs or {})


class _Made(TorchFunctionMode):
    """What passes over dispatch: tensors made of Python's numbers, and the other way round."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.__getitem__:
            args = (args[0], tree_map_only(list, torch.tensor, args[1], is_leaf=_is_list))
        if func is torch.Tensor.tolist:
            args = (args[0].cpu(),)
        asked = kwargs.get("device")
        if func not in (torch.tensor, torch.as_tensor) or asked is None or torch.device(asked).type != NAME:
            return func(*args, **kwargs)
        return func(*args, **kwargs | {"device": "cpu"}).to(asked)


def _is_list(x: object) -> bool:
    return isinstance(x, list)


class _Both(TorchDispatchMode):  # type: ignore[no-untyped-call]
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.is_inference_mode_enabled():  # which does not take operations apart beforehand
            with self:
                found = func.decompose(*args, **(kwargs or {}))
            if found is not NotImplemented:
                return found
        return _computed(func, args, kwargs or {})


def _computed(func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
    tensors = [x for x in tree_flatten((args, dict(kwargs)))[0] if isinstance(x, torch.Tensor)]
    wrapped = {id(x.held): x for x in tensors if isinstance(x, There)}
    asked = kwargs.get("device")
    there = bool(wrapped) if asked is None else torch.device(asked).type == NAME
    if wrapped and func not in _CROSSING:
        _check(func, args, tensors)
    generator = kwargs.get("generator")
    if there and generator is not None and generator.device.type != NAME:
        raise BothDevicesError(f"{func}: a generator of {generator.device} for the other device's tensors")
    held_args, held_kwargs = tree_map(lambda x: x.held if isinstance(x, There) else x, (args, dict(kwargs)))
    if asked is not None:
        held_kwargs["device"] = torch.device("cpu")
    out = func(*held_args, **held_kwargs)
    if func is _ATEN.copy_.default:
        return args[0]
    if not there:
        return out

    def wrap(x: Any) -> Any:
        if not isinstance(x, torch.Tensor):
            return x
        return wrapped[id(x)] if id(x) in wrapped else There(x)

    return return_and_correct_aliasing(func, args, kwargs, tree_map(wrap, out))  # type: ignore[no-untyped-call]


def _check(func: Any, args: tuple[Any, ...], tensors: list[torch.Tensor]) -> None:
    """Raises BothDevicesError, but for single numbers that are only read, and for what indices may be."""
    if func in _INDEXED and isinstance(args[0], There):
        tensors = [x for x in tree_flatten((args[0], *args[2:]))[0] if isinstance(x, torch.Tensor)]
    written = [
        x
        for argument, x in zip(func._schema.arguments, args, strict=False)
        if argument.alias_info is not None and argument.alias_info.is_write
    ]
    joined = tensors if func in _JOINING else []
    strict = [x for x in tree_flatten((written, joined))[0] if isinstance(x, torch.Tensor)]
    if any(not isinstance(x, There) and (x.dim() or any(x is one for one in strict)) for x in tensors):
        sides = ", ".join(f"{x.device.type} {tuple(x.shape)}" for x in tensors)
        raise BothDevicesError(f"{func} of tensors of both devices: {sides}")


def _register() -> None:
    module = SimpleNamespace(
        is_available=lambda: True,
        is_initialized=lambda: True,
        device_count=lambda: 1,
        current_device=lambda: 0,
        _is_in_bad_fork=lambda: False,
        manual_seed_all=lambda seed: None,
        get_amp_supported_dtype=lambda: [torch.bfloat16],
    )
    _setup_privateuseone_for_python_backend(NAME, backend_module=module)


def _loaded(*args: Any, map_location: Any = None, **kwargs: Any) -> Any:
    """torch.load, whose storages cannot be moved to what is not there."""
    found = _load(*args, **kwargs | {"map_location": "cpu"})
    if map_location is None or torch.device(map_location).type != NAME:
        return found
    return tree_map(lambda x: x.to(map_location) if isinstance(x, torch.Tensor) else x, found)


@contextlib.contextmanager
def second_device() -> Iterator[torch.device]:
    """The device, while this lasts.

    Only in a process of its own: torch must hear of a device before it first computes a gradient, and never
    forgets it.
    """
    if torch._C._get_privateuse1_backend_name() != NAME:
        _register()
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)
    try:
        with mock.patch.object(torch, "load", _loaded), _Made(), _Both():  # type: ignore[no-untyped-call]
            yield torch.device(NAME, 0)
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(before)
