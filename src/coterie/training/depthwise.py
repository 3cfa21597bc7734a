"""Depthwise convolutions that are trained in bf16 on CPUs: their gradients are computed in fp32."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode
from typing_extensions import override


def depthwise_gradients(fabric: Fabric, network: nn.Module) -> AbstractContextManager[Any]:
    """A context in which the network is trained with fast gradients of its depthwise convolutions; without any, and
    where nothing is computed in bf16 on a CPU, it does nothing.

    Args:
        fabric: device and precision.
        network: that is trained.
    """
    convolutions = (module for module in network.modules() if isinstance(module, nn.Conv2d))
    with fabric.autocast():
        in_bf16 = fabric.device.type == "cpu" and torch.is_autocast_enabled("cpu")
    if in_bf16 and any(_is_depthwise(each.weight, each.groups) for each in convolutions):
        return DepthwiseGradients()
    return contextlib.nullcontext()


class DepthwiseGradients(TorchFunctionMode):
    """Replaces the function that all convolutions call, for depthwise ones under autocast.

    oneDNN has the forward pass of a depthwise convolution in bf16, but not its gradients where channels lie last: what
    it falls back to takes four to ten times as long as fp32 does, and all of a network's training twice as long.
    """

    @override
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.conv2d and not kwargs and len(args) == 7 and torch.is_autocast_enabled("cpu"):
            x, weight, bias, stride, padding, dilation, groups = args
            # Padding may be a word, which the gradient does not know.
            if _is_depthwise(weight, groups) and not isinstance(padding, str):
                with torch.autocast("cpu", enabled=False):
                    return _Depthwise.apply(x, weight, bias, *map(_pair, (stride, padding, dilation)), groups)
        return func(*args, **(kwargs or {}))


def _is_depthwise(weight: Tensor, groups: int) -> bool:
    return groups > 1 and weight.shape[1] == 1


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


class _Depthwise(torch.autograd.Function):
    """The convolution in bf16, as autocast computes it, and its gradients in fp32."""

    @staticmethod
    @override
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: tuple[int, int],
        padding: tuple[int, int],
        dilation: tuple[int, int],
        groups: int,
    ) -> Tensor:
        # Kept in bf16: half the memory.
        x_16 = x.bfloat16()
        ctx.save_for_backward(x_16, weight)
        ctx.geometry = (stride, padding, dilation, groups)
        ctx.x_dtype, ctx.bias_sizes = x.dtype, None if bias is None else list(bias.shape)
        bias_16 = None if bias is None else bias.bfloat16()
        return torch.conv2d(x_16, weight.bfloat16(), bias_16, stride, padding, dilation, groups)

    @staticmethod
    @override
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x_16, weight = ctx.saved_tensors
        stride, padding, dilation, groups = ctx.geometry
        of_x, of_weight, of_bias = torch.ops.aten.convolution_backward(
            grad.float(),
            x_16.float(),
            weight.float(),
            ctx.bias_sizes,
            stride,
            padding,
            dilation,
            False,  # not transposed
            (0, 0),
            groups,
            ctx.needs_input_grad[:3],
        )
        return None if of_x is None else of_x.to(ctx.x_dtype), of_weight, of_bias, None, None, None, None
