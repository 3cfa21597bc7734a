import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from coterie.export.graphs import NetworkGraph
from coterie.export.targets import Onnx, program_of

onnx = pytest.importorskip("onnx", reason="the extra export is not installed")


class Some(nn.Module):
    """Embeddings, a product of matrices, a convolution of groups, and a head whose first row is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(11, 8)
        self.inner = nn.Linear(8, 8)
        self.conv = nn.Conv1d(8, 8, 3, groups=8)
        self.head = nn.Linear(8, 5)
        self.shift = nn.Parameter(torch.randn(1, 1, 8))
        nn.init.zeros_(self.head.weight[0])

    def forward(self, token_BL: Tensor) -> Tensor:
        hidden_BLD = self.inner(self.table(token_BL)) + self.shift
        return self.head(self.conv(hidden_BLD.transpose(1, 2)).mean(2))


def rounded(weight: Tensor) -> Tensor:
    """To 8 bits, by output channel."""
    scale = weight.flatten(1).abs().amax(1).clamp(min=1e-30) / 127
    return torch.fake_quantize_per_channel_affine(
        weight, scale, torch.zeros(len(weight), dtype=torch.int32), 0, -128, 127
    )


def test_weights_are_rounded_by_output_channel_and_nothing_else(tmp_path) -> None:
    torch.manual_seed(0)
    network = Some().eval()
    reference = copy.deepcopy(network)
    for layer in (reference.table, reference.inner, reference.conv, reference.head):
        layer.weight.data = rounded(layer.weight.data)
    token_BL = torch.randint(11, (6, 7))
    graph = NetworkGraph(network, None)
    target = Onnx("int8")
    target.write(program_of("base", graph, token_BL[:2], any_length=False), graph.outputs, {}, tmp_path / "base.onnx")
    (found,) = target.open(tmp_path / "base.onnx")(token_BL)
    np.testing.assert_allclose(found, reference(token_BL).detach(), atol=1e-5)
    assert not np.allclose(found, network(token_BL).detach(), atol=1e-4)
    kept = {
        tuple(each.dims)
        for each in onnx.load(tmp_path / "base.onnx").graph.initializer
        if each.data_type == onnx.TensorProto.INT8
    }
    assert {np.prod(shape) for shape in kept} == {88, 64, 24, 40}
