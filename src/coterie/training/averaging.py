"""A running average of weights, in place of the last ones."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from coterie.training.checkpoint import State

# Of a state: what belongs to the average.
AVERAGE = "average."


class RunningAverage:
    """Of weights and running statistics after each step of a training, older ones counting less (Tarvainen and Valpola
    2017, "Mean teachers are better role models"). It is the training's result.

    Args:
        network: as it is before the first step.
        decay: the share of the average that a step keeps; 0: the last weights are the result.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        average = get_ema_multi_avg_fn(decay)
        self.mean = AveragedModel(network, multi_avg_fn=average, use_buffers=True) if decay else None

    def step(self, network: nn.Module) -> None:
        """A step has been taken."""
        if self.mean is not None:
            self.mean.update_parameters(network)

    def finish(self, network: nn.Module) -> None:
        """Put the average into the network."""
        if self.mean is not None:
            network.load_state_dict(self.mean.module.state_dict())

    def state(self) -> State:
        """What it takes to go on."""
        if self.mean is None:
            return {}
        return {f"{AVERAGE}{name}": tensor.detach().cpu() for name, tensor in self.mean.state_dict().items()}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what ``state`` gave."""
        if self.mean is not None:
            self.mean.load_state_dict({name: state[f"{AVERAGE}{name}"] for name in self.mean.state_dict()})
