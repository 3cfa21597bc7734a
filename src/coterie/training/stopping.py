"""Early stopping: when a training ends before its last epoch, and with which weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import torch
from torch import nn
from typing_extensions import override

from coterie.backbones.weights import check_weights
from coterie.training.checkpoint import State, tensor_of, with_prefix

# Names in the state of a training: of the best epoch's weights, and of the validation loss of each epoch.
BEST, LOSSES = "best.", "validation losses"


class Stopping(Protocol):
    """Ends a training before its last epoch, and chooses the weights that are its result."""

    @property
    def done(self) -> bool:
        """Whether the training ends here."""
        return False

    def epoch(self, network: nn.Module) -> None:
        """An epoch has ended."""
        return

    def finish(self, network: nn.Module) -> None:
        """The training has ended: put the weights that are its result into the network."""
        return

    def state(self) -> State:
        """The state from which ``restore`` goes on."""
        return {}

    def restore(self, state: Mapping[str, torch.Tensor], network: nn.Module) -> None:
        """Go on from a ``state`` of the training of a network.

        Raises:
            ValueError: it is the state of another one, or of none.
        """
        return


class _NeverStop(Stopping): ...


# All epochs are trained, and the last weights are the result.
NEVER_STOP: Stopping = _NeverStop()


class EarlyStopping(Stopping):
    """Ends a training ``patience`` epochs after the lowest validation loss; that epoch's weights are the result
    (Prechelt 1998, "Early stopping - but when?").

    Args:
        patience: epochs without a lower loss.
        loss_of: the validation loss of a network, whose mode it leaves as it was.
    """

    def __init__(self, patience: int, loss_of: Callable[[nn.Module], float]) -> None:
        self.patience = patience
        self.loss_of = loss_of
        self.losses: list[float] = []
        self.best: State = {}

    @property
    @override
    def done(self) -> bool:
        return bool(self.losses) and len(self.losses) - 1 - self.losses.index(min(self.losses)) >= self.patience

    @override
    def epoch(self, network: nn.Module) -> None:
        loss = self.loss_of(network)
        # Of equals the first is the best: of two epochs that do as well, the shorter training is the simpler one.
        if not self.losses or loss < min(self.losses):
            self.best = {name: tensor.detach().cpu().clone() for name, tensor in network.state_dict().items()}
        self.losses.append(loss)

    @override
    def finish(self, network: nn.Module) -> None:
        network.load_state_dict(self.best)

    @override
    def state(self) -> State:
        best = {f"{BEST}{name}": tensor for name, tensor in self.best.items()}
        return {**best, LOSSES: torch.tensor(self.losses, dtype=torch.float64)}

    @override
    def restore(self, state: Mapping[str, torch.Tensor], network: nn.Module) -> None:
        # As float64, so that what is compared after a restart has the bits that it had before.
        losses = tensor_of(state, LOSSES, torch.float64)
        best = with_prefix(state, BEST)
        if losses.ndim != 1:
            raise ValueError(f"{LOSSES} of shape {tuple(losses.shape)}")
        if len(losses):
            check_weights(best, network)
        self.losses, self.best = losses.tolist(), best
