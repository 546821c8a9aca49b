"""EfficientNet-Lite0 pads as TensorFlow does, without padded copies."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from models.networks import efficientnet_lite as lite


def same(x: Tensor, weight: Tensor, stride: int, groups: int) -> Tensor:
    """TensorFlow's SAME: ceil(size / stride) outputs, the odd pixel of padding right and below."""
    kernel = weight.shape[-1]
    pads = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in x.shape[-2:]]
    wide = functional.pad(x, (pads[1] // 2, pads[1] - pads[1] // 2, pads[0] // 2, pads[0] - pads[0] // 2))
    return functional.conv2d(wide, weight, None, stride, 0, 1, groups)


@settings(deadline=None)
@given(
    st.sampled_from([(1, 1), (3, 1), (3, 2), (5, 1), (5, 2)]),
    st.booleans(),
    st.tuples(st.integers(5, 24), st.integers(5, 24)),
    st.integers(0, 999),
)
def test_padding_of_the_turned_map_is_same(
    shape: tuple[int, int], depthwise: bool, size: tuple[int, int], seed: int
) -> None:
    """And so are the gradients, of the kernels as they are kept."""
    torch.manual_seed(seed)
    kernel, stride = shape
    convolution = lite.SameConv(6, 6 if depthwise else 4, kernel, stride, 6 if depthwise else 1)
    x = torch.randn(2, 6, *size, requires_grad=True)
    found = lite.turned(convolution(lite.turned(x)))
    wanted = same(x, convolution.weight, stride, convolution.groups)
    assert found.shape == wanted.shape
    assert torch.allclose(found, wanted, atol=1e-5)
    upstream = torch.randn_like(wanted)
    for one, other in zip(
        torch.autograd.grad(found, (x, convolution.weight), upstream),
        torch.autograd.grad(wanted, (x, convolution.weight), upstream),
        strict=True,
    ):
        assert torch.allclose(one, other, atol=1e-3)


def test_a_trunk_is_its_layers_with_same_padding() -> None:
    torch.manual_seed(0)
    trunk = lite.low_trunk().eval()
    x = torch.randn(2, 3, 30, 37)
    seen: list[tuple[lite.SameConv, Tensor, Tensor]] = []
    for module in trunk.modules():
        if isinstance(module, lite.SameConv):
            module.register_forward_hook(
                lambda layer, given, out: seen.append((layer, given[0].clone(), out.clone()))
            )
    with torch.no_grad():
        out = trunk(x)
    assert out.shape == (2, lite.LOW_CHANNELS, 4, 5)
    assert len(seen) == sum(isinstance(m, lite.SameConv) for m in trunk.modules())
    assert torch.equal(lite.turned(seen[0][1]), x)
    for layer, read, found in seen:
        wanted = same(lite.turned(read), layer.weight, layer.stride[0], layer.groups)
        assert torch.allclose(lite.turned(found), wanted, atol=1e-4)
