"""A frozen trunk that all specialists share: run once, its output is what each specialist's tail goes on from."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from typing_extensions import override

from coterie.backbones.cut import run_trunk
from coterie.data.batches import Batches


class TrunkBatches(Batches):
    """What a frozen trunk makes of the first epochs of other batches, the views, over and over in new orders.

    Each view is computed once, so the trunk is run ``views`` times for each sample, and not once an epoch.
    """

    def __init__(self, source: Batches, fabric: Fabric, network: nn.Module, cut: str, views: int) -> None:
        super().__init__(source.split, source.preprocessing, source.batch_size, source.seed, balanced=False)
        self.view_V = [self._view(source, fabric, network, cut, view) for view in range(views)]

    @staticmethod
    @torch.no_grad()
    def _view(source: Batches, fabric: Fabric, network: nn.Module, cut: str, view: int) -> tuple[Tensor, Tensor]:
        network.eval().to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        features, labels = [], []
        with fabric.autocast():
            for inputs, label_B in source.epoch(view, fabric.device):
                features.append(run_trunk(network, cut, inputs).contiguous())
                labels.append(label_B)
        return torch.cat(features), torch.cat(labels)

    @override
    def epoch(self, number: int, device: torch.device, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        features_N, label_N = self.view_V[number % len(self.view_V)]
        generator = self._generator(number, 0)
        order = torch.randperm(len(label_N), generator=generator).to(device)
        for rows in order.split(self.batch_size)[first:]:
            batch = features_N[rows]
            yield batch.contiguous(memory_format=torch.channels_last) if batch.ndim == 4 else batch, label_N[rows]
