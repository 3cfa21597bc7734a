"""A base and its specialists, and how they are asked: whole, or by tails on a trunk that is run once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from operator import attrgetter

import numpy as np
import torch
from torch import Tensor, nn

from coterie.arrays import FloatArray, IntArray
from coterie.backbones.cut import TrunkOutput, is_overwritten, make_observable, trunk_features
from coterie.inputs import Preprocessing, Samples
from coterie.partition import Partition
from coterie.progress import SILENT, Progress
from coterie.training.device import Computing
from coterie.training.passes import compute_logits, device_logits, device_passes, n_batches, put_in_use

IS_TRAINING = attrgetter("training")
# Samples that are passed through the base before specialists are asked: enough that each gets full batches.
CHUNK = 8192
# Most bytes of the trunk's output that are held for a chunk.
CHUNK_BYTES = 2**28

# From clusters, each with the rows (R,) that its specialist is asked about, to the logits of each (R, classes of the
# cluster), float32 on the device.
Ask = Callable[[Mapping[int, IntArray]], list[Tensor]]


class Panel:
    """Asks a base and its specialists: whole networks, or tails that go on from the base's trunk. Threads may ask at
    the same time: what belongs to a question is kept nowhere but in its call.

    Args:
        computing: device and precision.
        base: the base network.
        specialists: by cluster; where there is a ``cut``, tails.
        preprocessing: from sample to input.
        cut: the module of the base whose output the specialists take; None: they take what the base takes.
    """

    def __init__(
        self,
        computing: Computing,
        base: nn.Module,
        specialists: Mapping[int, nn.Module],
        preprocessing: Preprocessing,
        cut: str | None,
    ) -> None:
        self.computing = computing
        self.base = put_in_use(base, computing.device)
        self.specialists = {cluster: put_in_use(network, computing.device) for cluster, network in specialists.items()}
        self._known = {
            network: (tuple(network.modules()), _first_weight(network))
            for network in (self.base, *self.specialists.values())
        }
        self.preprocessing = preprocessing
        self.cut = cut
        self._trunk_end = None if cut is None else make_observable(base, cut)
        # A copy of what the trunk gives takes as long as some of its layers.
        self._copied = cut is not None and is_overwritten(self.base, cut, preprocessing.example()[:1])

    def ask(self, samples: Samples) -> tuple[Tensor, Ask]:
        """The base's logits (N, C) of samples, float32 on the device, and the function that asks specialists about some
        of them.
        """
        if len(samples) <= self.preprocessing.at_once and not self.preprocessing.by_length:
            # What is read and prepared once does for all networks.
            return self.ask_inputs(
                self.preprocessing(samples.read(torch.arange(len(samples))).to(self.computing.device))
            )
        if self._trunk_end is None:

            def ask(rows: Mapping[int, IntArray]) -> list[Tensor]:
                taken = {cluster: samples.take(torch.from_numpy(row_R)) for cluster, row_R in rows.items()}
                return [
                    device_logits(self.computing, self.specialists[cluster], some, self.preprocessing)
                    for cluster, some in taken.items()
                ]

            return device_logits(self.computing, self.base, samples, self.preprocessing), ask
        logits, features = [], []
        with TrunkOutput(self._trunk_end, self._copied) as output:
            for batch in device_passes(self.computing, self.base, samples, self.preprocessing):
                logits.append(batch)
                features.append(output.latest)
        return torch.cat(logits), self._asking(torch.cat(features))

    def ask_inputs(self, inputs: Tensor) -> tuple[Tensor, Ask]:
        """The base's logits (B, C) of inputs (B, ...), float32 on the device, and the function that asks specialists
        about some of them. Inputs on another device, or in another precision, are cast.
        """
        self._ready(self.base)
        _, weight = self._known[self.base]
        dtype = weight.dtype if weight is not None and inputs.is_floating_point() else inputs.dtype
        inputs = inputs.to(self.computing.device, dtype)
        if self._trunk_end is None:
            with self.computing.autocast():
                return self.base(inputs).float(), self._asking(inputs)
        with TrunkOutput(self._trunk_end, self._copied) as output, self.computing.autocast():
            return self.base(inputs).float(), self._asking(output.latest)

    @torch.inference_mode()
    def ask_all(
        self, samples: Samples, partition: Partition, progress: Progress = SILENT
    ) -> tuple[FloatArray, FloatArray]:
        """Logits of the base (N, C) and of all specialists on all samples, packed (N, M) as in Partition; zeros for a
        cluster without a specialist. Progress is told of ``n_steps``.
        """
        if self.cut is None:
            return self._ask_whole(samples, partition, progress)
        base_NC, packed_NM = [], []
        for rows in self.chunks(samples):
            logits_RC, ask = self.ask(samples.take(rows))
            packed_RM = np.zeros((len(rows), len(partition.packed_class_M)), dtype=np.float32)
            all_of_them = {cluster: np.arange(len(rows)) for cluster in self.specialists}
            for cluster, answer_RK in zip(all_of_them, ask(all_of_them), strict=True):
                packed_RM[:, partition.columns(cluster)] = answer_RK.cpu().numpy()
            base_NC.append(logits_RC.cpu().numpy())
            packed_NM.append(packed_RM)
            progress.advance(n_batches(rows, self.preprocessing), len(rows))
        return np.concatenate(base_NC), np.concatenate(packed_NM)

    def chunks(self, samples: Samples) -> Iterator[Tensor]:
        """The rows of the samples in parts that are asked about at once."""
        return iter(torch.arange(len(samples)).split(self._rows_at_once))

    def _ask_whole(self, samples: Samples, partition: Partition, progress: Progress) -> tuple[FloatArray, FloatArray]:
        def logits(network: nn.Module) -> FloatArray:
            return compute_logits(self.computing, network, samples, self.preprocessing, progress=progress)

        if len(samples) <= self.preprocessing.at_once:  # read once for all networks
            logits_NC, ask = self.ask(samples)
            answers = [answer.cpu().numpy() for answer in ask(dict.fromkeys(self.specialists, np.arange(len(samples))))]
            base_NC: FloatArray = logits_NC.cpu().numpy()
            progress.advance(1 + len(answers), (1 + len(answers)) * len(samples))
        else:
            base_NC, answers = logits(self.base), [logits(network) for network in self.specialists.values()]
        packed_NM = np.zeros((len(samples), len(partition.packed_class_M)), dtype=np.float32)
        for cluster, answer_NK in zip(self.specialists, answers, strict=True):
            packed_NM[:, partition.columns(cluster)] = answer_NK
        return base_NC, packed_NM

    def n_steps(self, samples: Samples) -> int:
        """Batches that ``ask_all`` passes samples in: network by network, or chunk by chunk."""
        if self.cut is None:
            return (1 + len(self.specialists)) * n_batches(samples, self.preprocessing)
        return sum(n_batches(rows, self.preprocessing) for rows in self.chunks(samples))

    @cached_property
    def _rows_at_once(self) -> int:
        if self.cut is None:
            return CHUNK
        with self.computing.autocast():
            features = trunk_features(self.base, self.cut, self.preprocessing.example()[:1])
        return max(1, min(CHUNK, CHUNK_BYTES // features.nbytes))

    def _asking(self, inputs_N: Tensor) -> Ask:
        at_once = self.preprocessing.at_once

        def picked(row_R: IntArray) -> Tensor:
            # Not the inputs themselves where all rows ask: a network may work in place.
            if inputs_N.shape[0] == len(row_R) == 1:
                return inputs_N.clone()
            return inputs_N.index_select(0, torch.from_numpy(row_R).to(inputs_N.device))

        def answer(cluster: int, inputs_R: Tensor) -> Tensor:
            network = self.specialists[cluster]
            self._ready(network)
            if inputs_R.shape[0] <= at_once:
                return network(inputs_R).float()
            return torch.cat([network(batch).float() for batch in inputs_R.split(at_once)])

        def ask(rows: Mapping[int, IntArray]) -> list[Tensor]:
            sizes = [len(row_R) for row_R in rows.values()]
            with self.computing.autocast():
                # Picked together, which for a small batch saves a good part. Not where there are gradients: a network
                # that works in place would change what another one's are computed of.
                if len(rows) > 1 and sum(sizes) <= at_once and torch.is_inference_mode_enabled():
                    inputs = picked(np.concatenate(list(rows.values()))).split(sizes)
                    return [answer(cluster, inputs_R) for cluster, inputs_R in zip(rows, inputs, strict=True)]
                return [answer(cluster, picked(row_R)) for cluster, row_R in rows.items()]

        return ask

    def _ready(self, network: nn.Module) -> None:
        """Put a network in use that was put in training mode, or on another device, behind the ensemble's back. Of a
        single sample's pass, ``put_in_use`` would be a good part.
        """
        modules, weight = self._known[network]
        if any(map(IS_TRAINING, modules)) or (weight is not None and weight.device != self.computing.device):
            put_in_use(network, self.computing.device)


def _first_weight(network: nn.Module) -> Tensor | None:
    """Of floating point: counters and indices say nothing of a network's precision."""
    return next((weight for weight in network.parameters() if weight.is_floating_point()), None)
