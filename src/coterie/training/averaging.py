"""A running average of weights, in place of the last ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from coterie.backbones.weights import put_weights
from coterie.training.checkpoint import State, with_prefix

# Begins the names of the average in the state of a training.
AVERAGE = "average."


class RunningAverage:
    """The exponential average of weights and running statistics over the steps of a training, which is the training's
    result (Tarvainen and Valpola 2017, "Mean teachers are better role models").

    Args:
        network: as it is before the first step.
        decay: the share of the average that a step keeps; 0: the last weights are the result.
        warmup: keep less in the first steps.
    """

    def __init__(self, network: nn.Module, decay: float, *, warmup: bool = False) -> None:

        def average(means: Any, weights: Any, n_averaged: Any) -> None:
            # A short training's first weights would be most of its average, were none of the steps forgotten sooner.
            steps = int(n_averaged)
            kept = min(decay, (1 + steps) / (10 + steps)) if warmup else decay
            get_ema_multi_avg_fn(kept)(means, weights, n_averaged)

        # With the buffers: norms need the statistics of the weights that they are used with.
        self.mean = AveragedModel(network, multi_avg_fn=average, use_buffers=True) if decay else None

    def step(self, network: nn.Module) -> None:
        """Take in the weights after a step."""
        if self.mean is not None:
            self.mean.update_parameters(network)

    def finish(self, network: nn.Module) -> None:
        """Put the average into the network."""
        if self.mean is not None:
            network.load_state_dict(self.mean.module.state_dict())

    def state(self) -> State:
        """The state from which ``restore`` goes on."""
        if self.mean is None:
            return {}
        return {f"{AVERAGE}{name}": tensor.detach().cpu() for name, tensor in self.mean.state_dict().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a ``state``.

        Raises:
            ValueError: it is the state of another training, or of none.
        """
        if self.mean is not None:
            put_weights(with_prefix(state, AVERAGE), self.mean)
