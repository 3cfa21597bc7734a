"""Forward passes over samples, in order, not augmented."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from coterie.backbones import Head, head_inputs
from coterie.data.batches import plain_batches
from coterie.inputs import Preprocessing, Samples


@torch.inference_mode()
def plain_passes(
    fabric: Fabric,
    network: nn.Module,
    samples: Samples,
    preprocessing: Preprocessing,
    batch_size: int | None = None,
) -> Iterator[Tensor]:
    """Logits of all samples, in order, not augmented, a batch at a time: float32 on the CPU. ``batch_size``: what suits
    the preprocessing, if left out.
    """
    network.eval().to(fabric.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    for inputs in plain_batches(samples, preprocessing, batch_size or preprocessing.at_once, fabric.device):
        with fabric.autocast():
            logits = network(inputs)
        yield logits.float().cpu()


def compute_logits(
    fabric: Fabric,
    network: nn.Module,
    samples: Samples,
    preprocessing: Preprocessing,
    batch_size: int | None = None,
) -> NDArray[np.float32]:
    """Logits of all samples, in order, not augmented: float32 of shape (N, width of the head)."""
    return torch.cat(list(plain_passes(fabric, network, samples, preprocessing, batch_size))).numpy()


def compute_features(
    fabric: Fabric, network: nn.Module, head: Head, samples: Samples, preprocessing: Preprocessing
) -> NDArray[np.float32]:
    """What enters the head for each sample, in order, not augmented: float32 of shape (N, D).

    Raises:
        BackboneError: as ``head_inputs``.
    """
    with head_inputs(network, head) as features:
        for _ in plain_passes(fabric, network, samples, preprocessing):
            pass
    return torch.cat(features).numpy()
