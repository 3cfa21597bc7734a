"""Forward passes over samples, in order, not augmented."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sized

import torch
from torch import Tensor, nn

from coterie.arrays import FloatArray
from coterie.backbones import Head, head_inputs
from coterie.data.batches import plain_batches
from coterie.inputs import Preprocessing, Samples
from coterie.progress import SILENT, Progress
from coterie.training.device import Computing


def put_in_use(network: nn.Module, device: torch.device) -> nn.Module:
    """Put a network in evaluation mode, on a device, with the memory layout that convolutions are fastest in.

    A network that is so already is not written to: other threads may be running it.
    """
    if not _is_in_use(network, device):
        # Weights that are moved in inference mode stay tensors of that mode, and no training takes them any more.
        with torch.inference_mode(mode=False):
            network.eval().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network


def _is_in_use(network: nn.Module, device: torch.device) -> bool:
    # Module by module, since this is asked before every pass, and each iterator over a network walks all of it.
    for module in network.modules():
        # Not by parameters() and buffers(): of a single sample's pass they would be a good part.
        own = (*module._parameters.values(), *module._buffers.values())
        if module.training or not all(_lies_right(tensor, device) for tensor in own if tensor is not None):
            return False
    return True


def _lies_right(tensor: Tensor, device: torch.device) -> bool:
    # By strides: of a tensor whose layout is ambiguous torch makes a copy each time, with the same ones.
    return tensor.device == device and (
        tensor.ndim != 4 or tensor.to(memory_format=torch.channels_last).stride() == tensor.stride()
    )


@torch.inference_mode()
def device_passes(
    computing: Computing,
    network: nn.Module,
    samples: Samples,
    preprocessing: Preprocessing,
    batch_size: int | None = None,
) -> Iterator[Tensor]:
    """Yield the logits of all samples, in order, not augmented: a batch (B, C) at a time, float32 on the device.

    Args:
        computing: device and precision.
        network: inputs (B, ...) to logits (B, C).
        samples: to pass.
        preprocessing: from sample to input.
        batch_size: default: the preprocessing's.
    """
    put_in_use(network, computing.device)
    for inputs in plain_batches(samples, preprocessing, batch_size or preprocessing.at_once, computing.device):
        with computing.autocast():
            logits = network(inputs)
        # float32 whatever the precision: probabilities, gates and sums over classes are computed from them.
        yield logits.float()


def device_logits(
    computing: Computing,
    network: nn.Module,
    samples: Samples,
    preprocessing: Preprocessing,
    batch_size: int | None = None,
    gathered: torch.device | None = None,
    progress: Progress = SILENT,
) -> Tensor:
    """Logits of all samples, in order, as ``device_passes`` gives them: of shape (N, C), on the device ``gathered``;
    default: that of ``computing``. Progress is told of each batch.
    """
    some, order = _by_length(samples, preprocessing)
    found = []
    for logits in device_passes(computing, network, some, preprocessing, batch_size):
        found.append(logits.to(gathered or computing.device))
        progress.advance(1, len(logits))
    return _put_back(torch.cat(found), order)


def _by_length(samples: Samples, preprocessing: Preprocessing) -> tuple[Samples, Tensor | None]:
    """Samples of like length one after another, so that batches have little padding, and their places before."""
    order = samples.lengths().argsort(stable=True) if preprocessing.by_length else None
    return (samples if order is None else samples.take(order)), order


def _put_back(rows: Tensor, order: Tensor | None) -> Tensor:
    return rows if order is None else rows[order.argsort().to(rows.device)]


def compute_logits(
    computing: Computing,
    network: nn.Module,
    samples: Samples,
    preprocessing: Preprocessing,
    batch_size: int | None = None,
    progress: Progress = SILENT,
) -> FloatArray:
    """Logits of all samples, in order, not augmented: float32 of shape (N, width of the head). Progress is told of each
    batch, of which there are ``n_batches`` unless a ``batch_size`` is given.
    """
    # Gathered batch by batch: all of them need not fit on a GPU.
    return device_logits(computing, network, samples, preprocessing, batch_size, torch.device("cpu"), progress).numpy()


def n_batches(samples: Sized, preprocessing: Preprocessing) -> int:
    """Batches that samples pass through a network in."""
    return math.ceil(len(samples) / preprocessing.at_once)


def compute_features(
    computing: Computing,
    network: nn.Module,
    head: Head,
    samples: Samples,
    preprocessing: Preprocessing,
    progress: Progress = SILENT,
) -> FloatArray:
    """The head's input for each sample, in order, not augmented: float32 of shape (N, D). Progress is told of each
    batch, of which there are ``n_batches``.

    Raises:
        BackboneError: as ``head_inputs``.
    """
    some, order = _by_length(samples, preprocessing)
    with head_inputs(network, head) as features:
        for logits in device_passes(computing, network, some, preprocessing):
            progress.advance(1, len(logits))
    return _put_back(torch.cat(features), order).numpy()
