"""A frozen trunk that all specialists share: it is run once, and each specialist's tail is trained on its output."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from typing_extensions import override

from coterie.backbones.cut import run_trunk, trunk_features
from coterie.data.batches import Batches
from coterie.training.passes import put_in_use


def views_kept(views: int, view_bytes: int, most_bytes: float) -> int:
    """How many of so many views, of so many bytes each, are kept: all where they fit; else there has to be room for one
    more, which is computed anew.
    """
    return views if views * view_bytes <= most_bytes else max(0, int(most_bytes // view_bytes) - 1)


class TrunkBatches(Batches):
    """Batches of a frozen trunk's output. Its views are the first epochs of other batches; they are repeated in turn,
    each time in a new order. Those that memory does not hold are computed again whenever it is their turn.

    Args:
        source: the batches, augmented, that the trunk takes.
        fabric: device and precision.
        network: whose trunk it is.
        cut: the module whose output is kept.
        views: how many epochs of the source are computed. The trunk is run so often for each sample, not once an epoch.
        most_bytes: that the views may take in memory, if that is not less than one does.
    """

    def __init__(
        self, source: Batches, fabric: Fabric, network: nn.Module, cut: str, views: int, most_bytes: float = math.inf
    ) -> None:
        super().__init__(source.split, source.preprocessing, source.batch_size, source.seed, balanced=False)
        self.source, self.fabric, self.cut, self.views = source, fabric, cut, views
        self.network = network
        put_in_use(network, fabric.device)
        with fabric.autocast():
            of_one = trunk_features(network, cut, source.preprocessing.example()[:1])
        kept = views_kept(views, of_one.nbytes * len(source) * source.batch_size, most_bytes)
        self.view_V = list(map(self._view, range(kept)))
        if kept < views:
            # While a tail is trained, which is a part of the network, its trunk is not to be put in evaluation mode.
            self.network = copy.deepcopy(network)

    @torch.no_grad()
    def _view(self, number: int) -> tuple[Tensor, Tensor]:
        put_in_use(self.network, self.fabric.device)
        features, labels = [], []
        with self.fabric.autocast():
            for inputs, label_B in self.source.epoch(number, self.fabric.device):
                # In bf16 where the fabric computes in it: half the memory, and what the tail would be given.
                features.append(run_trunk(self.network, self.cut, inputs).contiguous())
                labels.append(label_B)
        return torch.cat(features), torch.cat(labels)

    @override
    def epoch(self, number: int, device: torch.device, first: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        view = number % self.views
        features_N, label_N = self.view_V[view] if view < len(self.view_V) else self._view(view)
        # The order depends on seed and epoch alone, so that a training goes on at any step without a random state.
        generator = self._generator(number, 0)
        order = torch.randperm(len(label_N), generator=generator).to(device)
        for rows in order.split(self.batch_size)[first:]:
            batch = features_N[rows]
            # Indexing gives rows one after another; convolutions are fastest with their channels last.
            yield batch.contiguous(memory_format=torch.channels_last) if batch.ndim == 4 else batch, label_N[rows]
