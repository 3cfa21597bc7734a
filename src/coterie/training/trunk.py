"""A frozen trunk that all specialists share: it is run once, and each specialist's tail is trained on its output."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from typing_extensions import override

from coterie.backbones.cut import run_trunk
from coterie.data.batches import Batches
from coterie.training.passes import put_in_use


class TrunkBatches(Batches):
    """Batches of a frozen trunk's output. Its views are the first epochs of other batches; they are repeated in turn,
    each time in a new order.

    Args:
        source: the batches, augmented, that the trunk takes.
        fabric: device and precision.
        network: whose trunk it is.
        cut: the module whose output is kept.
        views: how many epochs of the source are computed. The trunk is run so often for each sample, not once an epoch.
    """

    def __init__(self, source: Batches, fabric: Fabric, network: nn.Module, cut: str, views: int) -> None:
        super().__init__(source.split, source.preprocessing, source.batch_size, source.seed, balanced=False)
        self.view_V = [self._view(source, fabric, network, cut, view) for view in range(views)]

    @staticmethod
    @torch.no_grad()
    def _view(source: Batches, fabric: Fabric, network: nn.Module, cut: str, view: int) -> tuple[Tensor, Tensor]:
        put_in_use(network, fabric.device)
        features, labels = [], []
        with fabric.autocast():
            for inputs, label_B in source.epoch(view, fabric.device):
                # In bf16 where the fabric computes in it: half the memory, and what the tail would be given.
                features.append(run_trunk(network, cut, inputs).contiguous())
                labels.append(label_B)
        return torch.cat(features), torch.cat(labels)

    @override
    def epoch(self, number: int, device: torch.device, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        features_N, label_N = self.view_V[number % len(self.view_V)]
        # The order depends on seed and epoch alone, so that a training goes on at any step without a random state.
        generator = self._generator(number, 0)
        order = torch.randperm(len(label_N), generator=generator).to(device)
        for rows in order.split(self.batch_size)[first:]:
            batch = features_N[rows]
            # Indexing gives rows one after another; convolutions are fastest with their channels last.
            yield batch.contiguous(memory_format=torch.channels_last) if batch.ndim == 4 else batch, label_N[rows]
