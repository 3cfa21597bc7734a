"""ONNX graphs whose weights are kept in 8 bits."""

from __future__ import annotations

from typing import Any

import numpy as np

LARGEST = 127  # of int8, with its negative


def quantize_weights(model: Any) -> None:
    """Keep a graph's weights as int8 with a scale for each output channel, or row of a table of embeddings; what
    multiplies them restores them first, so that the arithmetic stays float32.

    Activations stay as they are: rounded to 8 bits as well, they change a third and more of the answers of networks
    with depthwise convolutions, and several times as many of a language model's.

    Args:
        model: of onnx_ir, changed in place. Vectors, and weights that operations read along different axes, stay
            float32.
    """
    import onnx_ir as ir  # of the extra

    graph = model.graph
    for name, weight in list(graph.initializers.items()):
        axis = _axis(weight)
        if axis is None:
            continue
        values = weight.const_value.numpy()
        others = tuple(number for number in range(values.ndim) if number != axis)
        scale = np.abs(values).max(axis=others, keepdims=True) / LARGEST
        scale[scale == 0] = 1  # of a channel of zeros
        kept = {"int8": np.round(values / scale).astype(np.int8), "scale": scale.ravel()}
        inputs = [ir.val(f"{name}.{part}", const_value=ir.tensor(array)) for part, array in kept.items()]
        restored = ir.node("DequantizeLinear", inputs, {"axis": axis})
        restored.outputs[0].name = f"{name}.restored"
        weight.replace_all_uses_with(restored.outputs[0])
        graph.insert_before(graph[0], restored)
        del graph.initializers[name]
        for value in inputs:
            graph.register_initializer(value)


def _axis(weight: Any) -> int | None:
    """The axis of output channels; None for what is not quantized."""
    values = weight.const_value
    if values is None or values.dtype.name != "FLOAT" or len(values.shape) < 2:
        return None
    axes = {_axis_of_use(use.node, use.idx, len(values.shape)) for use in weight.uses()}
    return axes.pop() if len(axes) == 1 else None


def _axis_of_use(node: Any, place: int, n_axes: int) -> int | None:
    match node.op_type, place:
        case "Conv", 1:
            return 0
        case "Gather", 0:
            return 0 if node.attributes.get_int("axis", 0) == 0 else None
        case "Gemm", 1:
            return 0 if node.attributes.get_int("transB", 0) else 1
        case "MatMul", 1:
            return n_axes - 1
    return None
