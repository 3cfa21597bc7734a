"""Several ranks train one network as one process would, on the same batches."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - torch's own abbreviation
from torch.overrides import TorchFunctionMode
from typing_extensions import override

from coterie.errors import LimitError, TrainingError
from coterie.system.ranks import forget_ranks
from coterie.training.checkpoint import State
from coterie.training.hooks import TrainingHook

# Steps between two agreements on whether a limit is reached: ranks wait for one another at each, so not at every step.
STEPS_PER_AGREEMENT = 10


class RankHook(TrainingHook):
    """The hook of rank 0, for all ranks: they start from its state, and its limits end the training on all of them at
    the same step. A rank that stopped by itself would leave the others waiting in the middle of a step.
    """

    def __init__(self, fabric: Fabric, inner: TrainingHook) -> None:
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
        # Once a limit is reached, steps up to the next agreement are done for nothing: the state is kept here.
        if self.fabric.global_rank == 0 and self.limit is None:
            try:
                self.inner.step(capture)
            except LimitError as error:
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
    """Train one network with several ranks: batch norms see the whole batch, and the loss of a rank is an error of
    coterie's. With one rank, this does nothing.

    Raises:
        TrainingError: another rank is lost.
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
        # gloo has no class of its own for a connection that broke; an error of the network's must stay what it is.
        if "gloo" not in str(error) and "Connection" not in str(error):
            raise
        raise _lost(fabric, error) from None


def leave(fabric: Fabric) -> None:
    """End the group of ranks: from here each goes on alone, or ends; ``Ranks.of_environment`` says so."""
    # The last to arrive may still be sending: a group that ends before would look like a lost rank.
    fabric.barrier()
    dist.destroy_process_group()
    forget_ranks()


def _lost(fabric: Fabric, error: Exception) -> TrainingError:
    return TrainingError(
        f"rank {fabric.global_rank} of {fabric.world_size} has lost another rank, which the launcher names below "
        f"({str(error).splitlines()[0][:200]})"
    )


class SynchronisedBatchNorm(TorchFunctionMode):
    """Batch norms in training take means and variances over all ranks, so that they see the batch that the settings
    name. All ranks must have equally many samples.

    torch's SyncBatchNorm does this on GPUs only, and replaces modules, which changes what a network is. This replaces
    the function that all batch norms call, on any device.
    """

    @override
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        # In evaluation a norm uses its running statistics, which are the same on all ranks already.
        in_training = kwargs.get("training", args[5] if len(args) > 5 else False)
        replaced = func is F.batch_norm and in_training
        return (batch_norm if replaced else func)(*args, **kwargs)


class _BatchNorm(torch.autograd.Function):
    """Batch normalisation by given means and variances, of all ranks' samples.

    A norm is bound by memory, so passes over it are kept as few as torch needs for one process: one for means and
    variances and one for the output; two and a half for the gradient.
    """

    @staticmethod
    @override
    def forward(
        ctx: Any, x: Tensor, mean_C: Tensor, var_C: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> Tensor:
        ctx.eps = eps
        ctx.wanted = (False, weight is not None, bias is not None)
        # The normalised input is not kept: it is as large as the input, which is kept anyway and gives it again.
        ctx.save_for_backward(x, mean_C, (var_C + eps).rsqrt(), weight)
        return F.batch_norm(x, mean_C, var_C, weight, bias, training=False, eps=eps)

    @staticmethod
    @override
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        x, mean_C, scale_C, weight = ctx.saved_tensors
        (gradient,) = gradients
        # Sums over this rank's samples of the gradient, and of the gradient times the normalised input. They are also
        # the gradients of bias and weight, so they are not summed over ranks in place: DistributedDataParallel takes
        # the mean of those. torch's own kernel, in one pass over both tensors.
        _, along_C, sum_C = torch.ops.aten.native_batch_norm_backward(
            gradient, x, weight, None, None, mean_C, scale_C, True, ctx.eps, (False, True, True)
        )
        # Both in one message: on a network, its start costs more than its length.
        all_2C = torch.stack((sum_C, along_C)).float()
        dist.all_reduce(all_2C)
        mean_2C = all_2C / (dist.get_world_size() * x.numel() // x.shape[1])
        # weight * scale * (gradient - mean - normalised input * mean along it), written as a line in gradient and input
        # with factors per channel: two fused passes, and the normalised input is never made.
        shape = [1, -1] + [1] * (x.ndim - 2)
        factor_C = scale_C if weight is None else scale_C * weight.float()
        slope_C = -factor_C * mean_2C[1] * scale_C
        offset_C = -factor_C * mean_2C[0] - slope_C * mean_C
        of_input = torch.addcmul(offset_C.view(shape), x.float(), slope_C.view(shape))
        of_x = torch.addcmul(of_input, gradient.float(), factor_C.view(shape)).to(x.dtype)
        return of_x, None, None, along_C if ctx.wanted[1] else None, sum_C if ctx.wanted[2] else None, None


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

    The gradient on each rank is that of the sum of all ranks' losses, of which DistributedDataParallel takes the mean.

    Args:
        input: (B, C, ...), this rank's part of the batch.
        running_mean: (C,), updated in place.
        running_var: (C,), updated in place; of variances over n - 1, as torch has them.
        weight: (C,).
        bias: (C,).
        training: must be True; here for the signature of torch's function.
        momentum: weight of this batch in the running statistics.
        eps: added to the variance.
    """
    world = dist.get_world_size()
    with torch.no_grad():
        # Means and variances, not sums and sums of squares, whose difference cancels where means are large.
        own_2C = torch.stack(torch.batch_norm_update_stats(input, None, None, momentum)).float()
        all_R2C = [torch.empty_like(own_2C) for _ in range(world)]
        dist.all_gather(all_R2C, own_2C)
        mean_RC, var_RC = torch.stack(all_R2C).unbind(1)
        mean_C = mean_RC.mean(0)
        # Within ranks, and between them; plain means, since all ranks have equally many samples.
        var_C = var_RC.mean(0) + (mean_RC - mean_C).square().mean(0)
        if running_mean is not None and running_var is not None:
            n = world * input.numel() // input.shape[1]
            running_mean.lerp_(mean_C.to(running_mean.dtype), momentum)
            running_var.lerp_((var_C * n / max(n - 1, 1)).to(running_var.dtype), momentum)
    return cast("Tensor", _BatchNorm.apply(input, mean_C, var_C, weight, bias, eps))
