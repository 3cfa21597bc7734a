"""A base and its specialists, and how they are asked: whole, or by tails on a trunk that is run once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from coterie.arrays import FloatArray, IntArray
from coterie.backbones.cut import make_observable, trunk_features, trunk_output
from coterie.inputs import Preprocessing, Samples
from coterie.partition import Partition
from coterie.training.passes import compute_logits, plain_passes, put_in_use

# Samples that are passed through the base before specialists are asked: enough that each gets full batches.
CHUNK = 8192
# Most bytes of the trunk's output that are held for a chunk.
CHUNK_BYTES = 2**28

# From a cluster and the rows (R,) that its specialist is asked about, to its logits (R, classes of the cluster).
Ask = Callable[[int, IntArray], FloatArray]


class Panel:
    """Asks a base and its specialists: whole networks, or tails that go on from the base's trunk. Threads may ask at
    the same time: what belongs to a question is kept nowhere but in its call.

    Args:
        fabric: device and precision.
        base: the base network.
        specialists: by cluster; where there is a ``cut``, tails.
        preprocessing: from sample to input.
        cut: the module of the base whose output the specialists take; None: they take what the base takes.
    """

    def __init__(
        self,
        fabric: Fabric,
        base: nn.Module,
        specialists: Mapping[int, nn.Module],
        preprocessing: Preprocessing,
        cut: str | None,
    ) -> None:
        self.fabric = fabric
        self.base = put_in_use(base, fabric.device)
        self.specialists = {cluster: put_in_use(network, fabric.device) for cluster, network in specialists.items()}
        self.preprocessing = preprocessing
        self.cut = cut
        if cut is not None:
            make_observable(base, cut)

    def ask(self, samples: Samples) -> tuple[FloatArray, Ask]:
        """The base's logits (N, C) of samples, and the function that asks a cluster's specialist about some of them."""
        if self.cut is None:

            def ask(cluster: int, rows: IntArray) -> FloatArray:
                some = samples.take(torch.from_numpy(rows))
                return compute_logits(self.fabric, self.specialists[cluster], some, self.preprocessing)

            return compute_logits(self.fabric, self.base, samples, self.preprocessing), ask
        logits, features = [], []
        with trunk_output(self.base, self.cut) as output:
            for batch in plain_passes(self.fabric, self.base, samples, self.preprocessing):
                logits.append(batch)
                features.append(output())
        return torch.cat(logits).numpy(), self._asking(torch.cat(features))

    @torch.inference_mode()
    def ask_inputs(self, inputs: Tensor) -> tuple[FloatArray, Ask]:
        """The base's logits (B, C) of inputs (B, ...), and the function that asks a specialist about some of them."""
        put_in_use(self.base, self.fabric.device)
        if self.cut is None:
            with self.fabric.autocast():
                return self.base(inputs).float().cpu().numpy(), self._asking(inputs)
        with trunk_output(self.base, self.cut) as output, self.fabric.autocast():
            return self.base(inputs).float().cpu().numpy(), self._asking(output())

    def ask_all(self, samples: Samples, partition: Partition) -> tuple[FloatArray, FloatArray]:
        """Logits of the base (N, C) and of all specialists on all samples, packed (N, M) as in Partition; zeros for a
        cluster without a specialist.
        """
        base_NC, packed_NM = [], []
        for rows in self.chunks(samples):
            logits_RC, ask = self.ask(samples.take(rows))
            packed_RM = np.zeros((len(rows), len(partition.packed_class_M)), dtype=np.float32)
            for cluster in self.specialists:
                packed_RM[:, partition.columns(cluster)] = ask(cluster, np.arange(len(rows)))
            base_NC.append(logits_RC)
            packed_NM.append(packed_RM)
        return np.concatenate(base_NC), np.concatenate(packed_NM)

    def chunks(self, samples: Samples) -> Iterator[Tensor]:
        """The rows of the samples in parts that are asked about at once."""
        return iter(torch.arange(len(samples)).split(self._rows_at_once))

    @cached_property
    def _rows_at_once(self) -> int:
        if self.cut is None:
            return CHUNK
        with self.fabric.autocast():
            features = trunk_features(self.base, self.cut, self.preprocessing.example()[:1])
        return max(1, min(CHUNK, CHUNK_BYTES // features.nbytes))

    def _asking(self, inputs_N: Tensor) -> Ask:
        @torch.inference_mode()
        def ask(cluster: int, rows: IntArray) -> FloatArray:
            network = put_in_use(self.specialists[cluster], inputs_N.device)
            parts = torch.from_numpy(rows).to(inputs_N.device).split(self.preprocessing.at_once)
            with self.fabric.autocast():
                return np.concatenate([network(inputs_N[part]).float().cpu().numpy() for part in parts])

        return ask
