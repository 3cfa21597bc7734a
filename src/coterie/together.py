"""What it takes for several ranks to train one network as one process would, with the same batches."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from coterie.checkpoint import State
from coterie.errors import LimitError, TrainingError
from coterie.watch import Watch

# Ranks wait for one another at each, so not at every step.
STEPS_PER_AGREEMENT = 10


class RankWatch(Watch):
    """Rank 0's watch, whose state all ranks start from, and whose limits end the training on all ranks together: one
    that stopped by itself would leave the others waiting in the middle of a step.
    """

    def __init__(self, fabric: Fabric, inner: Watch) -> None:
        self.fabric = fabric
        self.inner = inner
        self.steps = 0
        self.limit: str | None = None

    @override
    def load(self) -> State | None:
        if self.fabric.world_size == 1:
            return self.inner.load()
        return self.fabric.broadcast(self.inner.load() if self.fabric.global_rank == 0 else None)

    @override
    def step(self, capture: Callable[[], State]) -> None:
        if self.fabric.world_size == 1:
            self.inner.step(capture)
            return
        self.steps += 1
        if self.fabric.global_rank == 0 and self.limit is None:
            try:
                self.inner.step(capture)
            except LimitError as error:  # its state is kept
                self.limit = str(error)
        if self.steps % STEPS_PER_AGREEMENT == 0:
            self.limit = self.fabric.broadcast(self.limit)
            if self.limit is not None:
                raise LimitError(self.limit)

    @override
    def epoch(self, history: Sequence[tuple[float, float]], capture: Callable[[], State]) -> None:
        if self.fabric.global_rank == 0:
            self.inner.epoch(history, capture)


@contextlib.contextmanager
def together(fabric: Fabric) -> Iterator[None]:
    """For the training of one network by several ranks: batch norms see the whole batch, and a rank that is lost is
    an error. Alone, it does nothing.

    Raises:
        TrainingError: another rank is gone.
    """
    if fabric.world_size == 1:
        yield
        return
    try:
        with SynchronisedBatchNorm():
            yield
    except dist.DistBackendError as error:
        raise _lost(fabric, error) from None
    except RuntimeError as error:
        if "gloo" not in str(error) and "Connection" not in str(error):
            raise
        raise _lost(fabric, error) from None


def leave(fabric: Fabric) -> None:
    """End the group of ranks; each goes on alone, or ends."""
    fabric.barrier()
    dist.destroy_process_group()
    os.environ.pop("TORCHELASTIC_RUN_ID", None)


def _lost(fabric: Fabric, error: Exception) -> TrainingError:
    return TrainingError(
        f"rank {fabric.global_rank} of {fabric.world_size} has lost another rank, which the launcher names below "
        f"({str(error).splitlines()[0][:200]})"
    )


class SynchronisedBatchNorm(TorchFunctionMode):
    """Batch norms in training take their means and variances over all ranks, so that the batch that they see is the
    one that the settings name. torch's own does this on GPUs only, and has to replace modules; this replaces the
    function that all of them call, on any device. Ranks must have equally many samples.
    """

    @override
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        in_training = kwargs.get("training", args[5] if len(args) > 5 else False)
        replaced = func is F.batch_norm and in_training
        return (batch_norm if replaced else func)(*args, **kwargs)


class _SumOverRanks(torch.autograd.Function):
    """All ranks' tensors, summed; so is the gradient, since each rank's loss depends on each rank's tensor."""

    @staticmethod
    @override
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    @override
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total


def sum_over_ranks(tensor: Tensor) -> Tensor:
    """The sum of all ranks' tensors, on each; differentiable."""
    return cast("Tensor", _SumOverRanks.apply(tensor))


def batch_norm(
    input: Tensor,  # noqa: A002 - as torch names it
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Batch normalisation in training over all ranks of the default group; differentiable.

    Args:
        input: (B, C, ...), this rank's part of the batch.
        running_mean: (C,), updated in place; also ``running_var``.
        running_var: as ``running_mean``; of variances over n - 1.
        weight: (C,), as ``bias``.
        bias: as ``weight``.
        training: it is.
        momentum: of the running figures.
        eps: added to the variance.
    """
    world = dist.get_world_size()
    x = input.float()
    axes = [axis for axis in range(x.ndim) if axis != 1]
    shape = [1, -1] + [1] * (x.ndim - 2)
    mean_C = sum_over_ranks(x.mean(axes)) / world
    centred = x - mean_C.view(shape)
    var_C = sum_over_ranks(centred.square().mean(axes)) / world
    if running_mean is not None and running_var is not None:
        with torch.no_grad():
            n = world * x.numel() // x.shape[1]
            running_mean.lerp_(mean_C.to(running_mean.dtype), momentum)
            running_var.lerp_((var_C * n / max(n - 1, 1)).to(running_var.dtype), momentum)
    out = centred * (var_C + eps).rsqrt().view(shape)
    if weight is not None:
        out = out * weight.float().view(shape)
    if bias is not None:
        out = out + bias.float().view(shape)
    return out.to(input.dtype)
